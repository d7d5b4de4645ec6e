"""Is a database sound? One that is not is put aside and replaced, and what can still be read of it is taken over."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store.places import Places, noted_damage, put_aside, size_of
from saltpeter.store.schema import LEDGER, OUTPUT, connect, connect_for_reading

log = logging.getLogger(__name__)

CHECK_S = 3.0  # for each file that is looked at; what was sound until then is taken to be sound
RESCUE_S = 30.0  # for reading what is left of a damaged ledger
SMALL = 32 * 1024**2  # bytes; so much is checked in full, the indexes against their tables too
NEWEST = 2  # days of output that are looked at: those still written to

# "malformed" alone is said of JSON, too, which is no fault of the file's.
_SIGNS_OF_DAMAGE = ("disk image is malformed", "malformed database schema", "not a database")

# Ascending from what others refer to.
_TABLES = ("jobs", "runs", "launches", "executions", "kills", "holds", "passed", "lives")


def make_sure_of(places: Places, at: datetime, version: str) -> None:
    """Have a usable ledger, and no damaged output where more will be written.

    Takes a few seconds at most, but for reading a damaged ledger. Raises StoreError for a file of a newer
    saltpeter, sqlite3.Error and OSError for one that cannot be used though nothing is known to be wrong with it.
    """
    if found := noted_damage(places.ledger) or damage(places.ledger):
        aside = replace(places.ledger, found, at)
        with closing(connect(places.ledger, LEDGER, version)) as fresh:
            rows = rescue(aside, fresh)
        log.warning("%d rows of the old ledger could be read and are kept", rows, extra=fields("store.rescued"))
    else:
        connect(places.ledger, LEDGER, version).close()
    for partition in places.partitions()[-NEWEST:]:
        if found := damage(partition.path):
            replace(partition.path, found, at)
        else:
            connect(partition.path, OUTPUT, version).close()


def is_damage(error: Exception) -> bool:
    """Does `error` say that the file is broken, and not just that it cannot be written now?"""
    return isinstance(error, sqlite3.DatabaseError) and any(sign in str(error) for sign in _SIGNS_OF_DAMAGE)


def damage(path: Path, within_s: float = CHECK_S) -> str:
    """What is wrong with the database; "" where nothing was found in time, or there is none. Raises sqlite3.Error."""
    if not path.exists():
        return ""
    try:
        with closing(connect_for_reading(path)) as connection, limited(connection, within_s):
            check = "integrity_check(1)" if size_of(path) <= SMALL else "quick_check(1)"
            [said] = connection.execute(f"PRAGMA {check}").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return ""
        raise
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise
    return "" if said == "ok" else str(said)


def replace(path: Path, found: str, at: datetime) -> Path:
    """Put the damaged database aside; whoever opens `path` next makes a new one. Returns where the old one is."""
    aside = put_aside(path, at)
    tell_replaced(path, found, aside)
    return aside


def tell_replaced(path: Path, found: str, aside: Path) -> None:
    """Say in the log that a new file takes the place of the one that is `aside` now."""
    log.error(
        "%s is damaged (%s); it is now %s, and a new one takes its place",
        path,
        found,
        aside.name,
        extra=fields("store.corrupt", path=str(path), kept_as=str(aside), damage=found),
    )


def give_up(path: Path, found: str) -> StoreError:
    """The error to end with when a database that nothing can replace meanwhile is damaged: the next start does."""
    text = "%s is damaged (%s); the daemon ends, and at its next start a new one takes its place"
    log.critical(text, path, found, extra=fields("store.damaged", path=str(path), damage=found))
    return StoreError(f"{path} is damaged ({found}): start the daemon again, and it begins a new one")


def rescue(damaged: Path, fresh: sqlite3.Connection, within_s: float = RESCUE_S) -> int:
    """Copy every row of the ledger `damaged` that can be read and makes sense; returns how many."""
    fresh.execute("PRAGMA foreign_keys = OFF")
    fresh.execute("BEGIN")
    rows = 0
    try:
        with closing(connect_for_reading(damaged)) as source, limited(source, within_s):
            rows = sum(_rescue_table(source, fresh, table) for table in _TABLES)
    except sqlite3.Error as error:
        log.warning("Cannot read the rest of %s: %s", damaged, error, extra=fields("store.unreadable"))
    rows -= _drop_the_unattached(fresh)
    fresh.execute("COMMIT")
    return rows


# The names of tables and columns below are those of our own schema.


def _rescue_table(source: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> int:
    known = _columns(source, table)
    columns = [column for column in _columns(fresh, table) if column in known]
    marks = ", ".join("?" for _ in columns)
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  texts and numbers of ours
    added = 0
    for row in _readable(source, table, columns) if columns else ():
        try:
            added += fresh.execute(insert, row).rowcount
        except sqlite3.IntegrityError:  # the damage is in this row
            continue
    return added


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _readable(source: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """The rows from the newest back to the damage, and then from the oldest up to it."""
    for direction in ("DESC", "ASC"):
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid {direction}"  # noqa: S608  texts and numbers of ours
        try:
            yield from source.execute(query)
            return
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            continue


def _drop_the_unattached(fresh: sqlite3.Connection) -> int:
    """What referred to rows that are lost: no run without its job, nothing without its run."""
    fresh.execute("UPDATE jobs SET last_run = NULL WHERE last_run NOT IN (SELECT key FROM runs)")
    gone = fresh.execute("DELETE FROM runs WHERE job NOT IN (SELECT key FROM jobs)").rowcount
    gone += fresh.execute("DELETE FROM passed WHERE job NOT IN (SELECT key FROM jobs)").rowcount
    for table in ("launches", "executions", "kills"):
        gone += fresh.execute(f"DELETE FROM {table} WHERE run NOT IN (SELECT key FROM runs)").rowcount  # noqa: S608  texts and numbers of ours
    return gone


@contextmanager
def limited(connection: sqlite3.Connection, within_s: float) -> Iterator[None]:
    """What `connection` still does after `within_s` seconds ends as "interrupted"."""
    # not by SQLite's own progress handler: a check of one large table is one step to it
    timer = threading.Timer(within_s, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
