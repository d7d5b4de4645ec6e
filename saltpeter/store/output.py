"""Reading what commands wrote, and what was said about it: see `streams`. Plain functions of a reading connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.state import ExecutionState
from saltpeter.engine.storage import LogLine, Piece
from saltpeter.store.codec import from_us
from saltpeter.store.streams import INDEX_BITS, StreamName

# By run, machine and attempt: of thousands, their ids would take longer to make and to look up.
Lengths: TypeAlias = Mapping[tuple[str, str, int], int]


def name_of(execution: ExecutionId) -> StreamName:
    return StreamName(execution.run, execution.machine, execution.attempt)


def length(connection: sqlite3.Connection, execution: ExecutionId) -> int:
    row = connection.execute(
        "SELECT length FROM streams WHERE run = ? AND machine = ? AND attempt = ?", name_of(execution)
    ).fetchone()
    return 0 if row is None else int(row[0])


def lengths(connection: sqlite3.Connection, runs: Iterable[str]) -> Lengths:
    """What each execution of `runs` wrote."""
    query = "SELECT machine, attempt, length FROM streams WHERE run = ?"
    return {
        (run, machine, attempt): size for run in runs for machine, attempt, size in connection.execute(query, [run])
    }


def set_lengths(executions: Iterable[ExecutionState], lengths: Lengths) -> None:
    """`executions` were made anew, so nothing is to be done where nothing was written."""
    for execution in executions if lengths else ():
        id = execution.id
        execution.output_length = lengths.get((id.run, id.machine, id.attempt), 0)


def pieces(connection: sqlite3.Connection, execution: ExecutionId, first: int, limit: int) -> list[Piece]:
    """Pieces from index `first` on. Numbers are missing where the middle was left out; a mark stands there."""
    rows = connection.execute(
        "SELECT pieces.key - (streams.key << ?1), data, system FROM streams JOIN pieces"
        " ON pieces.key >= (streams.key << ?1) + ?2 AND pieces.key < (streams.key + 1) << ?1"
        " WHERE run = ?3 AND machine = ?4 AND attempt = ?5 ORDER BY pieces.key LIMIT ?6",
        [INDEX_BITS, first, *name_of(execution), limit],
    )
    return [Piece(index, data, bool(system)) for index, data, system in rows]


def logs(connection: sqlite3.Connection, execution: ExecutionId) -> list[LogLine]:
    rows = connection.execute(
        "SELECT at_us, level, text FROM logs JOIN streams ON streams.key = logs.stream"
        " WHERE run = ? AND machine = ? AND attempt = ? ORDER BY logs.key",
        name_of(execution),
    )
    return [LogLine(from_us(at_us), level, text) for at_us, level, text in rows]


def oldest(connection: sqlite3.Connection, limit: int) -> list[tuple[str, int]]:
    """The runs that said something first, each with about as many bytes as are kept of it; at most `limit`."""
    kept = "sum(min(length - dropped, coalesce(output_limit, length)))"
    return connection.execute(
        f"SELECT run, {kept} FROM streams GROUP BY run ORDER BY min(key) LIMIT ?",  # noqa: S608  a text from above
        [limit],
    ).fetchall()
