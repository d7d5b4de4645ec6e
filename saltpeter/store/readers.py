"""Reads in a few threads, on connections of their own: WAL lets them see the last commit without waiting."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from saltpeter.errors import StoreError
from saltpeter.store.schema import connect_for_reading, pragma
from saltpeter.store.scribe import Work

MAX_THREADS = 2  # more would only take the processor from the loop
MAX_IDLE = 6  # connections kept for later reads

T = TypeVar("T")


@attrs.frozen(eq=False)
class _Open:
    path: Path
    file: tuple[int, int]  # device and inode
    connection: sqlite3.Connection

    def is_current(self) -> bool:
        """Has the file not been removed or replaced since? While it is open, it takes up its room."""
        return self.file == _file(self.path)


@attrs.define
class Readers:
    _idle: list[_Open] = attrs.field(factory=list, init=False)  # the latest used is last
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _threads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MAX_THREADS), init=False)

    async def read(self, path: Path, work: Work[T]) -> T:
        """Run `work` on one unchanging view of the database. Raises FileNotFoundError when there is none yet
        at `path`, StoreError when it cannot be read."""
        try:
            return await trio.to_thread.run_sync(self._read, path, work, limiter=self._threads)
        except sqlite3.Error as exc:
            raise StoreError(f"{path}: {exc}") from exc

    def close(self) -> None:
        for each in self._idle:
            each.connection.close()
        self._idle.clear()

    def let_go(self) -> None:
        """Close what is open of files that have been removed."""
        with self._lock:
            gone = [each for each in self._idle if not each.is_current()]
            self._idle = [each for each in self._idle if each not in gone]
        for each in gone:
            each.connection.close()

    def _read(self, path: Path, work: Work[T]) -> T:
        with self._borrow(path) as connection:
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
            return result

    @contextmanager
    def _borrow(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection for one read; one whose read failed is not used again."""
        lent = self._take(path) or _connect(path)
        try:
            yield lent.connection
        except BaseException:
            lent.connection.close()
            raise
        self._give_back(lent)

    def _take(self, path: Path) -> _Open | None:
        with self._lock:
            for place, known in enumerate(self._idle):
                if known.path == path:
                    found = self._idle.pop(place)
                    break
            else:
                return None
        if found.is_current():
            return found
        found.connection.close()
        return None

    def _give_back(self, lent: _Open) -> None:
        if not lent.is_current():
            lent.connection.close()
            return
        with self._lock:
            self._idle.append(lent)
            surplus = self._idle.pop(0) if len(self._idle) > MAX_IDLE else None
        if surplus is not None:
            surplus.connection.close()


def _file(path: Path) -> tuple[int, int] | None:
    """Which file is called `path` now; None while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path) -> _Open:
    file = _file(path)
    if file is None:
        raise FileNotFoundError(path)
    connection = connect_for_reading(path)
    try:
        if pragma(connection, "user_version") == 0:  # the writer is just making it
            raise FileNotFoundError(path)
    except BaseException:
        connection.close()
        raise
    return _Open(path, file, connection)
