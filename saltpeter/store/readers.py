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
from saltpeter.store.schema import connect_for_reading
from saltpeter.store.writer import Work

MAX_THREADS = 2  # more would only take the processor from the loop
MAX_IDLE = 6  # connections kept for later reads

T = TypeVar("T")


@attrs.define
class Readers:
    _idle: list[tuple[Path, sqlite3.Connection]] = attrs.field(factory=list, init=False)  # the latest used is last
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
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    def _read(self, path: Path, work: Work[T]) -> T:
        with self._borrow(path) as connection:
            connection.execute("BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
            return result

    @contextmanager
    def _borrow(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection for one read; one whose read failed is not used again."""
        connection = self._take(path) or _connect(path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give_back(path, connection)

    def _take(self, path: Path) -> sqlite3.Connection | None:
        with self._lock:
            for place, (known, connection) in enumerate(self._idle):
                if known == path:
                    del self._idle[place]
                    return connection
        return None

    def _give_back(self, path: Path, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._idle.append((path, connection))
            surplus = self._idle.pop(0) if len(self._idle) > MAX_IDLE else None
        if surplus is not None:
            surplus[1].close()


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise FileNotFoundError(path)
    connection = connect_for_reading(path)
    try:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:  # the writer is just making it
            raise FileNotFoundError(path)
    except BaseException:
        connection.close()
        raise
    return connection
