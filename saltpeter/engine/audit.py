"""The audit: a file that is only ever added to, of who asked for which change, from where, and what came of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio

from saltpeter.errors import SaltpeterError
from saltpeter.logs import fields

AUDIT_FILE = "audit.jsonl"  # in the state directory
WITHIN_S = 10.0
_LONGEST = 4096  # characters of one thing that was asked for

Note: TypeAlias = "Callable[[Entry], Awaitable[None]]"

log = logging.getLogger(__name__)


class AuditError(SaltpeterError):
    """The audit cannot be read, or added to."""


@attrs.frozen(kw_only=True)
class Entry:
    """One line. `peer` is from where; `result` is "done", or the code that it was refused with."""

    at: datetime  # aware
    who: str
    peer: str
    did: str
    what: Mapping[str, Any]
    result: str

    def as_dict(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "at": self.at.isoformat(), "what": dict(self.what)}


def append(path: Path, entry: Entry) -> None:
    """Put it on disk, as a line of its own, whoever else is writing. Blocks. Raises AuditError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    # a line break before as well: what a full disk cut off spoils no other line
    line = b"\n" + json.dumps(entry.as_dict(), default=lambda value: str(value)[:_LONGEST]).encode() + b"\n"
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
            if file.write(line) != len(line):
                raise AuditError(f"{path}: only a part of an entry could be written")
            os.fsync(file.fileno())
    except OSError as error:
        raise AuditError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> Iterator[Entry]:
    """All entries, oldest first; lines that are damaged are left out. Blocks. Raises AuditError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            for line in file:
                try:
                    said = json.loads(line)
                    yield Entry(**{**said, "at": datetime.fromisoformat(said["at"])})
                except (ValueError, KeyError, TypeError):
                    continue
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}") from error


@attrs.define(eq=False)
class Audit:
    """Writes to the file at `path`. What cannot be written is in the daemon's log, loudly, instead."""

    _path: Path
    _one_at_a_time: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def note(self, entry: Entry) -> None:
        """Return once it is on disk. Nobody who leaves early takes an entry away with them."""
        with trio.move_on_after(WITHIN_S, shield=True) as patience:
            try:
                await trio.to_thread.run_sync(append, self._path, entry, limiter=self._one_at_a_time)
            except AuditError as error:
                log.error("The audit lacks %s: %s", entry.as_dict(), error, extra=fields("audit.failed"))
        if patience.cancelled_caught:
            log.error("The audit may lack %s: the disk is slow", entry.as_dict(), extra=fields("audit.failed"))


async def unnoted(_entry: Entry) -> None:
    """Where no audit is kept."""
