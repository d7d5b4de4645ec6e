"""A launcher whose failures are counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

import attrs
import trio

from saltpeter.domain.job import Target
from saltpeter.engine.launcher import Answer, Call, Launcher
from saltpeter.errors import LaunchError, LaunchUnknown


@attrs.frozen
class CountedLauncher:
    """`launcher`, with a call of `failed` whenever it raises. Implements `saltpeter.engine.launcher.Launcher`."""

    launcher: Launcher
    failed: Callable[[], None]

    async def match(self, target: Target) -> tuple[str, ...]:
        with self._counting():
            return await self.launcher.match(target)

    def ticket(self) -> str:
        return self.launcher.ticket()

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        with self._counting():
            await self.launcher.publish(ticket, call, machines)

    def answers(self, ticket: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Answer]]:
        return self.launcher.answers(ticket)

    async def reachable(self) -> bool:
        return await self.launcher.reachable()

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except (LaunchError, LaunchUnknown):
            self.failed()
            raise
