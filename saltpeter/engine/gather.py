"""Collect what comes at once, and deal with it together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class Pile(Generic[T]):
    """Things put down by many tasks, and dealt with by one: all that are there at once.

    What comes while some are dealt with waits for the next time. While there is nothing, there is no task, called
    `name`.
    """

    name: str
    _things: list[T] = attrs.field(factory=list, init=False)
    _dealing: bool = attrs.field(default=False, init=False)

    def put(self, thing: T, nursery: trio.Nursery, deal: Callable[[list[T]], Awaitable[None]]) -> None:
        """Add `thing`; unless there is one already, `nursery` gets a task that hands all of them to `deal`."""
        self._things.append(thing)
        if not self._dealing:
            self._dealing = True
            nursery.start_soon(self._deal_with_all, deal, name=self.name)

    async def _deal_with_all(self, deal: Callable[[list[T]], Awaitable[None]]) -> None:
        while self._things:
            things, self._things = self._things, []
            await deal(things)
        self._dealing = False
