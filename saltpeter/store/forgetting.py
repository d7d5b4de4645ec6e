"""What of the ledger is too old to keep. Plain functions of a connection, each cheap enough for one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING

import attrs

from saltpeter.store.codec import day, from_us, to_us
from saltpeter.store.schema import pragma

if TYPE_CHECKING:
    from saltpeter.domain.job import Retention

MAX_ROWS = 2000  # deleted in one go, more or less: some tens of milliseconds
_SPARE = 0.95  # of its bytes a ledger that has grown too large keeps, so that it is not cut again at once


@attrs.frozen
class Cut:
    """All before `before_us` is to be forgotten: of the job with that key, or of every job."""

    before_us: int
    job: int | None = None


@attrs.frozen
class Cuts:
    runs: tuple[Cut, ...]  # by their start
    passed: tuple[Cut, ...]  # by their last slot


@attrs.frozen
class Doomed:
    """A run that is to be forgotten."""

    key: int
    run: str
    day: str


@attrs.frozen
class _Kind:
    """A table whose rows grow old, and the column that says how old."""

    table: str
    at: str


_RUNS = _Kind("runs", "started_us")
_PASSED = _Kind("passed", "last_us")

# A run that lives is not touched, and of each job the last result stays.
_CANDIDATES = """
    SELECT key, run, started_us, (SELECT count(*) FROM executions WHERE executions.run = runs.key) FROM runs
"""
_MAY_GO = "ended_us IS NOT NULL AND key NOT IN (SELECT last_run FROM jobs WHERE last_run IS NOT NULL)"


def first_day(policy: Retention, at: datetime) -> datetime | None:
    """The beginning of the oldest day (UTC) that is kept; None when age does not matter."""
    if policy.days is None:
        return None
    return datetime.combine(at.astimezone(timezone.utc) - timedelta(days=policy.days), time(), timezone.utc)


def cuts(connection: sqlite3.Connection, policy: Retention, at: datetime) -> Cuts:
    """What `policy` asks for at `at`."""
    share = 1.0 if policy.bytes is None else policy.bytes / 2 / max(1, used(connection))
    return Cuts(*(tuple(_cuts_of(connection, kind, policy, at, share)) for kind in (_RUNS, _PASSED)))


def used(connection: sqlite3.Connection) -> int:
    """Bytes of the database that hold something."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def living_days(connection: sqlite3.Connection) -> frozenset[str]:
    """The days on which the runs started that have not ended."""
    rows = connection.execute("SELECT started_us FROM runs WHERE ended_us IS NULL")
    return frozenset(day(from_us(started_us)) for (started_us,) in rows)


def count(connection: sqlite3.Connection, found: Cuts) -> tuple[int, int]:
    """How many runs and how many stretches of slots `found` would cost."""
    return (
        _count(connection, _RUNS, found.runs, _MAY_GO),
        _count(connection, _PASSED, found.passed, "TRUE"),
    )


def doomed(connection: sqlite3.Connection, cut: Cut) -> list[Doomed]:
    """The oldest runs before `cut`, so many that they are about MAX_ROWS rows."""
    condition, values = _before(_RUNS, cut)
    query = f"{_CANDIDATES} WHERE {condition} AND {_MAY_GO} ORDER BY started_us LIMIT ?"
    rows = connection.execute(query, [*values, MAX_ROWS])
    found: list[Doomed] = []
    cost = 0
    for key, run, started_us, executions in rows:
        found.append(Doomed(key, run, day(from_us(started_us))))
        cost += 1 + executions
        if cost >= MAX_ROWS:
            break
    return found


def forget(connection: sqlite3.Connection, runs: Sequence[Doomed]) -> None:
    """Delete `runs` with all that belongs to them."""
    connection.executemany("DELETE FROM runs WHERE key = ? AND ended_us IS NOT NULL", [(each.key,) for each in runs])


def forget_passed(connection: sqlite3.Connection, cut: Cut) -> int:
    """Delete up to MAX_ROWS stretches of slots before `cut`; returns how many it were."""
    condition, values = _before(_PASSED, cut)
    return connection.execute(
        f"DELETE FROM passed WHERE key IN (SELECT key FROM passed WHERE {condition} LIMIT ?)",  # noqa: S608  texts and numbers of ours
        [*values, MAX_ROWS],
    ).rowcount


def forget_lives(connection: sqlite3.Connection, before: datetime) -> None:
    """Forget the daemons that were last seen before `before`, but for the newest of all."""
    newest = "SELECT max(key) FROM lives"
    connection.execute(
        f"DELETE FROM lives WHERE seen_us < ? AND key <> ({newest})",  # noqa: S608  texts and numbers of ours
        [to_us(before)],
    )


def forget_machines(connection: sqlite3.Connection, before: datetime) -> None:
    """Forget the machines on which nothing has ended since `before`."""
    connection.execute("DELETE FROM machines WHERE ended_us < ?", [to_us(before)])


# The names of tables and columns, and the conditions, are texts of this module.


def _cuts_of(
    connection: sqlite3.Connection, kind: _Kind, policy: Retention, at: datetime, share: float
) -> Iterator[Cut]:
    if (oldest := first_day(policy, at)) is not None:
        yield Cut(to_us(oldest))
    if share < 1:
        [rows] = connection.execute(f"SELECT count(*) FROM {kind.table}").fetchone()  # noqa: S608  texts and numbers of ours
        yield from _cut_at(connection, kind, "ASC", int(rows * (1 - share * _SPARE)))
    if policy.runs_per_job is not None:
        crowded = connection.execute(
            f"SELECT job FROM {kind.table} GROUP BY job HAVING count(*) > ?",  # noqa: S608  texts and numbers of ours
            [policy.runs_per_job],
        ).fetchall()
        for (job,) in crowded:
            yield from _cut_at(connection, kind, "DESC", policy.runs_per_job - 1, job)


def _cut_at(
    connection: sqlite3.Connection, kind: _Kind, direction: str, offset: int, job: int | None = None
) -> Iterator[Cut]:
    """The cut before the row at `offset`, if there is one."""
    condition = "TRUE" if job is None else "job = ?"
    row = connection.execute(
        f"SELECT {kind.at} FROM {kind.table} WHERE {condition} ORDER BY {kind.at} {direction} LIMIT 1 OFFSET ?",  # noqa: S608  texts and numbers of ours
        [*([] if job is None else [job]), offset],
    ).fetchone()
    if row is not None:
        yield Cut(row[0], job)


def _before(kind: _Kind, cut: Cut) -> tuple[str, list[int]]:
    if cut.job is None:
        return f"{kind.at} < ?", [cut.before_us]
    return f"{kind.at} < ? AND job = ?", [cut.before_us, cut.job]


def _count(connection: sqlite3.Connection, kind: _Kind, found: Sequence[Cut], may_go: str) -> int:
    """Rows that any of the cuts is for, each once."""
    if not found:
        return 0
    conditions, values = [], []
    for cut in found:
        condition, its_values = _before(kind, cut)
        conditions.append(f"({condition})")
        values += its_values
    query = f"SELECT count(*) FROM {kind.table} WHERE {may_go} AND ({' OR '.join(conditions)})"  # noqa: S608  texts and numbers of ours
    [rows] = connection.execute(query, values).fetchone()
    return int(rows)
