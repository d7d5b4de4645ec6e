# mypy: allow-subclassing-any
"""Puts the wrapper's single file beside the daemon's modules, whenever the package is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # type: ignore[import-not-found, unused-ignore]


class WrapperBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        sys.path.insert(0, str(root))
        from saltpeter.wrapper_build import build  # noqa: PLC0415 - from the tree that is being built

        build(root / "saltpeter" / "data" / "sp_wrapper.pyz", wrapper=root / "wrapper" / "sp_wrapper")
