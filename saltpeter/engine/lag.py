"""How long the event loop keeps everybody waiting. It costs two looks at a clock each time that the loop has work, and
nothing while it has none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from saltpeter.logs import fields

TOO_LONG_S = 0.2

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class LagWatch(trio.abc.Instrument):
    """Tells `observe` how many seconds each turn of the loop took: so long no task, deadline or peer was looked after.

    `clock` gives seconds, real ones: trio's own time may be virtual.
    """

    observe: Callable[[float], None]
    clock: Callable[[], float] = time.perf_counter
    _turned_at: float | None = attrs.field(default=None, init=False)

    def after_io_wait(self, timeout: float) -> None:
        self._turned_at = self.clock()

    def before_io_wait(self, timeout: float) -> None:
        if self._turned_at is None:  # the turn in which we were added
            return
        lag_s = self.clock() - self._turned_at
        self.observe(lag_s)
        if lag_s > TOO_LONG_S:
            text = "The event loop did not turn for %.2f seconds"
            log.warning(text, lag_s, extra=fields("loop.lagged", seconds=round(lag_s, 3)))


@contextmanager
def watching(watch: LagWatch) -> Iterator[None]:
    """Let `watch` look at the loop that runs now."""
    trio.lowlevel.add_instrument(watch)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(watch)
