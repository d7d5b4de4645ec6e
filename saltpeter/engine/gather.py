"""Collect what comes at once, and deal with it together."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class Pile(Generic[T]):
    """Things put down by many tasks, taken up by one: all that are there at once."""

    _things: list[T] = attrs.field(factory=list, init=False)
    _some: trio.Event = attrs.field(factory=trio.Event, init=False)

    def put(self, thing: T) -> None:
        self._things.append(thing)
        self._some.set()

    async def take(self) -> list[T]:
        """Wait until there is something; take everything."""
        await self._some.wait()
        things, self._things = self._things, []
        self._some = trio.Event()
        return things
