"""trio-websocket, without what a third of its import is for: to look up trio's version among all that is installed."""

from __future__ import annotations

import sys
import types

import trio

_loaded = sys.modules.get("importlib.metadata")
_stand_in = types.ModuleType("importlib.metadata", "Knows one version.")
_stand_in.__dict__["version"] = lambda _name: trio.__version__

sys.modules["importlib.metadata"] = _loaded or _stand_in
import trio_websocket  # noqa: E402  now it finds that

if _loaded is None:
    del sys.modules["importlib.metadata"]  # whoever comes next has the real one

__all__ = ["trio_websocket"]
