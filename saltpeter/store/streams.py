"""Writing down what commands wrote, byte for byte, beside what saltpeter and the wrappers had to say about it.

Plain functions of a connection, inside its transaction. A stream is one execution's output. Its pieces are
numbered, and each knows its position in all that the command wrote, so arriving twice changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, Union

import attrs
from typing_extensions import assert_never

from saltpeter.errors import StoreRefused
from saltpeter.store import bulk
from saltpeter.store.codec import clean

MAX_PIECE = 64 * 1024  # bytes
INDEX_BITS = 32  # of a piece's key; the others name its stream


class OutputGap(StoreRefused):
    """Bytes are missing before the ones to be added: the caller must send those first."""


class StreamName(NamedTuple):
    """Whose output it is."""

    run: str
    machine: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.run}:{self.machine}"


class _Stream(NamedTuple):
    """A row of `streams`, under its columns' names."""

    run: str
    machine: str
    attempt: int
    key: int
    output_limit: int | None
    length: int = 0
    next_index: int = 0
    tail_index: int | None = None
    tail_position: int | None = None
    dropped: int = 0

    @property
    def head(self) -> int | None:
        """How many bytes from the beginning are kept whatever follows."""
        return None if self.output_limit is None else self.output_limit // 2

    def piece_key(self, index: int) -> int:
        return (self.key << INDEX_BITS) + index


class Addition(NamedTuple):
    """The command's bytes from `offset` on, in any portions; the last `cut` before them were given up."""

    stream: StreamName
    offset: int
    data: Sequence[bytes]
    cut: int = 0
    limit: int | None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.data))


class Note(NamedTuple):
    """A line of saltpeter's own, in the middle of the command's."""

    stream: StreamName
    text: str
    limit: int | None = None


class Remark(NamedTuple):
    """What the wrapper has to say."""

    stream: StreamName
    at_us: int
    level: str
    text: str
    limit: int | None = None


class Written(NamedTuple):
    """What became of a word: how much the command has written by now, and how many bytes of that were new with it."""

    length: int
    new: int


# Of a stream that begins with it, only the first and the last half of `limit` bytes are kept; None keeps all.
Word: TypeAlias = Union[Addition, Note, Remark]


@attrs.define
class _Pieces:
    """The pieces, of which the new ones are still to be inserted."""

    connection: sqlite3.Connection
    _new: list[tuple[int, int, int, bytes]] = attrs.field(factory=list, init=False)

    def add(self, key: int, position: int, data: bytes, *, system: bool = False) -> None:
        self._new.append((key, position, system, data))

    def settle(self) -> sqlite3.Connection:
        """Insert the new ones; returns the connection, by which all can now be found."""
        bulk.insert(self.connection, "pieces (key, position, system, data)", self._new)
        self._new.clear()
        return self.connection


def write(connection: sqlite3.Connection, words: Sequence[Word]) -> list[Written]:
    """Write `words`, in their order; returns what became of each.

    What is there already of an addition is left out. Raises OutputGap when bytes are missing before one, unless they
    are exactly those that were given up.
    """
    streams = _find(connection, {word.stream: word.limit for word in reversed(words)})
    pieces, written, logs = _Pieces(connection), list[Written](), list[tuple[int, int, str, str]]()
    for word in words:
        stream, new = streams[word.stream], 0
        match word:
            case Addition():
                new = max(0, word.offset + word.size - max(word.offset, stream.length))
                streams[word.stream] = stream = _append(pieces, stream, word)
            case Note():
                streams[word.stream] = stream = _add_line(pieces, stream, word.text)
            case Remark():
                logs.append((stream.key, word.at_us, clean(word.level), clean(word.text)))
            case _:
                assert_never(word)
        written.append(Written(stream.length, new))
    pieces.settle()
    bulk.insert(connection, "logs (stream, at_us, level, text)", logs)
    bulk.insert(connection, f"streams ({_COLUMNS})", list(streams.values()), _OR_UPDATE)
    return written


def forget(connection: sqlite3.Connection, runs: Iterable[str]) -> int:
    """Delete all that is there of `runs`; returns how many streams that were."""
    keys = [
        (key,)
        for run in runs
        for (key,) in connection.execute("SELECT key FROM streams WHERE run = ?", [run]).fetchall()
    ]
    spans = [(key << INDEX_BITS, (key + 1) << INDEX_BITS) for (key,) in keys]
    connection.executemany("DELETE FROM pieces WHERE key >= ? AND key < ?", spans)
    connection.executemany("DELETE FROM logs WHERE stream = ?", keys)
    connection.executemany("DELETE FROM streams WHERE key = ?", keys)
    return len(keys)


def cut_text(size: int) -> str:
    return f"[SALTPETER: {size} bytes of output were cut here]"


# --- one stream -----------------------------------------------------------------------------------


_COLUMNS = ", ".join(_Stream._fields)
_FIND = f"""
    WITH wanted (run, machine, attempt) AS ({{rows}})
    SELECT {_COLUMNS} FROM wanted JOIN streams USING (run, machine, attempt)
"""  # noqa: S608  # names of ours
_CHANGING = ("length", "next_index", "tail_index", "tail_position", "dropped")
_OR_UPDATE = f"ON CONFLICT (key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _CHANGING)}"


