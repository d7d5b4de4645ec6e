"""What the ledger tells: runs and executions as the state has them. Plain functions of a reading connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from saltpeter.domain.events import ExecutionId, KillRequested, Launched, Reason
from saltpeter.domain.job import Hold
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Passed
from saltpeter.store.codec import day, from_us, to_us
from saltpeter.store.outcomes import load_outcome

# As texts, not values: else SQLite could not see that the index of what failed has them all.
SUCCEEDED = f"verdict = '{Verdict.SUCCEEDED.value}'"
FAILED = f"verdict <> '{Verdict.SUCCEEDED.value}'"
_WAITS = f"reason = '{Reason.WAITING.value}'"

# CROSS JOIN: what is asked for of the runs is found first, whatever SQLite makes of how much there is of the others.
_EVER = datetime.min.replace(tzinfo=timezone.utc)  # a bound by which SQLite sees that the index of starts will do
_RUNS = """
    SELECT runs.run, jobs.name, slot_us, started_by, token, started_us, ended_us, verdict, text
    FROM runs JOIN jobs ON jobs.key = runs.job
"""
_EXECUTIONS = """
    SELECT runs.run, machine, executions.attempt, targeted_us, ticket, launched_us, confirmed_us, executions.started_us,
        executions.ended_us, pid, wrapper_version, outcome, late, bound
    FROM runs CROSS JOIN executions ON executions.run = runs.key LEFT JOIN launches ON launches.key = executions.launch
"""
_KILLS = """
    SELECT runs.run, machines, killed_by, at_us, signal, grace_s FROM runs CROSS JOIN kills ON kills.run = runs.key
"""
_WAITING = f"""
    SELECT name, max(last_us) FROM passed JOIN jobs ON jobs.key = passed.job WHERE passed.{_WAITS}
        AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job = passed.job AND slot_us = last_us)
        AND NOT EXISTS (SELECT 1 FROM passed AS other WHERE other.job = passed.job AND NOT other.{_WAITS}
            AND other.last_us >= passed.last_us AND other.first_us <= passed.last_us) GROUP BY name
"""  # noqa: S608  # made of texts of ours


def unfinished(connection: sqlite3.Connection) -> list[RunState]:
    """The runs that have not ended, oldest first."""
    return _runs_in_full(connection, "runs.ended_us IS NULL")


def last_runs(connection: sqlite3.Connection) -> list[RunState]:
    """Of each job the run that ended last."""
    return _runs_in_full(connection, "runs.key IN (SELECT last_run FROM jobs WHERE last_run IS NOT NULL)")


def last_slots(connection: sqlite3.Connection) -> dict[str, datetime]:
    rows = connection.execute("SELECT name, last_slot_us FROM jobs WHERE last_slot_us IS NOT NULL")
    return {name: from_us(slot_us) for name, slot_us in rows}


def waiting(connection: sqlite3.Connection) -> dict[str, datetime]:
    """Of each job the newest slot that waited for its turn, if nothing else is known of that slot."""
    return {name: from_us(slot_us) for name, slot_us in connection.execute(_WAITING)}


def holds(connection: sqlite3.Connection) -> list[Hold]:
    rows = connection.execute("SELECT machine, reason, held_by, since_us, until_us FROM holds ORDER BY machine")
    return [
        Hold(machine=machine, reason=reason, by=by, since=from_us(since_us), until=from_us(until_us))
        for machine, reason, by, since_us, until_us in rows
    ]


def find_run(connection: sqlite3.Connection, run: str) -> RunState | None:
    """The run of that id, with the latest attempt of each machine."""
    found = _runs_in_full(connection, "runs.run = ?", run)
    return found[0] if found else None


def runs(
    connection: sqlite3.Connection,
    job: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    *,
    failed: bool | None = None,
    among: Collection[str] | None = None,
) -> list[RunState]:
    """Runs without their executions and kills that started in [since, until), newest first; `job` None: of any job.

    `failed`: only those that ended without success, or only those that succeeded. `among`: only of these jobs.
    """
    bounds = {"started_us >= ?": since or _EVER, "started_us < ?": until}
    asked: dict[str, object] = {text: to_us(bound) for text, bound in bounds.items() if bound is not None}
    if job is not None:
        asked["jobs.name = ?"] = job
    if among is not None:
        asked["jobs.name IN (SELECT value FROM json_each(?))"] = json.dumps(list(among))
    condition = " AND ".join(["TRUE", *asked, *([] if failed is None else [FAILED if failed else SUCCEEDED])])
    return _runs(connection, condition, "started_us DESC, runs.key DESC", asked.values(), limit)


def attempts(connection: sqlite3.Connection, run: str) -> list[ExecutionState]:
    """Every attempt on every machine of the run, in the order in which they were launched."""
    return [_execution(row) for row in _execution_rows(connection, "runs.run = ?", run)]


def launches(connection: sqlite3.Connection, run: str) -> list[Launched]:
    """The run's launches, oldest first, each with the machines that it was the latest for."""
    rows = connection.execute(
        "SELECT launches.key, ticket, launches.attempt, at_us, machine FROM launches"
        " JOIN runs ON runs.key = launches.run"
        " JOIN executions ON executions.run = launches.run AND executions.launch = launches.key"
        " WHERE runs.run = ? ORDER BY launches.key, executions.key",
        [run],
    )
    machines: dict[tuple[int, str, int, int], list[str]] = {}
    for *launch, machine in rows:
        machines.setdefault(tuple(launch), []).append(machine)
    return [
        Launched(run=run, ticket=ticket, attempt=attempt, machines=tuple(names), at=from_us(at_us))
        for (_, ticket, attempt, at_us), names in machines.items()
    ]


