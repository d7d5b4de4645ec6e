"""Many rows with few statements, each of which costs about as much again whatever it does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, Union

Value: TypeAlias = Union[str, bytes, int, float, None]

MOST = 64  # rows of one statement; SQLite 3.34 takes 32,766 values


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Value]], conflict: str = "") -> None:
    """Insert `rows`, which are equally long; `into` and `conflict` are the text around them."""
    for values, portion in _portions(rows):
        connection.execute(f"INSERT INTO {into} {values} {conflict}", list(chain.from_iterable(portion)))


def select(connection: sqlite3.Connection, query: str, rows: Sequence[Sequence[Value]]) -> list[tuple[Any, ...]]:
    """What `query` finds with `{rows}` replaced by them, a portion at a time."""
    return [
        found
        for values, portion in _portions(rows)
        for found in connection.execute(query.format(rows=values), list(chain.from_iterable(portion)))
    ]


def _portions(rows: Sequence[Sequence[Value]]) -> Iterator[tuple[str, Sequence[Sequence[Value]]]]:
    """Cut into powers of two, so that the texts are few: each is prepared once, and kept."""
    begin, size = 0, MOST
    while begin < len(rows):
        while size > len(rows) - begin:
            size //= 2
        row = f"({','.join('?' * len(rows[begin]))})"
        yield f"VALUES {','.join([row] * size)}", rows[begin : begin + size]
        begin += size
