"""How each machine fares, kept as its executions end, so that asking costs what there are of machines and not of runs.
Plain functions of a connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from typing import Any

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.outcome import End, Outcome
from saltpeter.engine.storage import Done, MachineRecord
from saltpeter.store.codec import from_us, to_us
from saltpeter.store.rules import FAILED, HEARD, SILENT, SUCCEEDED
from saltpeter.store.schema import RING

_SILENT = (End.NO_RESPONSE, End.LOST)
_DONE = """
    SELECT jobs.name, runs.run, executions.machine, attempt,
        coalesce(executions.started_us, confirmed_us, launched_us), executions.ended_us,
        json_extract(outcome, '$.end'), json_extract(outcome, '$.code')
    FROM executions JOIN runs ON runs.key = executions.run JOIN jobs ON jobs.key = runs.job
"""
# A key may have gone to another execution since, when the newest run of all was forgotten: hence the name.
_OF_MACHINE = f"{_DONE} WHERE executions.key = ? AND executions.machine = ? AND executions.ended_us IS NOT NULL"


# What is seen at a glance of the jobs in a JSON array: their newest runs, and what ended last on each machine.
_OF_JOBS = f"""
    WITH wanted AS (SELECT value AS name FROM json_each(?1)), shown AS (
        SELECT execution AS key FROM parts
        UNION SELECT executions.key FROM wanted JOIN jobs USING (name) JOIN executions ON executions.run = jobs.last_run
    )
    {_DONE} JOIN shown ON shown.key = executions.key
    WHERE jobs.name IN wanted AND executions.ended_us IS NOT NULL AND json_extract(outcome, '$.end') != 'maintenance'
"""  # noqa: S608  texts of ours
_BY_MACHINE = "ORDER BY executions.machine, executions.ended_us DESC, executions.key DESC"


def sign(outcome: Outcome) -> int | None:
    """The sum of what it says; None for a machine that was left out, of which it says nothing."""
    if outcome.end is End.MAINTENANCE:
        return None
    said = FAILED if outcome.speaks_against_the_machine else SUCCEEDED if outcome.succeeded else 0
    return said + (SILENT if outcome.end in _SILENT else 0) + (HEARD if _is_heard(outcome) else 0)


def _is_heard(outcome: Outcome) -> bool:
    return outcome.by_machine or outcome.end is End.FAILED


# --- reading --------------------------------------------------------------------------------------


def machines(connection: sqlite3.Connection, since: datetime | None) -> list[MachineRecord]:
    """The machines on which an execution has ended since `since`, or ever, by name."""
    rows = connection.execute(
        "SELECT name, machines.ended_us, failures, failed, silent_us, parts.execution FROM machines"
        " LEFT JOIN parts ON parts.machine = machines.key AND place = (parts - 1) % ?"
        " WHERE machines.ended_us >= ? ORDER BY name",
        [RING, 0 if since is None else to_us(since)],
    ).fetchall()
    return [
        MachineRecord(
            machine=name,
            ended_at=from_us(ended_us),
            last=_find(connection, name, last),
            failures=failures,
            failed=_find(connection, name, failed),
            silent_since=from_us(silent_us),
        )
        for name, ended_us, failures, failed, silent_us, last in rows
    ]


def done_on(connection: sqlite3.Connection, machine: str) -> Sequence[Done]:
    """The latest executions that ended on the machine, newest first."""
    rows = connection.execute(
        "SELECT execution FROM parts WHERE machine = (SELECT key FROM machines WHERE name = ?)", [machine]
    ).fetchall()
    found = [done for (key,) in rows if (done := _find(connection, machine, key)) is not None]
    return sorted(found, key=lambda done: done.ended_at, reverse=True)


def machines_of(connection: sqlite3.Connection, since: datetime | None, jobs: Collection[str]) -> list[MachineRecord]:
    """The same as far as `jobs` tell, of what is seen at a glance."""
    silent = {name for (name,) in connection.execute("SELECT name FROM machines WHERE silent_us IS NOT NULL")}
    rows = connection.execute(f"{_OF_JOBS} {_BY_MACHINE}", [json.dumps(list(jobs))])
    by_machine = groupby(map(_done, rows), key=lambda done: done.execution.machine)
    found = [_as_told(machine, list(done), is_silent=machine in silent) for machine, done in by_machine]
    return [each for each in found if since is None or each.ended_at >= since]


def done_of(connection: sqlite3.Connection, machine: str, jobs: Collection[str]) -> Sequence[Done]:
    """The latest executions of `jobs` that ended on the machine, newest first."""
    asked = [json.dumps(list(jobs)), machine]
    rows = connection.execute(f"{_OF_JOBS} AND executions.machine = ?2 {_BY_MACHINE}", asked)
    return [_done(row) for row in rows][:RING]


def _as_told(machine: str, done: Sequence[Done], *, is_silent: bool) -> MachineRecord:
    """How a machine fares by what has ended there, newest first; whether it is silent is known better elsewhere."""
    outcomes = [(each, Outcome(end=each.end, code=each.code)) for each in done]
    since_success = takewhile(lambda each: not each[1].succeeded, outcomes)
    unheard = takewhile(lambda each: not _is_heard(each[1]), outcomes)
    silences = [each.ended_at for each, outcome in unheard if outcome.end in _SILENT]
    return MachineRecord(
        machine=machine,
        ended_at=done[0].ended_at,
        last=done[0],
        failures=sum(outcome.speaks_against_the_machine for _, outcome in since_success),
        failed=next((each for each, outcome in outcomes if outcome.speaks_against_the_machine), None),
        silent_since=silences[-1] if is_silent and silences else None,
    )


def _find(connection: sqlite3.Connection, machine: str, execution: int | None) -> Done | None:
    if execution is None:
        return None
    row = connection.execute(_OF_MACHINE, [execution, machine]).fetchone()
    return None if row is None else _done(row)


def _done(row: tuple[Any, ...]) -> Done:
    job, run, machine, attempt, began_us, ended_us, end, code = row
    execution = ExecutionId(run, machine, attempt)
    return Done(job, execution, from_us(began_us), from_us(ended_us), End(end), code)
