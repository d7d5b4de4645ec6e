"""The audit: a file that is only ever added to, of who asked for which change, from where, and what came of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from saltpeter.errors import SaltpeterError
from saltpeter.logs import fields

AUDIT_FILE = "audit.jsonl"  # in the state directory
WITHIN_S = 10.0
_LONGEST = 4096  # characters of one thing that was asked for
STRETCH = 1024**2  # bytes that are looked through at once

Note: TypeAlias = "Callable[[Entry], Awaitable[None]]"

log = logging.getLogger(__name__)


class Trail(Protocol):
    """The audit, as those use it who change things and who look for who did."""

    async def note(self, entry: Entry) -> None:
        """Return once it is kept."""

    async def look_back(self, wanted: Wanted, before: int | None, limit: int) -> Page:
        """At most `limit` entries of those before the place `before`; None: of all. Raises AuditError."""


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
                if (entry := _entry(line)) is not None:
                    yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}") from error


def _entry(line: bytes) -> Entry | None:
    """None for a line that is damaged."""
    try:
        said = json.loads(line)
        entry = Entry(**{**said, "at": datetime.fromisoformat(said["at"])})
        return entry if entry.at.tzinfo is not None else None
    except (ValueError, KeyError, TypeError):
        return None


@attrs.frozen
class Wanted:
    """Which entries: those of `since` or later, and of `who`; None: of any."""

    since: datetime | None = None  # aware
    who: str | None = None

    def takes(self, entry: Entry) -> bool:
        return (self.since is None or entry.at >= self.since) and self.who in (None, entry.who)


@attrs.frozen
class Page:
    """Entries, newest first. There may be more before the place `before`; None: there are none."""

    entries: tuple[Entry, ...]
    before: int | None


def look_back(path: Path, wanted: Wanted, before: int | None, limit: int) -> Page:
    """At most `limit` of the entries that stand before the place `before` in the file, None: of all. Blocks.

    At most STRETCH bytes are read, so there may be more where none was found. Raises AuditError.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            end = size if before is None else min(before, size)  # the file may be a new one
            first = file.seek(max(end - STRETCH, 0))
            text = file.read(end - first)
    except FileNotFoundError:
        return Page((), None)
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}") from error
    return _newest(text, first, wanted, limit)


def _newest(text: bytes, first: int, wanted: Wanted, limit: int) -> Page:
    """The newest entries in `text`, which begins at the place `first`, maybe inside a line: that is left for later."""
    found: list[Entry] = []
    end = len(text)
    while end > 0:
        begin = text.rfind(b"\n", 0, end - 1) + 1
        if begin == 0 and first > 0 and end < len(text):
            break
        entry = _entry(text[begin:end])
        end = begin
        if entry is not None and wanted.takes(entry):
            found.append(entry)
        if len(found) == limit:
            break
    return Page(tuple(found), first + end or None)


@attrs.define(eq=False)
class Audit:
    """Writes to the file at `path`. What cannot be written is in the daemon's log, loudly, instead."""

    _path: Path
    _one_at_a_time: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def look_back(self, wanted: Wanted, before: int | None, limit: int) -> Page:
        """See the function of that name."""
        return await trio.to_thread.run_sync(look_back, self._path, wanted, before, limit)

    async def note(self, entry: Entry) -> None:
        """Return once it is on disk. Nobody who leaves early takes an entry away with them."""
        with trio.move_on_after(WITHIN_S, shield=True) as patience:
            try:
                await trio.to_thread.run_sync(append, self._path, entry, limiter=self._one_at_a_time)
            except AuditError as error:
                log.error("The audit lacks %s: %s", entry.as_dict(), error, extra=fields("audit.failed"))
        if patience.cancelled_caught:
            log.error("The audit may lack %s: the disk is slow", entry.as_dict(), extra=fields("audit.failed"))


class Unaudited:
    """Where none is kept."""

    async def note(self, entry: Entry) -> None:
        pass

    async def look_back(self, wanted: Wanted, before: int | None, limit: int) -> Page:
        return Page((), None)
