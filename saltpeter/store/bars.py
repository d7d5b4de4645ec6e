"""Jobs over a span of time: what each has in it. Plain functions of a reading connection.

They cost in proportion to the jobs, and to what is told of them, by index; runs that nobody asks for are not touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from saltpeter.domain.events import Reason
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Active, Bar, Bars, Passed
from saltpeter.store.codec import from_us, to_us
from saltpeter.store.history import FAILED

MOST = 10_000  # bars, or stretches of slots, that are told at once
_EARLIER = 8  # runs of a job before the span that are looked at: one that is older than these and lives is not seen

_FIRST = """
    SELECT name, (SELECT min(started_us) FROM runs WHERE job = jobs.key AND started_us >= ?1 AND started_us < ?2),
        (SELECT max(ended_us IS NULL OR ended_us >= ?1) FROM (
            SELECT ended_us FROM runs WHERE job = jobs.key AND started_us < ?1 ORDER BY started_us DESC LIMIT ?3
        )),
        (SELECT first_us < ?2 FROM passed WHERE job = jobs.key AND last_us >= ?1 ORDER BY last_us LIMIT 1)
    FROM jobs
"""
_BAD = f"""
    SELECT name FROM jobs
    WHERE EXISTS (SELECT 1 FROM runs WHERE job = jobs.key AND {FAILED} AND started_us >= ? AND started_us < ?)
"""  # noqa: S608  # texts of this module, here and below
_GROUPED = f"""
    SELECT began_us, nullif(until_us, {2**62}), runs, failed, run, verdict FROM (
        SELECT min(started_us) AS began_us, max(coalesce(ended_us, {2**62})) AS until_us, count(*) AS runs,
            sum(coalesce({FAILED}, FALSE)) AS failed,
            coalesce(max(CASE WHEN {FAILED} THEN key END), max(key)) AS shown
        FROM runs WHERE job = ? AND started_us >= ? AND started_us < ? GROUP BY started_us / ?
    ) JOIN runs ON runs.key = shown ORDER BY began_us
"""  # noqa: S608  texts and numbers of ours
_BEFORE = f"""
    SELECT started_us, ended_us, 1, coalesce({FAILED}, FALSE), run, verdict FROM (
        SELECT * FROM runs WHERE job = ?1 AND started_us < ?2 ORDER BY started_us DESC LIMIT ?3
    ) WHERE ended_us IS NULL OR ended_us >= ?2 ORDER BY started_us
"""  # noqa: S608  texts and numbers of ours
_PASSED = """
    SELECT first_us, last_us, slots, reason, text, at_us FROM passed
    WHERE job = ? AND last_us >= ? AND first_us < ? ORDER BY last_us LIMIT ?
"""


def active(connection: sqlite3.Connection, since: datetime, until: datetime) -> dict[str, Active]:
    """The jobs that have anything in [since, until)."""
    span = (to_us(since), to_us(until))
    bad = {name for (name,) in connection.execute(_BAD, span)}
    return {
        name: Active(from_us(span[0] if reaches_in else first_us), name in bad, bool(passed))
        for name, first_us, reaches_in, passed in connection.execute(_FIRST, [*span, _EARLIER])
        if first_us is not None or reaches_in or passed
    }


def bars(
    connection: sqlite3.Connection, jobs: Sequence[str], since: datetime, until: datetime, grain: timedelta
) -> Bars:
    """See `saltpeter.engine.storage.History.bars`."""
    span = (to_us(since), to_us(until))
    grain_us = max(grain // timedelta(microseconds=1), 1)
    found: list[Bar] = []
    passed: list[Passed] = []
    for job in jobs:
        row = connection.execute("SELECT key FROM jobs WHERE name = ?", [job]).fetchone()
        if row is None:
            continue
        for query, values in ((_BEFORE, (span[0], _EARLIER)), (_GROUPED, (*span, grain_us))):
            found += [_bar(job, each) for each in connection.execute(query, [row[0], *values])]
        passed += [_passed(job, each) for each in connection.execute(_PASSED, [row[0], *span, MOST + 1])]
        if max(len(found), len(passed)) > MOST:
            return Bars(found[:MOST], passed[:MOST], complete=False)
    return Bars(found, passed, complete=True)


def _bar(job: str, row: tuple[Any, ...]) -> Bar:
    began_us, ended_us, runs, failed, run, verdict = row
    ended_as = None if verdict is None else Verdict(verdict)
    return Bar(job, from_us(began_us), from_us(ended_us), runs, failed, run, ended_as)


def _passed(job: str, row: tuple[Any, ...]) -> Passed:
    first_us, last_us, slots, reason, text, at_us = row
    return Passed(job, from_us(first_us), from_us(last_us), slots, Reason(reason), text, from_us(at_us))
