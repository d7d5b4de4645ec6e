"""One writer for a family of database files. While one group commits in another process, the next one gathers.

What cannot be written is an error of those who submitted it; the writer itself goes on, and writes again as soon
as it can.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from sqlite3 import Error
from typing import Any, Protocol, TypeVar

import attrs
import trio

from saltpeter.engine.clock import now
from saltpeter.engine.storage import Writing
from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store import scribe
from saltpeter.store.checkup import give_up, tell_replaced
from saltpeter.store.scribe import Damaged, Failed, Group, Report, Seal, Task, Together, Work
from saltpeter.store.vitals import Vitals

MAX_ITEMS = 100  # of one group: as many tasks go on in one turn of the loop
MAX_BYTES = 8 * 1024 * 1024  # of one group: a few tens of milliseconds of an ordinary disk
FLUSH_S = 10.0  # at the end, for what is waiting

# From the beginning of a group of so many to that of the next, so that in a storm much goes together, for each group
# costs the same again. Who is alone does not wait, nor is there a wait after many bytes: those pay for themselves, and
# whoever sent them may not send more before they are written.
CROWD, CROWD_BYTES, PACE_S = 4, 256 * 1024, 0.02
PROBE_S = 3.0  # who waits for the store tries again sooner

log = logging.getLogger(__name__)

T = TypeVar("T")
P = TypeVar("P")


class Lane(Protocol):
    """The way to who writes: see `saltpeter.store.process`."""

    async def write(self, group: Group) -> Report: ...


@attrs.define(eq=False)
class _Item:
    task: Task
    insists: bool = False  # its waiter is not let go before it is settled
    since: float = 0.0  # it waits (trio's clock)
    waiter: trio.lowlevel.Task | None = None  # None: nobody waits for it
    taken: bool = False  # it is being written, or has been
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        """Let its waiter go on."""
        self.taken = True
        if self.waiter is not None:
            trio.lowlevel.reschedule(self.waiter)


@attrs.define
class Writer:
    """Hands on pieces of work, each all or nothing, and returns from each when it would survive a power cut.

    What has not begun within `patience_s` is given up.
    """

    lane: Lane
    patience_s: float = inf
    now: Callable[[], datetime] = now
    fares: Callable[[], None] = lambda: None  # called when it begins to fail, and when it can write again
    seal: Seal | None = None  # ends each transaction
    _vitals: Vitals = attrs.field(factory=Vitals, init=False)
    _waiting: deque[_Item] = attrs.field(factory=deque, init=False)
    _group: Sequence[_Item] = attrs.field(default=(), init=False)  # what is being written
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True), init=False)
    _ruin: StoreError | None = attrs.field(default=None, init=False)  # what ends it
    _failed: Failed | None = attrs.field(default=None, init=False)  # what to try when nobody else tries

    @property
    def writing(self) -> Writing:
        return self._vitals.writing(len(self._waiting))

    async def submit(self, path: Path, work: Work[T], size: int = 0, *, frees: bool = False) -> T:
        """Run `work` on the database at `path`; returns its result once that is durable.

        `work` is a function of a module, or a partial one, for it runs in another process; so its result, too, is one
        that can be pickled. It is synchronous and undoes nothing itself: what it wrote is taken back when it
        raises, and the error is raised here. Raises StoreError when the database cannot be written. Cancelled before
        it has begun, it is not run; once begun, its end is waited for whoever is cancelled: so the caller always knows.
        Work that `frees` room need not leave any.
        """
        result: T = await self._settle(_Item(Task(path, scribe.each, work, size, frees)))
        return result

    async def contribute(self, path: Path, do: Together[P, T], piece: P, size: int = 0, *, insists: bool = False) -> T:
        """Like `submit`, for a piece of what can be done for many at once: `do` is given those that have come one after
        the other, and where it cannot do them all, each by itself. Who `insists` is not let go before it is done.
        """
        result: T = await self._settle(_Item(Task(path, do, piece, size), insists))
        return result

    async def remove(self, path: Path) -> None:
        """Remove the database: one that is written to later begins anew. Raises StoreError."""
        await self._settle(_Item(Task(path, None, frees=True)))

    async def _settle(self, item: _Item) -> Any:
        if self._closing:
            raise StoreError("the store is closed")
        item.waiter = trio.lowlevel.current_task()
        self._line_up(item)
        self._arrived.set()

        def give_up(_: object) -> trio.lowlevel.Abort:
            if item.taken or item.insists:
                return trio.lowlevel.Abort.FAILED
            self._waiting.remove(item)
            return trio.lowlevel.Abort.SUCCEEDED

        # one wait, cancelled as long as its work is not begun: an event for each of the two would cost as much again
        await trio.lowlevel.wait_task_rescheduled(give_up)
        if isinstance(item.error, (Error, OSError)):
            raise StoreError(f"{item.task.path}: {item.error}") from item.error
        if item.error is not None:
            raise item.error
        return item.result

    def _line_up(self, item: _Item) -> None:
        item.since = trio.current_time()
        self._waiting.append(item)

    async def run(self) -> None:
        """The service; ends after `close`, when nothing is waiting any more. Cancelling it does not end it sooner.

        Raises StoreError when a file is damaged that cannot be replaced while it is in use.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up_what_waits_too_long, name="patience with the disk")
                with self._scope:
                    await self._serve()
                nursery.cancel_scope.cancel()
        finally:
            self._abandon()
        if self._ruin is not None:
            raise self._ruin

    async def _serve(self) -> None:
        while self._ruin is None and await self._has_work():
            self._group = group = self._take_group()
            for item in group:
                item.taken = True
            began = trio.current_time()
            tasks = [item.task for item in group]
            report = await self.lane.write(Group(tasks, self.now(), self.seal))
            self._note(report, trio.current_time() - began)
            for item, done in zip(group, report.done, strict=True):
                item.result, item.error = done
                item.settle()
            self._group = ()
            if len(group) >= CROWD and scribe.size(tasks) < CROWD_BYTES and not self._closing:
                await trio.sleep_until(began + PACE_S)

    async def _give_up_what_waits_too_long(self) -> None:
        """All are equally patient, so whoever came first is the first to go."""
        while True:
            first = self._waiting[0].since if self._waiting else trio.current_time()
            await trio.sleep_until(first + self.patience_s)
            while self._waiting and self._waiting[0].since + self.patience_s <= trio.current_time():
                item = self._waiting.popleft()
                item.error = StoreError(f"the store did not answer within {self.patience_s:g} seconds")
                item.settle()

    def close(self) -> None:
        """Take nothing new; what is waiting is still written, within FLUSH_S."""
        self._closing = True
        self._scope.deadline = trio.current_time() + FLUSH_S
        self._arrived.set()

    async def _has_work(self) -> bool:
        while not self._waiting and not self._closing:
            self._arrived = trio.Event()
            with trio.move_on_after(PROBE_S if self._vitals.failing else inf):
                await self._arrived.wait()
            if self._failed is not None and not self._arrived.is_set():  # else nobody would learn that it can again
                self._line_up(_Item(Task(self._failed.path, scribe.each, scribe.probe, self._failed.size)))
        return bool(self._waiting)

    def _take_group(self) -> list[_Item]:
        group = [self._waiting.popleft()]
        size = group[0].task.size
        while self._waiting and len(group) < MAX_ITEMS and size + self._waiting[0].task.size <= MAX_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].task.size
        return group

    def _note(self, report: Report, took_s: float) -> None:
        before = self._vitals.failing
        for damaged in report.damaged:
            self._tell(damaged)
        for complaint in report.complaints:
            log.error("The text logs lack something: %s", complaint, extra=fields("textlog.failed", error=complaint))
        self._failed = report.failed
        if self._failed is None:
            self._vitals.committed(took_s)
        else:
            self._vitals.failed(str(self._failed.why), self.now())
        if self._vitals.failing != before:
            self.fares()

    def _tell(self, damaged: Damaged) -> None:
        if damaged.kept_as is None:
            self._ruin = give_up(damaged.path, damaged.found)
        else:
            tell_replaced(damaged.path, damaged.found, damaged.kept_as)

    def _abandon(self) -> None:
        self._closing = True
        for item in (*self._group, *self._waiting):
            item.error = StoreError("the store was closed before this could be written")
            item.settle()
        self._group = ()
        self._waiting.clear()
