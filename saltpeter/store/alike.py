"""Which machines of a run wrote the same. Plain functions of a reading connection to a day's output."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import zip_longest

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.storage import Alike
from saltpeter.store.streams import INDEX_BITS

WINDOW = 1024 * 1024  # bytes at each end that are compared of an output; what lies between may differ unseen
READ_IN_ALL = 256 * WINDOW  # with so many machines that this is not enough, less of each
LEAST = 32 * 1024
TOLD = 100  # groups of which it is told where they differ, the largest first
LOOKED_INTO = 64 * 1024  # bytes, for the first line that differs
LINE = 200  # characters of it


@attrs.frozen
class _Stream:
    key: int
    machine: str
    length: int
    pieces: int


def alike(connection: sqlite3.Connection, wanted: Collection[ExecutionId]) -> list[Alike]:
    """Those of `wanted`, all of one run, that wrote anything, by what they wrote; the largest group first."""
    streams = list(_streams(connection, wanted))
    lengths = Counter((stream.length, stream.pieces > 0) for stream in streams)
    window = max(LEAST, min(WINDOW, READ_IN_ALL // max(1, len(streams))))
    groups: dict[tuple[int, bytes], list[_Stream]] = {}
    for stream in streams:
        alone = lengths[stream.length, stream.pieces > 0] == 1
        digest = b"" if alone else _digest(connection, stream, window)
        groups.setdefault((stream.length, digest), []).append(stream)
    ordered = sorted(groups.values(), key=lambda group: (-len(group), group[0].machine))
    return list(_told(connection, ordered))


def _streams(connection: sqlite3.Connection, wanted: Collection[ExecutionId]) -> Iterator[_Stream]:
    attempts = {each.machine: each.attempt for each in wanted}
    for run in {each.run for each in wanted}:
        rows = connection.execute(
            "SELECT key, machine, length, next_index, attempt FROM streams WHERE run = ? ORDER BY machine", [run]
        )
        for key, machine, length, pieces, attempt in rows:
            if attempts.get(machine) == attempt and pieces:
                yield _Stream(key, machine, length, pieces)


def _digest(connection: sqlite3.Connection, stream: _Stream, window: int) -> bytes:
    """Of the first and the last `window` bytes, however they are cut into pieces."""
    begin = _read(connection, stream, window)
    digest = hashlib.blake2b(begin, digest_size=16)
    if len(begin) == window:
        digest.update(_read(connection, stream, window, backwards=True))
    return digest.digest()


def _read(connection: sqlite3.Connection, stream: _Stream, size: int, *, backwards: bool = False) -> bytes:
    order = "DESC" if backwards else "ASC"
    rows = connection.execute(
        f"SELECT data FROM pieces WHERE key >= ? AND key < ? ORDER BY key {order}",  # noqa: S608  one of two words
        [stream.key << INDEX_BITS, (stream.key + 1) << INDEX_BITS],
    )
    read: list[bytes] = []
    left = size
    for (data,) in rows:
        part = data[-left:] if backwards else data[:left]
        read.append(part)
        left -= len(part)
        if left <= 0:
            break
    return b"".join(reversed(read) if backwards else read)


def _told(connection: sqlite3.Connection, groups: list[list[_Stream]]) -> Iterator[Alike]:
    usual = _lines(connection, groups[0][0]) if groups else []
    for place, group in enumerate(groups):
        line, text = _first_other(usual, _lines(connection, group[0])) if 0 < place < TOLD else (0, "")
        yield Alike(tuple(stream.machine for stream in group), group[0].length, line, text[:LINE])


def _lines(connection: sqlite3.Connection, stream: _Stream) -> list[str]:
    return _read(connection, stream, LOOKED_INTO).decode("utf-8", "replace").splitlines()


def _first_other(usual: list[str], lines: list[str]) -> tuple[int, str]:
    """The first line that differs from the usual ones, with its number from 1; 0 where there is none to tell."""
    for number, (expected, found) in enumerate(zip_longest(usual, lines), 1):
        if expected != found:
            return number, found or ""
    return 0, ""
