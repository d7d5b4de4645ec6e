"""Many runs of a job beside each other, and its machines. Plain functions of a reading connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from saltpeter.domain.outcome import End
from saltpeter.domain.state import RunState
from saltpeter.engine.storage import Matrix, Part
from saltpeter.store import history

# A row's other columns are those of its max(attempt): SQLite promises so. A part that has not ended has no end.
_PARTS = """
    SELECT runs.run AS run, machine, max(attempt), json_extract(outcome, '$.end') AS end,
        json_extract(outcome, '$.code') AS code
    FROM runs JOIN executions ON executions.run = runs.key
    WHERE runs.run IN (SELECT value FROM json_each(?))
    GROUP BY runs.key, machine
"""
_WORST_FIRST = f"""
    SELECT machine, count(*) OVER () FROM ({_PARTS}) GROUP BY machine
    ORDER BY sum(end NOT IN ('exited', 'maintenance') OR (end = 'exited' AND code != 0)) DESC, machine LIMIT ?
"""  # noqa: S608  made of texts of ours
_OF_MACHINES = f"""
    SELECT run, machine, end, code FROM ({_PARTS}) WHERE machine IN (SELECT value FROM json_each(?))
"""  # noqa: S608  like that one


def latest(connection: sqlite3.Connection, jobs: Sequence[str], count: int) -> dict[str, list[RunState]]:
    """The newest `count` runs of each job, newest first, without their executions; a job that never ran is left out."""
    found = {job: history.runs(connection, job, None, None, count) for job in jobs}
    return {job: runs for job, runs in found.items() if runs}


def matrix(connection: sqlite3.Connection, runs: Sequence[str], machines: int) -> Matrix:
    """How `runs` ended on the machines, those first that failed most often; of at most `machines` of them."""
    asked = json.dumps(runs)
    ranked = connection.execute(_WORST_FIRST, [asked, machines]).fetchall()
    parts: dict[str, dict[str, Part]] = {machine: {} for machine, _ in ranked}
    for run, machine, end, code in connection.execute(_OF_MACHINES, [asked, json.dumps(list(parts))]):
        parts[machine][run] = Part(End(end) if end else None, code)
    return Matrix(parts, total=ranked[0][1] if ranked else 0)
