"""Copies journals into their files beside the writing, so that no commit waits for what that takes."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue

import attrs

from saltpeter.store.schema import BUSY_S, CHECKPOINT_BYTES, LARGEST_JOURNAL


@attrs.define(eq=False)
class Checkpoints:
    """One thread does `run`, another, who writes, says what it `wrote`. Nobody may rename or remove a file but with
    `alone`."""

    alone: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _length: dict[Path, int] = attrs.field(factory=dict, init=False)  # bytes since it has begun anew
    _due: SimpleQueue[Path | None] = attrs.field(factory=SimpleQueue, init=False)

    def wrote(self, path: Path, size: int, connection: sqlite3.Connection) -> None:
        """About so many bytes more are in the journal of `path`, by `connection`.

        Only a journal that is copied to its end begins anew, and while more is written, none is: so when it has become
        long, this waits, and copies the rest. SQLite would try that in each commit, but in vain while another copies.
        """
        before = self._length.get(path, 0)
        self._length[path] = length = before + size
        if length // CHECKPOINT_BYTES > before // CHECKPOINT_BYTES:
            self._due.put(path)
        if length >= LARGEST_JOURNAL:
            with self.alone, suppress(sqlite3.Error):  # what is committed stays so
                [(_, pages, copied)] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                if copied == pages:
                    del self._length[path]

    def run(self) -> None:
        """Until `close`."""
        while (path := self._due.get()) is not None:
            self._checkpoint(path)

    def close(self) -> None:
        self._due.put(None)

    def _checkpoint(self, path: Path) -> None:
        """As far as it goes without anybody waiting; what is left, a later one or the writer's own copies."""
        with self.alone:
            if not path.exists():
                return
            with (
                suppress(sqlite3.Error),  # whoever writes next meets it too, and says so
                closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection,
            ):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
