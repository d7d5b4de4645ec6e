"""What commands wrote, byte for byte, beside what saltpeter and the wrappers had to say about it.

Plain functions of a connection, inside its transaction. A stream is one execution's output. Its pieces are
numbered, and each knows its position in all that the command wrote, so arriving twice changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.storage import LogLine, Piece
from saltpeter.errors import StoreRefused
from saltpeter.store.codec import clean, from_us, to_us

MAX_PIECE = 64 * 1024  # bytes
INDEX_BITS = 32  # of a piece's key; the others name its stream


class OutputGap(StoreRefused):
    """Bytes are missing before the ones to be added: the caller must send those first."""


@attrs.frozen
class _Stream:
    """A row of `streams`, under its columns' names."""

    key: int
    length: int
    next_index: int
    output_limit: int | None
    tail_index: int | None
    tail_position: int | None
    dropped: int

    @property
    def head(self) -> int | None:
        """How many bytes from the beginning are kept whatever follows."""
        return None if self.output_limit is None else self.output_limit // 2

    def piece_key(self, index: int) -> int:
        return (self.key << INDEX_BITS) + index


def open_stream(connection: sqlite3.Connection, execution: ExecutionId, limit: int) -> None:
    """From now on keep only the first and the last half of `limit` bytes. Has no effect on a stream that exists."""
    connection.execute(
        "INSERT INTO streams (run, machine, attempt, output_limit) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [execution.run, execution.machine, execution.attempt, limit],
    )


def append(connection: sqlite3.Connection, execution: ExecutionId, offset: int, data: bytes, cut: int) -> int:
    """Add what is new of `data`, the command's bytes from `offset` on; returns the length after that.

    Raises OutputGap when bytes are missing before `offset`, unless they are exactly `cut` that were given up.
    """
    stream = _find(connection, execution)
    gap = offset - stream.length
    if gap > 0:
        if gap != cut:
            raise OutputGap(f"{execution}: the output has {stream.length} bytes, these are from {offset} on")
        stream = attrs.evolve(_add_line(connection, stream, cut_text(gap)), length=offset)
    for chunk in _chunks(data[max(0, -gap) :], stream):
        stream = _add(connection, stream, chunk)
    if stream.output_limit is not None and stream.tail_index is not None:
        stream = _drop_middle(connection, stream, stream.output_limit, stream.tail_index)
    _save(connection, stream)
    return stream.length


def note(connection: sqlite3.Connection, execution: ExecutionId, text: str) -> None:
    """Add a line of saltpeter's own."""
    _save(connection, _add_line(connection, _find(connection, execution), text))


def log(connection: sqlite3.Connection, execution: ExecutionId, at: datetime, level: str, text: str) -> None:
    stream = _find(connection, execution)
    connection.execute(
        "INSERT INTO logs (stream, at_us, level, text) VALUES (?, ?, ?, ?)",
        [stream.key, to_us(at), clean(level), clean(text)],
    )


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


def oldest(connection: sqlite3.Connection, limit: int) -> list[tuple[str, int]]:
    """The runs that said something first, each with about as many bytes as are kept of it; at most `limit`."""
    kept = "sum(min(length - dropped, coalesce(output_limit, length)))"
    return connection.execute(
        f"SELECT run, {kept} FROM streams GROUP BY run ORDER BY min(key) LIMIT ?",  # noqa: S608  a text from above
        [limit],
    ).fetchall()


def cut_text(size: int) -> str:
    return f"[SALTPETER: {size} bytes of output were cut here]"


# --- reading --------------------------------------------------------------------------------------


def length(connection: sqlite3.Connection, execution: ExecutionId) -> int:
    row = connection.execute(
        "SELECT length FROM streams WHERE run = ? AND machine = ? AND attempt = ?", attrs.astuple(execution)
    ).fetchone()
    return 0 if row is None else int(row[0])


def lengths(connection: sqlite3.Connection, run: str) -> dict[ExecutionId, int]:
    rows = connection.execute("SELECT machine, attempt, length FROM streams WHERE run = ?", [run])
    return {ExecutionId(run, machine, attempt): size for machine, attempt, size in rows}


def pieces(connection: sqlite3.Connection, execution: ExecutionId, first: int, limit: int) -> list[Piece]:
    """Pieces from index `first` on. Numbers are missing where the middle was left out; a mark stands there."""
    rows = connection.execute(
        "SELECT pieces.key - (streams.key << ?1), data, system FROM streams JOIN pieces"
        " ON pieces.key >= (streams.key << ?1) + ?2 AND pieces.key < (streams.key + 1) << ?1"
        " WHERE run = ?3 AND machine = ?4 AND attempt = ?5 ORDER BY pieces.key LIMIT ?6",
        [INDEX_BITS, first, *attrs.astuple(execution), limit],
    )
    return [Piece(index, data, bool(system)) for index, data, system in rows]


