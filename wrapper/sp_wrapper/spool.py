"""The command's output on disk, between the process that reads it and the one that reports it.

The spool is a row of segments, each a file named by the place of its first byte in the whole output. The writer
only appends; the reader removes what the daemon holds; a missing segment is a cut. So neither needs to talk to the
other, and a crash of either leaves nothing half said.
"""

from __future__ import annotations

import contextlib
import os
from collections import namedtuple
from itertools import pairwise

MIB = 1024 * 1024
HOLD = 4 * MIB  # bytes kept in memory while the disk takes none
PREFIX = "out."


class SpoolWriter:
    """Takes whatever the command writes and never fails: what the disk does not take becomes a cut."""

    def __init__(self, path: str, limit: int) -> None:
        """Unacknowledged output beyond `limit` bytes loses its middle."""
        self.length = 0  # bytes that the command has written
        self.last = b""  # the last of them
        self.stored = 0  # where the next byte on disk belongs; behind `length` while the disk takes none
        self._path = path
        self._limit = limit
        self._segment_size = max(1, min(MIB, limit // 16))
        self._held: list[bytes] = []  # from stored to length: what the disk did not take yet
        self._fd: int | None = None
        self._starts: list[int] = []  # segments that are still needed, oldest first; the last is being written
        self._acked = 0
        self._keep_below = 0  # while over the limit: segments that start below this are the first half

    @property
    def waiting(self) -> bool:
        """Is there output in memory that the disk did not take?"""
        return bool(self._held)

    def write(self, data: bytes) -> None:
        if not data:
            return
        self.length += len(data)
        self.last = data[-1:]
        self._held.append(data)
        self.flush()
        self._cut()

    def flush(self) -> None:
        """Give the disk what it did not take; keep the newest HOLD bytes of what it still refuses."""
        while self._held:
            data = self._held[0]
            try:
                taken = self._append(data)
            except OSError:
                break
            self._held[:1] = [data[taken:]] if taken < len(data) else []
        while self.length - self.stored > HOLD:
            self.stored += len(self._held.pop(0))

    def acknowledge(self, offset: int) -> None:
        """The daemon holds everything below `offset`."""
        self._acked = max(self._acked, offset)
        if self._acked >= self._keep_below:
            self._keep_below = 0
        while len(self._starts) > 1 and self._starts[1] <= self._acked:  # the reader removes the files
            self._starts.pop(0)

    def close(self) -> None:
        """The last word: what the disk refuses now is cut."""
        self.flush()
        self._held.clear()
        if self._fd is not None:
            os.close(self._fd)

    def _append(self, data: bytes) -> int:
        """Write some of `data` at `stored`, in the segment where it belongs."""
        if self._fd is None or self._room() <= 0:
            self._open_segment()
        assert self._fd is not None  # noqa: S101 - for the type checker
        taken = os.write(self._fd, data[: self._room()])
        self.stored += taken
        return taken

    def _room(self) -> int:
        """Bytes that the open segment may still take; none when a gap lies between its end and what comes."""
        assert self._fd is not None  # noqa: S101 - for the type checker
        size = os.fstat(self._fd).st_size
        return self._segment_size - size if self._starts[-1] + size == self.stored else 0

    def _open_segment(self) -> None:
        name = f"{self._path}/{PREFIX}{self.stored:020d}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600)
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._starts.append(self.stored)

    def _cut(self) -> None:
        """Drop whole segments from the middle, so that the first and the last half of the limit are left."""
        if self.stored - self._acked <= self._limit:
            return
        if not self._keep_below:
            self._keep_below = self._acked + self._limit // 2
        last_half = self.stored - self._limit // 2
        dropped = [start for start, end in pairwise(self._starts) if start >= self._keep_below and end <= last_half]
        for start in dropped:
            self._starts.remove(start)
            with contextlib.suppress(FileNotFoundError):  # acknowledged and removed by the reader
                os.unlink(f"{self._path}/{PREFIX}{start:020d}")


class Piece(namedtuple("Piece", "start data closed")):
    """Bytes that stand at `start` in the whole output. `closed`: none will ever follow them directly."""

    __slots__ = ()
    start: int
    data: bytes
    closed: bool


class SpoolReader:
    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, at: int, size: int, end: int | None = None) -> Piece:
        """Up to `size` bytes from `at` on, or from where the output goes on after a cut. No bytes: there are none yet.

        `end` is the length of the whole output once it is known: a cut may reach to it.
        """
        begin, data = at, b""
        # Listed first, read then: a segment that has a successor at the listing is complete at the reading.
        starts = self._starts()
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            if following is not None and following <= at:
                continue
            if data and start != begin + len(data):
                return Piece(begin, data, True)
            begin = begin if data else max(at, start)
            data += self._read_segment(start, begin + len(data), size - len(data))
            if len(data) == size:
                return Piece(begin, data, begin + size == end)
        if not data:
            begin = at if end is None else max(at, end)
        return Piece(begin, data, end is not None)

    def forget(self, below: int) -> None:
        """Remove the segments that end at or before `below`; never the last, which may still grow."""
        starts = self._starts()
        for start, following in pairwise(starts):
            if following <= below:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._path}/{PREFIX}{start:020d}")

    def end(self) -> int:
        """Where the spool ends now."""
        starts = self._starts()
        if not starts:
            return 0
        with contextlib.suppress(FileNotFoundError):
            return starts[-1] + os.stat(f"{self._path}/{PREFIX}{starts[-1]:020d}").st_size
        return starts[-1]

    def _starts(self) -> list[int]:
        names = os.listdir(self._path)
        return sorted(int(name[len(PREFIX) :]) for name in names if name.startswith(PREFIX))

    def _read_segment(self, start: int, at: int, size: int) -> bytes:
        try:
            fd = os.open(f"{self._path}/{PREFIX}{start:020d}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # cut since the listing
            return b""
        with open(fd, "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, at - start)
