"""What became of a slot: a plain function of a reading connection, which costs a few seeks."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import TypeAlias

from saltpeter.domain.events import Reason
from saltpeter.engine.storage import Answer, Downtime, Passed
from saltpeter.store.codec import from_us, to_us
from saltpeter.store.history import find_run

# Each asks for the nearest on one side, by an index.
_RUNS = (
    "SELECT run, slot_us FROM runs WHERE job = ?1 AND slot_us <= ?2 ORDER BY slot_us DESC LIMIT 1",
    "SELECT run, slot_us FROM runs WHERE job = ?1 AND slot_us > ?2 ORDER BY slot_us LIMIT 1",
    "SELECT run, started_us FROM runs WHERE job = ?1 AND slot_us IS NULL AND started_us <= ?2"
    " ORDER BY started_us DESC LIMIT 1",
    "SELECT run, started_us FROM runs WHERE job = ?1 AND slot_us IS NULL AND started_us > ?2"
    " ORDER BY started_us LIMIT 1",
)
_COLUMNS = "first_us, last_us, slots, reason, text, at_us"
_PASSED = (
    f"SELECT {_COLUMNS} FROM passed WHERE job = ?1 AND last_us >= ?2 ORDER BY last_us, key DESC LIMIT 1",  # noqa: S608  texts and numbers of ours
    f"SELECT {_COLUMNS} FROM passed WHERE job = ?1 AND last_us < ?2 ORDER BY last_us DESC, key DESC LIMIT 1",  # noqa: S608  texts and numbers of ours
)


_Row: TypeAlias = tuple[int, int, int, str, str, int]


def answer(connection: sqlite3.Connection, job: str, at: datetime) -> Answer:
    """What is known of the slot of `job` at `at`, or of the nearest one to it; see `Answer`."""
    row = connection.execute("SELECT key FROM jobs WHERE name = ?", [job]).fetchone()
    at_us = to_us(at)
    near: list[tuple[int, str | _Row]] = []
    if row is not None:
        near += _near_runs(connection, row[0], at_us)
        near += _near_passed(connection, row[0], at_us)
    if not near:
        return Answer(down=downtime(connection, at))
    slot_us, found = min(near, key=lambda each: abs(each[0] - at_us))
    slot = from_us(slot_us)
    down = downtime(connection, at) or _known(downtime(connection, slot))
    if isinstance(found, str):
        return Answer(slot=slot, run=find_run(connection, found), down=down)
    first_us, last_us, slots, reason, text, decided_us = found
    passed = Passed(job, from_us(first_us), from_us(last_us), slots, Reason(reason), text, from_us(decided_us))
    return Answer(slot=slot, passed=passed, down=down)


def downtime(connection: sqlite3.Connection, at: datetime) -> Downtime | None:
    """The time without a daemon that `at` fell into; None where one was there, or nothing is known yet."""
    # the clock may have been set back between two lives, so they are asked by time and not by key
    [since_us] = connection.execute("SELECT max(seen_us) FROM lives WHERE started_us <= ?", [to_us(at)]).fetchone()
    if since_us is not None and since_us >= to_us(at):
        return None
    [until_us] = connection.execute("SELECT min(started_us) FROM lives WHERE started_us > ?", [to_us(at)]).fetchone()
    return None if until_us is None else Downtime(since=from_us(since_us), until=from_us(until_us))


def _known(down: Downtime | None) -> Downtime | None:
    """Not the time before the first daemon that left a mark, for that explains nothing about a slot."""
    return None if down is None or down.since is None else down


def _near_runs(connection: sqlite3.Connection, job: int, at_us: int) -> list[tuple[int, str]]:
    """Of the runs by schedule and of those by hand, the nearest before and after, with their instants."""
    rows = [connection.execute(query, [job, at_us]).fetchone() for query in _RUNS]
    return [(row[1], row[0]) for row in rows if row is not None]


def _near_passed(connection: sqlite3.Connection, job: int, at_us: int) -> list[tuple[int, _Row]]:
    """The nearest stretches of slots that did not run, each with its instant that is nearest."""
    rows = [connection.execute(query, [job, at_us]).fetchone() for query in _PASSED]
    return [(min(max(at_us, row[0]), row[1]), row) for row in rows if row is not None]
