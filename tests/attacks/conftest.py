from __future__ import annotations

from tests.wrapper.conftest import daemon, machine

__all__ = ["daemon", "machine"]
