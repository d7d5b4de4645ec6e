"""Many runs at a glance: how many machines, and when each began and ended. Plain functions of a connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.storage import Stretch, Tally
from saltpeter.store.codec import from_us, to_us
from saltpeter.store.rules import LATEST

_TALLIES = """
    SELECT run, ran_on, failed_on FROM runs WHERE run IN (SELECT value FROM json_each(?)) AND ran_on > 0
"""
_COUNTED = f"""
    SELECT count(*), sum(failed) FROM ({LATEST.format(run="(SELECT key FROM runs WHERE runs.run = ?)")})
"""  # noqa: S608  # texts of ours
_STRETCHES = """
    SELECT jobs.name, runs.run, machine, attempt, coalesce(executions.started_us, confirmed_us, launched_us),
        executions.ended_us, json_extract(outcome, '$.code')
    FROM runs JOIN jobs ON jobs.key = runs.job JOIN executions ON executions.run = runs.key
    WHERE runs.started_us >= ?1 AND runs.started_us < ?2
        AND (?4 IS NULL OR jobs.name IN (SELECT value FROM json_each(?4)))
    ORDER BY runs.started_us, executions.key LIMIT ?3
"""


def tallies(connection: sqlite3.Connection, runs: Sequence[str]) -> dict[str, Tally]:
    """Of each of `runs` that has machines, how many, and on how many it failed."""
    remembered = connection.execute(_TALLIES, [json.dumps(runs)])
    found = {run: Tally(machines, failed) for run, machines, failed in remembered}
    for run in runs:  # that live, or ended when nobody remembered it
        if run not in found:
            [machines, failed] = connection.execute(_COUNTED, [run]).fetchone()
            if machines:
                found[run] = Tally(machines, failed)
    return found


def stretches(
    connection: sqlite3.Connection, since: datetime, until: datetime, limit: int, among: Collection[str] | None = None
) -> list[Stretch]:
    """Every execution of the runs that started in [since, until), of any job or of those `among`; oldest first."""
    wanted = None if among is None else json.dumps(list(among))
    return [
        Stretch(job, ExecutionId(run, machine, attempt), from_us(began), from_us(ended), code)
        for job, run, machine, attempt, began, ended, code in connection.execute(
            _STRETCHES, [to_us(since), to_us(until), limit, wanted]
        )
    ]
