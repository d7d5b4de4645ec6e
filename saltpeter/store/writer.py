"""One writer for a family of database files. While one group commits in a thread, the next one gathers.

What cannot be written is an error of those who submitted it; the writer itself goes on, and writes again as soon
as it can.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from saltpeter.engine.clock import now
from saltpeter.engine.storage import Writing
from saltpeter.errors import StoreError
from saltpeter.store.checkpoints import Checkpoints
from saltpeter.store.checkup import give_up, is_damage, replace
from saltpeter.store.places import remove, size_of_journal
from saltpeter.store.schema import SMALL_PAGE, connect, pragma
from saltpeter.store.vitals import Vitals

MAX_ITEMS = 100  # of one group: as many tasks go on in one turn of the loop
MAX_BYTES = 8 * 1024 * 1024  # of one group: a few tens of milliseconds of an ordinary disk
MAX_OPEN = 4  # database files
FLUSH_S = 10.0  # at the end, for what is waiting

# From the beginning of a group of so many to that of the next, so that in a storm much goes together: a thread that
# does little at a time wrestles with the loop for Python's lock each time. Who is alone does not wait.
CROWD, PACE_S = 4, 0.02
PROBE_S = 3.0  # who waits for the store tries again sooner

T = TypeVar("T")
P = TypeVar("P")
Work = Callable[[sqlite3.Connection], T]
Together = Callable[[sqlite3.Connection, Sequence[P]], Sequence[T]]  # the result of each piece


@attrs.define(eq=False)
class _Item:
    path: Path
    do: Together[Any, Any] | None  # None: remove the file
    piece: Any = None
    size: int = 0  # bytes, roughly
    frees: bool = False
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
    """Runs pieces of work, each all or nothing, and returns from each when it would survive a power cut.

    `leave_free` bytes of the file system (but at most a twentieth of it) are left to others who need them more. Of
    `replaceable` files a damaged one is put aside, and a new one begun; damage to another ends the writer. New files
    have pages of `page_bytes`. What has not begun within `patience_s` is given up.
    """

    migrations: Sequence[str]
    version: str = ""
    leave_free: int = 0
    replaceable: bool = False
    page_bytes: int = SMALL_PAGE
    patience_s: float = inf
    now: Callable[[], datetime] = now
    fares: Callable[[], None] = lambda: None  # called when it begins to fail, and when it can write again
    seal: Callable[[sqlite3.Connection, datetime], None] = lambda _connection, _at: None  # ends each transaction
    _vitals: Vitals = attrs.field(factory=Vitals, init=False)
    _waiting: deque[_Item] = attrs.field(factory=deque, init=False)
    _group: Sequence[_Item] = attrs.field(default=(), init=False)  # what is being written
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True), init=False)
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)
    _ruin: StoreError | None = attrs.field(default=None, init=False)  # what ends it
    _failed: _Item | None = attrs.field(default=None, init=False)  # what to try when nobody else tries
    _checkpoints: Checkpoints = attrs.field(factory=Checkpoints, init=False)
    _open: dict[Path, sqlite3.Connection] = attrs.field(factory=dict, init=False)  # the latest used is last

    @property
    def writing(self) -> Writing:
        return self._vitals.writing(len(self._waiting))

    async def submit(self, path: Path, work: Work[T], size: int = 0, *, frees: bool = False) -> T:
        """Run `work` on the database at `path`; returns its result once that is durable.

        `work` is synchronous, runs in a thread, and undoes nothing itself: what it wrote is taken back when it
        raises, and the error is raised here. Raises StoreError when the database cannot be written. Cancelled before
        it has begun, it is not run; once begun, its end is waited for whoever is cancelled: so the caller always knows.
        Work that `frees` room need not leave any.
        """
        result: T = await self._settle(_Item(path, _each, work, size, frees))
        return result

    async def contribute(self, path: Path, do: Together[P, T], piece: P, size: int = 0, *, insists: bool = False) -> T:
        """Like `submit`, for a piece of what can be done for many at once: `do` is given those that have come one after
        the other, and where it cannot do them all, each by itself. Who `insists` is not let go before it is done.
        """
        result: T = await self._settle(_Item(path, do, piece, size, insists=insists))
        return result

    async def remove(self, path: Path) -> None:
        """Remove the database: one that is written to later begins anew. Raises StoreError."""
        await self._settle(_Item(path, None, frees=True))

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
        if isinstance(item.error, (sqlite3.Error, OSError)):
            raise StoreError(f"{item.path}: {item.error}") from item.error
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
                nursery.start_soon(self._checkpoints.run, name="copy journals")
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
            failure = await trio.to_thread.run_sync(self._write, group, self.now(), limiter=self._thread)
            self._note(failure, trio.current_time() - began)
            for item in group:
                self._checkpoints.wrote(item.path, item.size)
                item.settle()
            self._group = ()
            if len(group) >= CROWD and not self._closing:
                await trio.sleep_until(began + PACE_S)
        if self._ruin is None:
            await trio.to_thread.run_sync(self._forget_all, limiter=self._thread)

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
                self._line_up(_Item(self._failed.path, _each, _probe, self._failed.size))
        return bool(self._waiting)

    def _take_group(self) -> list[_Item]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and len(group) < MAX_ITEMS and size + self._waiting[0].size <= MAX_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _note(self, failure: Exception | None, took_s: float) -> None:
        before = self._vitals.failing
        if failure is None:
            self._failed = None
            self._vitals.committed(took_s)
        else:
            self._vitals.failed(str(failure), self.now())
        if self._vitals.failing != before:
            self.fares()

    def _abandon(self) -> None:
        self._closing = True
        for item in (*self._group, *self._waiting):
            item.error = StoreError("the store was closed before this could be written")
            item.settle()
        self._group = ()
        self._waiting.clear()
        self._forget_all()

    # --- in the thread --------------------------------------------------------------------------

    def _write(self, group: Sequence[_Item], at: datetime) -> Exception | None:
        """Do all of it, as of now; returns what kept a file from being written, if anything did."""
        by_path: dict[Path, list[_Item]] = {}
        for item in group:
            by_path.setdefault(item.path, []).append(item)
        failure = None
        for path, items in by_path.items():
            try:
                self._write_file(path, items, at)
            except (sqlite3.Error, OSError, StoreError) as exc:
                failure, self._failed = exc, _Item(path, None, size=sum(item.size for item in items))
                self._forget(path)  # closing takes back what was begun; the next group opens it afresh
                for item in items:
                    item.error = item.error or exc
                if is_damage(exc) and self.replaceable:
                    with self._checkpoints.alone:
                        replace(path, str(exc), at)
                elif is_damage(exc):
                    self._ruin = give_up(path, str(exc))
        return failure

    def _write_file(self, path: Path, items: Sequence[_Item], at: datetime) -> None:
        if any(item.do is None for item in items):  # first, so that nothing is lost that is acknowledged
            self._forget(path)
            with self._checkpoints.alone:
                remove(path)
        pieces = [item for item in items if item.do is not None]
        if self.leave_free and not all(item.frees for item in pieces):
            self._make_sure_of_room(path, sum(item.size for item in pieces))
        if pieces:
            connection = self._connection(path)
            _begin(connection, pieces)
            self.seal(connection, at)
            connection.execute("COMMIT")

    def _make_sure_of_room(self, path: Path, size: int) -> None:
        if self._room(path) >= 2 * size:  # in the journal, and later in the file
            return
        self._connection(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if self._room(path) < 2 * size:
            raise StoreError("the last of the disk is not for output")

    def _room(self, path: Path) -> int:
        """Bytes that may be used when the journal has been copied into its file, and others have their part."""
        disk = shutil.disk_usage(path.parent)
        return disk.free - size_of_journal(path) - min(self.leave_free, disk.total // 20)

    def _connection(self, path: Path) -> sqlite3.Connection:
        connection = self._open.pop(path, None) or connect(path, self.migrations, self.version, self.page_bytes)
        self._open[path] = connection
        if len(self._open) > MAX_OPEN:
            self._forget(next(iter(self._open)))
        return connection

    def _forget_all(self) -> None:
        for path in list(self._open):
            self._forget(path)

    def _forget(self, path: Path) -> None:
        if (connection := self._open.pop(path, None)) is not None:
            connection.close()


def _probe(connection: sqlite3.Connection) -> None:
    """Write a page, and change nothing."""
    connection.execute(f"PRAGMA user_version = {pragma(connection, 'user_version')}")


def _each(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    return [work(connection) for work in works]


def _begin(connection: sqlite3.Connection, items: Sequence[_Item]) -> None:
    """Begin a transaction with all of `items` that can be done: one item's failure is no other's."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for _, alike in groupby(items, key=lambda item: item.do):
            _do(connection, list(alike))
    except Exception:  # found once more below, by whose it is: each savepoint costs as much as a small piece of work
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        for item in items:
            _attempt(connection, item)


def _attempt(connection: sqlite3.Connection, item: _Item) -> None:
    """Do the item's work, or nothing of it."""
    connection.execute("SAVEPOINT item")
    try:
        _do(connection, [item])
    except Exception as exc:  # whatever it is, it belongs to the one who submitted it
        item.error = exc
        if not connection.in_transaction or is_damage(exc):
            raise  # a full disk may make SQLite take back the whole group, and damage is everybody's
        connection.execute("ROLLBACK TO item")
    connection.execute("RELEASE item")


def _do(connection: sqlite3.Connection, alike: Sequence[_Item]) -> None:
    """What `alike` want done, which is the same for all of them."""
    do = alike[0].do
    assert do is not None  # noqa: S101  who wants a file removed is not among them
    for item, result in zip(alike, do(connection, [item.piece for item in alike]), strict=True):
        item.result = result
