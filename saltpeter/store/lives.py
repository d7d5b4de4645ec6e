"""When a daemon was there, so that a gap is known for what it was. Plain functions of a connection."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from saltpeter.store.codec import to_us


def see(connection: sqlite3.Connection, life: int | None, at: datetime, *, ending: bool = False) -> int:
    """The daemon of `life` lives at `at`, or begins to if `life` is None; returns the key of its life.

    One that is `ending` stops in order then.
    """
    key = _begin(connection, at) if life is None else life
    mark(connection, key, at)
    if ending:
        connection.execute("UPDATE lives SET ended_us = seen_us WHERE key = ?", [key])
    return key


def _begin(connection: sqlite3.Connection, at: datetime) -> int:
    cursor = connection.execute("INSERT INTO lives (started_us, seen_us) VALUES (?, ?)", [to_us(at), to_us(at)])
    key: int | None = cursor.lastrowid
    assert key is not None, "an INSERT that raised nothing made a row"  # noqa: S101  for the type only
    return key


def mark(connection: sqlite3.Connection, life: int, at: datetime) -> None:
    connection.execute("UPDATE lives SET seen_us = max(seen_us, ?) WHERE key = ?", [to_us(at), life])
