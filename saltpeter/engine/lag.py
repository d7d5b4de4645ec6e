"""How long the event loop keeps everybody waiting, and what it is busy with meanwhile.

Each turn costs two looks at a clock. What holds one up is seen from a thread: to time each step of each task would take
as long as many of the steps.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from saltpeter.logs import fields

NOTICEABLE_S = 0.001  # to tell of shorter turns would cost as much as many of them
TOO_LONG_S = 0.2
_LOOK_EVERY_S = TOO_LONG_S / 2  # so that what takes too long has been looked at

log = logging.getLogger(__name__)


@attrs.frozen
class Sight:
    """What the loop was seen at."""

    task: str  # "" between two of them
    place: str  # in the code


@attrs.define(eq=False)
class LagWatch(trio.abc.Instrument):
    """Tells `observe` how many seconds a turn of the loop took: so long no task, deadline or peer was looked after.

    Of turns that nobody would notice nothing is told. `clock` gives seconds, real ones: trio's own time may be virtual.
    """

    observe: Callable[[float], None]
    clock: Callable[[], float] = time.perf_counter
    _turned_at: float | None = attrs.field(default=None, init=False)  # None: it waits for something to happen
    _seen: Sight | None = attrs.field(default=None, init=False)  # in this turn

    def after_io_wait(self, timeout: float) -> None:
        self._turned_at, self._seen = self.clock(), None

    def before_io_wait(self, timeout: float) -> None:
        if self._turned_at is None:  # the turn in which we were added
            return
        lag_s = self.clock() - self._turned_at
        self._turned_at = None
        if lag_s >= NOTICEABLE_S:
            self.observe(lag_s)
        if lag_s > TOO_LONG_S:
            _tell(lag_s, self._seen or Sight("", ""))

    def look(self, root: trio.lowlevel.Task, thread: int) -> None:
        """See what the loop of `root` in `thread` is busy with, if its turn takes long. For another thread."""
        turned_at = self._turned_at
        if turned_at is None or self._seen is not None or self.clock() - turned_at < _LOOK_EVERY_S:
            return
        seen = Sight(_running(root), _place(thread))
        if self._turned_at == turned_at:
            self._seen = seen


def _tell(lag_s: float, seen: Sight) -> None:
    text = "The event loop did not turn for %.2f seconds; in the midst of them it was with %s, in %s"
    what = seen.task or "no task", seen.place or "code unknown"
    facts = {"seconds": round(lag_s, 3), "task": seen.task, "place": seen.place}
    log.warning(text, lag_s, *what, extra=fields("loop.lagged", **facts))


def _running(root: trio.lowlevel.Task) -> str:
    """The name of the task that is at its step, among `root` and all below it."""
    tasks = [root]
    while tasks:
        task = tasks.pop()
        if inspect.getcoroutinestate(task.coro) == inspect.CORO_RUNNING:
            return task.name
        for nursery in task.child_nurseries:
            tasks += nursery.child_tasks
    return ""


def _place(thread: int) -> str:
    """Where in the code a thread is."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}, line {frame.f_lineno}"


@contextmanager
def watching(watch: LagWatch) -> Iterator[None]:
    """Let `watch` look at the loop that runs now."""
    root, thread, over = trio.lowlevel.current_root_task(), threading.get_ident(), threading.Event()
    assert root is not None  # noqa: S101  we are in one of its tasks

    def look_now_and_then() -> None:
        while not over.is_set():
            time.sleep(_LOOK_EVERY_S)  # to wait for `over` costs several times as much, ten times a second
            watch.look(root, thread)

    trio.lowlevel.add_instrument(watch)
    threading.Thread(target=look_now_and_then, name="watch the loop", daemon=True).start()
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(watch)
        over.set()
