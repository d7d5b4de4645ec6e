"""Launchers with what must run as long as they are used, for those who need one for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from saltpeter.launch.local import LocalLauncher
from saltpeter.launch.salt import SaltLauncher

L = TypeVar("L", LocalLauncher, SaltLauncher)


@asynccontextmanager
async def serving(launcher: L) -> AsyncIterator[L]:
    """`launcher`, ready to be used. Raises LaunchError when Salt's configuration cannot be."""
    async with trio.open_nursery() as nursery:
        await nursery.start(launcher.serve)
        yield launcher
        nursery.cancel_scope.cancel()