def logs(connection: sqlite3.Connection, execution: ExecutionId) -> list[LogLine]:
    rows = connection.execute(
        "SELECT at_us, level, text FROM logs JOIN streams ON streams.key = logs.stream"
        " WHERE run = ? AND machine = ? AND attempt = ? ORDER BY logs.key",
        attrs.astuple(execution),
    )
    return [LogLine(from_us(at_us), level, text) for at_us, level, text in rows]


# --- one stream -----------------------------------------------------------------------------------


def _find(connection: sqlite3.Connection, execution: ExecutionId) -> _Stream:
    """The execution's stream, begun if this is the first of it."""
    query = (
        "SELECT key, length, next_index, output_limit, tail_index, tail_position, dropped FROM streams"
        " WHERE run = ? AND machine = ? AND attempt = ?"
    )
    row = connection.execute(query, attrs.astuple(execution)).fetchone()
    if row is None:
        connection.execute("INSERT INTO streams (run, machine, attempt) VALUES (?, ?, ?)", attrs.astuple(execution))
        row = connection.execute(query, attrs.astuple(execution)).fetchone()
    return _Stream(*row)


def _save(connection: sqlite3.Connection, stream: _Stream) -> None:
    connection.execute(
        "UPDATE streams SET length = ?, next_index = ?, tail_index = ?, tail_position = ?, dropped = ? WHERE key = ?",
        [stream.length, stream.next_index, stream.tail_index, stream.tail_position, stream.dropped, stream.key],
    )


def _chunks(data: bytes, stream: _Stream) -> Iterator[bytes]:
    """Cut `data` into pieces of a bearable size, one of which ends where the half that is kept ends."""
    head_end = 0 if stream.head is None else max(0, stream.head - stream.length)
    for part in (data[:head_end], data[head_end:]):
        for start in range(0, len(part), MAX_PIECE):
            yield part[start : start + MAX_PIECE]


def _add(connection: sqlite3.Connection, stream: _Stream, data: bytes) -> _Stream:
    if stream.tail_index is None and stream.head is not None and stream.length >= stream.head:
        stream = attrs.evolve(stream, tail_index=stream.next_index, tail_position=stream.length)
    _insert(connection, stream.piece_key(stream.next_index), stream.length, data)
    return attrs.evolve(stream, length=stream.length + len(data), next_index=stream.next_index + 1)


def _add_line(connection: sqlite3.Connection, stream: _Stream, text: str) -> _Stream:
    line = _line(connection, stream, stream.next_index, text)
    _insert(connection, stream.piece_key(stream.next_index), stream.length, line, system=True)
    return attrs.evolve(stream, next_index=stream.next_index + 1)


def _line(connection: sqlite3.Connection, stream: _Stream, index: int, text: str) -> bytes:
    """`text` as a line by itself before `index`, also where the command stopped in the middle of one."""
    row = connection.execute(
        "SELECT substr(data, -1) FROM pieces WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT 1",
        [stream.piece_key(0), stream.piece_key(index)],
    ).fetchone()
    return (b"" if row is None or row[0] == b"\n" else b"\n") + clean(text).encode() + b"\n"


def _insert(connection: sqlite3.Connection, key: int, position: int, data: bytes, *, system: bool = False) -> None:
    connection.execute(
        "INSERT INTO pieces (key, position, system, data) VALUES (?, ?, ?, ?)", [key, position, system, data]
    )


def _drop_middle(connection: sqlite3.Connection, stream: _Stream, limit: int, tail_index: int) -> _Stream:
    """Leave out the pieces between the two halves; a mark in their place says how many bytes they were."""
    keep_from = stream.length - (limit - limit // 2)
    marked = stream.dropped > 0  # then the mark stands at tail_index, and what is left of the tail follows
    doomed, kept_from = _pieces_before(connection, stream, tail_index + marked, keep_from)
    if not doomed:
        return stream
    connection.execute("DELETE FROM pieces WHERE key BETWEEN ? AND ?", [stream.piece_key(tail_index), doomed[-1]])
    dropped = kept_from - (stream.tail_position or 0)
    line = _line(connection, stream, tail_index, cut_text(dropped))
    _insert(connection, stream.piece_key(tail_index), stream.tail_position or 0, line, system=True)
    return attrs.evolve(stream, dropped=dropped)


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
