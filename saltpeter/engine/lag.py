"""How long the event loop keeps everybody waiting, and who made it. It costs a look at a clock for each step of a task,
and nothing while there is none."""

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
    _stepped_at: float = attrs.field(default=0.0, init=False)
    _longest_s: float = attrs.field(default=0.0, init=False)  # of the steps in this turn
    _longest: str = attrs.field(default="", init=False)  # whose that was

    def after_io_wait(self, timeout: float) -> None:
        self._turned_at = self._stepped_at = self.clock()
        self._longest_s, self._longest = 0.0, ""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        now = self.clock()
        if now - self._stepped_at > self._longest_s:
            self._longest_s, self._longest = now - self._stepped_at, task.name
        self._stepped_at = now

    def before_io_wait(self, timeout: float) -> None:
        if self._turned_at is None:  # the turn in which we were added
            return
        lag_s = self.clock() - self._turned_at
        self.observe(lag_s)
        if lag_s > TOO_LONG_S:
            text = "The event loop did not turn for %.2f seconds; the longest in it, %.2f, was %s"
            facts = {"seconds": round(lag_s, 3), "task": self._longest, "task_seconds": round(self._longest_s, 3)}
            log.warning(text, lag_s, self._longest_s, self._longest, extra=fields("loop.lagged", **facts))


@contextmanager
def watching(watch: LagWatch) -> Iterator[None]:
    """Let `watch` look at the loop that runs now."""
    trio.lowlevel.add_instrument(watch)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(watch)
