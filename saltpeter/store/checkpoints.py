"""Copies journals into their files beside the writing, so that no commit waits for what that takes."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import attrs
import trio

from saltpeter.logs import fields
from saltpeter.store.schema import BUSY_S, CHECKPOINT_BYTES

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Checkpoints:
    """One task runs `run`, the writer says what it `wrote`. Nobody may rename or remove a file but with `alone`."""

    alone: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _written: dict[Path, int] = attrs.field(factory=dict, init=False)  # bytes since the last one
    _due: trio.Event = attrs.field(factory=trio.Event, init=False)
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    def wrote(self, path: Path, size: int) -> None:
        """About so many bytes more are in the journal of `path`."""
        self._written[path] = self._written.get(path, 0) + size
        if self._written[path] >= CHECKPOINT_BYTES:
            self._due.set()

    async def run(self) -> None:
        """The service; runs until it is cancelled."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            for path in [path for path, size in self._written.items() if size >= CHECKPOINT_BYTES]:
                del self._written[path]
                await trio.to_thread.run_sync(self._checkpoint, path, limiter=self._thread)

    def _checkpoint(self, path: Path) -> None:
        """As far as it goes without anybody waiting; what is left, a later one or the writer's own copies."""
        with self.alone:
            if not path.exists():
                return
            try:
                with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as exc:  # whoever writes next meets it too, and says so
                log.debug(
                    "Cannot copy the journal of %s: %s", path, exc, extra=fields("store.checkpoint", path=str(path))
                )