def passed(connection: sqlite3.Connection, job: str, limit: int) -> list[Passed]:
    """The job's newest stretches of slots that did not run, newest first."""
    rows = connection.execute(
        "SELECT first_us, last_us, slots, reason, text, at_us FROM passed JOIN jobs ON jobs.key = passed.job"
        " WHERE jobs.name = ? ORDER BY last_us DESC, passed.key DESC LIMIT ?",
        [job, limit],
    )
    return [
        Passed(job, from_us(first), from_us(last), slots, Reason(reason), text, from_us(at))
        for first, last, slots, reason, text, at in rows
    ]


def day_of(connection: sqlite3.Connection, run: str) -> str | None:
    """The day on which the run started (UTC, as YYYYMMDD); None for an unknown run."""
    row = connection.execute("SELECT started_us FROM runs WHERE run = ?", [run]).fetchone()
    return None if row is None else day(from_us(row[0]))


# The conditions below are texts of this module; everything that came from elsewhere is a parameter.


def _runs_in_full(connection: sqlite3.Connection, condition: str, *values: object) -> list[RunState]:
    found = _runs(connection, condition, "runs.key", values)
    by_id = {run.id: run for run in found}
    for row in _execution_rows(connection, condition, *values):
        _add(by_id[row[0]].executions, _execution(row))
    for kill in _kills(connection, condition, *values):
        by_id[kill.run].kills += (kill,)
    for run in found:
        latest = run.executions.values()
        run.open = sum(each.ended_at is None for each in latest)
        run.failed = sum(each.outcome is not None and each.outcome.is_failure for each in latest)
    return found


def _add(executions: dict[str, ExecutionState], execution: ExecutionState) -> None:
    """Keep the latest attempt of each machine, in the place that the machine had from the start."""
    if executions.setdefault(execution.id.machine, execution).id.attempt < execution.id.attempt:
        executions[execution.id.machine] = execution


def _runs(
    connection: sqlite3.Connection, condition: str, order: str, values: Iterable[object], limit: int = -1
) -> list[RunState]:
    query = f"{_RUNS} WHERE {condition} ORDER BY {order} LIMIT ?"
    return [_run(row) for row in connection.execute(query, [*values, limit])]


def _execution_rows(connection: sqlite3.Connection, condition: str, *values: object) -> Sequence[tuple[Any, ...]]:
    return connection.execute(f"{_EXECUTIONS} WHERE {condition} ORDER BY executions.key", values).fetchall()


def _kills(connection: sqlite3.Connection, condition: str, *values: object) -> list[KillRequested]:
    rows = connection.execute(f"{_KILLS} WHERE {condition} ORDER BY kills.key", values)
    return [
        KillRequested(
            run=run, machines=tuple(json.loads(machines)), by=by, at=from_us(at_us), signal=signal, grace_s=grace_s
        )
        for run, machines, by, at_us, signal, grace_s in rows
    ]


def _run(row: tuple[Any, ...]) -> RunState:
    run, job, slot_us, by, token, started_us, ended_us, verdict, text = row
    return RunState(
        id=run,
        job=job,
        slot=from_us(slot_us),
        by=by,
        token=token,
        started_at=from_us(started_us),
        ended_at=from_us(ended_us),
        verdict=None if verdict is None else Verdict(verdict),
        text=text,
    )


_common = lru_cache(maxsize=1024)(from_us)  # for instants that the machines of a run have in common


def _execution(row: tuple[Any, ...]) -> ExecutionState:
    """Thousands of them are made for one answer: what is given by its place is taken several times as fast."""
    run, machine, attempt, targeted, ticket, launched, confirmed, started, ended, pid, version, *rest = row
    outcome, late, bound = rest
    made = ExecutionState(
        ExecutionId(run, machine, attempt),
        _common(targeted),
        ticket or "",
        _common(launched),
        from_us(confirmed),
        from_us(started),
        from_us(ended),
    )
    made.pid, made.wrapper_version, made.bound = pid, version, bound
    made.outcome, made.late = load_outcome(outcome), load_outcome(late)
    return made