def _find(connection: sqlite3.Connection, limits: Mapping[StreamName, int | None]) -> dict[StreamName, _Stream]:
    """The streams of these names; one that is not there begins, with its limit, once it is written."""
    rows = bulk.select(connection, _FIND, list(limits))
    streams = {StreamName(*row[:3]): _Stream(*row) for row in rows}
    if len(streams) < len(limits):
        [last] = connection.execute("SELECT coalesce(max(key), 0) FROM streams").fetchone()
        new = [name for name in limits if name not in streams]
        for key, name in enumerate(new, start=last + 1):
            streams[name] = _Stream(*name, key, limits[name])
    return streams


def _append(pieces: _Pieces, stream: _Stream, addition: Addition) -> _Stream:
    gap = addition.offset - stream.length
    if gap > 0:
        if gap != addition.cut:
            text = f"the output has {stream.length} bytes, these are from {addition.offset} on"
            raise OutputGap(f"{addition.stream}: {text}")
        stream = _add_line(pieces, stream, cut_text(gap))._replace(length=addition.offset)
    for portion in _portions(without(addition.data, max(0, -gap))):
        for chunk in _chunks(portion, stream):
            stream = _add(pieces, stream, chunk)
    if stream.output_limit is not None and stream.tail_index is not None:
        stream = _drop_middle(pieces, stream, stream.output_limit, stream.tail_index)
    return stream


def without(data: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The portions without their first `size` bytes."""
    for portion in data:
        if size < len(portion):
            yield portion[size:]
        size = max(0, size - len(portion))


def _portions(data: Iterable[bytes]) -> Iterator[bytes]:
    """Small ones put together."""
    small, size = list[bytes](), 0
    for portion in data:
        if size + len(portion) > MAX_PIECE:
            yield b"".join(small)
            small, size = [], 0
        small.append(portion)
        size += len(portion)
    yield b"".join(small)


def _chunks(data: bytes, stream: _Stream) -> Iterator[bytes]:
    """Cut `data` into pieces of a bearable size, one of which ends where the half that is kept ends."""
    head_end = 0 if stream.head is None else max(0, stream.head - stream.length)
    for part in (data[:head_end], data[head_end:]):
        for start in range(0, len(part), MAX_PIECE):
            yield part[start : start + MAX_PIECE]


def _add(pieces: _Pieces, stream: _Stream, data: bytes) -> _Stream:
    if stream.tail_index is None and stream.head is not None and stream.length >= stream.head:
        stream = stream._replace(tail_index=stream.next_index, tail_position=stream.length)
    pieces.add(stream.piece_key(stream.next_index), stream.length, data)
    return stream._replace(length=stream.length + len(data), next_index=stream.next_index + 1)


def _add_line(pieces: _Pieces, stream: _Stream, text: str) -> _Stream:
    line = _line(pieces.settle(), stream, stream.next_index, text)
    pieces.add(stream.piece_key(stream.next_index), stream.length, line, system=True)
    return stream._replace(next_index=stream.next_index + 1)


def _line(connection: sqlite3.Connection, stream: _Stream, index: int, text: str) -> bytes:
    """`text` as a line by itself before `index`, also where the command stopped in the middle of one."""
    row = connection.execute(
        "SELECT substr(data, -1) FROM pieces WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT 1",
        [stream.piece_key(0), stream.piece_key(index)],
    ).fetchone()
    return (b"" if row is None or row[0] == b"\n" else b"\n") + clean(text).encode() + b"\n"


def _drop_middle(pieces: _Pieces, stream: _Stream, limit: int, tail_index: int) -> _Stream:
    """Leave out the pieces between the two halves; a mark in their place says how many bytes they were."""
    connection = pieces.settle()
    keep_from = stream.length - (limit - limit // 2)
    marked = stream.dropped > 0  # then the mark stands at tail_index, and what is left of the tail follows
    doomed, kept_from = _pieces_before(connection, stream, tail_index + marked, keep_from)
    if not doomed:
        return stream
    connection.execute("DELETE FROM pieces WHERE key BETWEEN ? AND ?", [stream.piece_key(tail_index), doomed[-1]])
    dropped = kept_from - (stream.tail_position or 0)
    line = _line(pieces.settle(), stream, tail_index, cut_text(dropped))
    pieces.add(stream.piece_key(tail_index), stream.tail_position or 0, line, system=True)
    return stream._replace(dropped=dropped)


def _pieces_before(connection: sqlite3.Connection, stream: _Stream, first: int, position: int) -> tuple[list[int], int]:
    """The keys of the pieces from index `first` on that end by `position`, and where the next one begins."""
    rows = connection.execute(
        "SELECT key, position, iif(system, 0, length(data)) FROM pieces WHERE key >= ? AND key < ? ORDER BY key",
        [stream.piece_key(first), stream.piece_key(stream.next_index)],
    )
    keys: list[int] = []
    for key, begin, size in rows:
        if begin + size > position:
            return keys, begin
        keys.append(key)
    return keys, stream.length
