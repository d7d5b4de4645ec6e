"""Leases that thousands of machines renew all the time."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio


@attrs.define(eq=False)
class Leases:
    """Cancels each scope that has not been renewed for `span_s` seconds.

    All last equally long, so whoever was renewed first is the first to end, and a renewal is a move to the end of a
    queue. A deadline of its own for each, which moves as often, would leave its old ones in trio's heap: clearing
    that out stops the loop for a tenth of a second with ten thousand machines.
    """

    span_s: float
    _renewed: OrderedDict[trio.CancelScope, float] = attrs.field(factory=OrderedDict, init=False)  # when (trio's clock)
    _some: trio.Event = attrs.field(factory=trio.Event, init=False)

    def renew(self, scope: trio.CancelScope) -> None:
        """It lasts for the whole span from now on."""
        self._renewed[scope] = trio.current_time()
        self._renewed.move_to_end(scope)
        self._some.set()

    def release(self, scope: trio.CancelScope) -> None:
        """It lasts as long as anybody likes."""
        self._renewed.pop(scope, None)

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            while self._renewed:
                await trio.sleep_until(self._next_end)
                self._end_what_is_over()

    @property
    def _next_end(self) -> float:
        return next(iter(self._renewed.values())) + self.span_s

    def _end_what_is_over(self) -> None:
        while self._renewed and self._next_end <= trio.current_time():
            scope, _ = self._renewed.popitem(last=False)
            scope.cancel()
