"""One writer for a family of database files. While one group commits in a thread, the next one gathers."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from saltpeter.errors import StoreError
from saltpeter.store.schema import connect

MAX_ITEMS = 1000  # of one group
MAX_BYTES = 8 * 1024 * 1024  # of one group: a few tens of milliseconds of an ordinary disk
MAX_OPEN = 4  # database files
FLUSH_S = 10.0  # at the end, for what is waiting

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@attrs.define(eq=False)
class _Item:
    path: Path
    work: Work[Any]
    size: int  # bytes, roughly
    settled: trio.Event = attrs.field(factory=trio.Event)
    result: Any = None
    error: Exception | None = None


@attrs.define
class Writer:
    """Runs pieces of work, each all or nothing, and returns from each when it would survive a power cut."""

    migrations: Sequence[str]
    _waiting: deque[_Item] = attrs.field(factory=deque, init=False)
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True), init=False)
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)
    _open: dict[Path, sqlite3.Connection] = attrs.field(factory=dict, init=False)  # the latest used is last

    async def submit(self, path: Path, work: Work[T], size: int = 0) -> T:
        """Run `work` on the database at `path`; returns its result once that is durable.

        `work` is synchronous, runs in a thread, and undoes nothing itself: what it wrote is taken back when it
        raises, and the error is raised here. It is run even when the caller is cancelled meanwhile. Raises
        StoreError when the database cannot be written.
        """
        if self._closing:
            raise StoreError("the store is closed")
        item = _Item(path, work, size)
        self._waiting.append(item)
        self._arrived.set()
        await item.settled.wait()
        if isinstance(item.error, (sqlite3.Error, OSError)):
            raise StoreError(f"{path}: {item.error}") from item.error
        if item.error is not None:
            raise item.error
        result: T = item.result
        return result

    async def run(self) -> None:
        """The service; ends after `close`, when nothing is waiting any more. Cancelling it does not end it sooner."""
        try:
            with self._scope:
                while await self._has_work():
                    group = self._take_group()
                    await trio.to_thread.run_sync(self._write, group, limiter=self._thread)
                    for item in group:
                        item.settled.set()
                await trio.to_thread.run_sync(self._forget_all, limiter=self._thread)
        finally:
            self._abandon()

    def close(self) -> None:
        """Take nothing new; what is waiting is still written, within FLUSH_S."""
        self._closing = True
        self._scope.deadline = trio.current_time() + FLUSH_S
        self._arrived.set()

    async def _has_work(self) -> bool:
        while not self._waiting and not self._closing:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return bool(self._waiting)

    def _take_group(self) -> list[_Item]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and len(group) < MAX_ITEMS and size + self._waiting[0].size <= MAX_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _abandon(self) -> None:
        self._closing = True
        for item in self._waiting:
            item.error = StoreError("the store was closed before this could be written")
            item.settled.set()
        self._forget_all()

    # --- in the thread --------------------------------------------------------------------------

    def _write(self, group: Sequence[_Item]) -> None:
        by_path: dict[Path, list[_Item]] = {}
        for item in group:
            by_path.setdefault(item.path, []).append(item)
        for path, items in by_path.items():
            try:
                _commit(self._connection(path), items)
            except (sqlite3.Error, OSError, StoreError) as exc:
                self._forget(path)  # closing takes back what was begun; the next group opens it afresh
                for item in items:
                    item.error = item.error or exc

    def _connection(self, path: Path) -> sqlite3.Connection:
        connection = self._open.pop(path, None) or connect(path, self.migrations)
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


def _commit(connection: sqlite3.Connection, items: Sequence[_Item]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for item in items:
        _attempt(connection, item)
    connection.execute("COMMIT")


def _attempt(connection: sqlite3.Connection, item: _Item) -> None:
    """Do the item's work, or nothing of it: one item's failure is no other's."""
    connection.execute("SAVEPOINT item")
    try:
        item.result = item.work(connection)
    except Exception as exc:  # whatever it is, it belongs to the one who submitted it
        item.error = exc
        if not connection.in_transaction:
            raise  # a full disk may make SQLite take back the whole group
        connection.execute("ROLLBACK TO item")
    connection.execute("RELEASE item")
