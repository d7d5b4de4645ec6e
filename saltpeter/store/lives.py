"""When a daemon was there, so that a gap is known for what it was."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import trio

from saltpeter.engine.storage import Downtime
from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store.codec import from_us, to_us

log = logging.getLogger(__name__)

MARK_EVERY_S = 30.0
_LAST_WORD_S = 3.0


class Diary(Protocol):
    """The part of the store that is written here."""

    async def seen(self, at: datetime, *, ending: bool = False) -> None: ...


async def live(
    diary: Diary, now: Callable[[], datetime], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """The service: write down that this daemon is there, until it is cancelled. A full disk does not end it."""
    await _mark(diary, now())
    task_status.started()
    try:
        while True:
            await trio.sleep(MARK_EVERY_S)
            await _mark(diary, now())
    finally:
        with trio.move_on_after(_LAST_WORD_S, shield=True):
            await _mark(diary, now(), ending=True)


async def _mark(diary: Diary, at: datetime, *, ending: bool = False) -> None:
    try:
        await diary.seen(at, ending=ending)
    except StoreError as error:
        log.debug("Could not write down that the daemon lives: %s", error, extra=fields("store.failed"))


# --- in the ledger --------------------------------------------------------------------------------


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


def downtime(connection: sqlite3.Connection, at: datetime) -> Downtime | None:
    """The time without a daemon that `at` fell into; None where one was there, or nothing is known yet."""
    # the clock may have been set back between two lives, so they are asked by time and not by key
    [since_us] = connection.execute("SELECT max(seen_us) FROM lives WHERE started_us <= ?", [to_us(at)]).fetchone()
    if since_us is not None and since_us >= to_us(at):
        return None
    [until_us] = connection.execute("SELECT min(started_us) FROM lives WHERE started_us > ?", [to_us(at)]).fetchone()
    return None if until_us is None else Downtime(since=from_us(since_us), until=from_us(until_us))
