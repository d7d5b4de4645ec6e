"""The ledger: events go in, the same state comes out. Plain functions of a connection, inside its transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias, Union

from typing_extensions import assert_never

from saltpeter.domain.events import (
    Awaited,
    Bound,
    CameLate,
    Confirmed,
    Ended,
    ExecutionId,
    HoldEnded,
    HoldSet,
    KillRequested,
    Launched,
    LedgerEvent,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    Targeted,
)
from saltpeter.errors import RunTaken, SlotTaken
from saltpeter.store import fleet, summaries
from saltpeter.store.codec import clean, dump_outcome, to_us

_AboutRun: TypeAlias = Union[Targeted, Launched, KillRequested, RunEnded]
_AboutExecution: TypeAlias = Union[Retrying, Confirmed, Started, Bound, Ended, CameLate]


def record(connection: sqlite3.Connection, events: Iterable[LedgerEvent]) -> None:
    """Write `events`. One about a run or an execution that is not in the ledger changes nothing.

    Raises SlotTaken for a second run of a slot, RunTaken for a run id that is there already.
    """
    for answer, group in groupby(events, key=_answer):
        if answer is None:
            for event in group:
                _record(connection, event)
        else:
            _record_passed(connection, [event for event in group if isinstance(event, SlotPassed)])


def _answer(event: LedgerEvent) -> tuple[object, ...] | None:
    """What slots that did not run may share, so that a stretch of them is one row; None for any other event."""
    return (event.job, event.reason, event.text, event.at) if isinstance(event, SlotPassed) else None


def _record(connection: sqlite3.Connection, event: LedgerEvent) -> None:
    match event:
        case RunStarted():
            _record_run(connection, event)
        case SlotPassed():
            _record_passed(connection, [event])
        case Awaited():
            _answered(connection, _job(connection, event.job), to_us(event.at))
        case HoldSet() | HoldEnded():
            _record_hold(connection, event)
        case Targeted() | Launched() | KillRequested() | RunEnded():
            if (found := _living(connection, event.run)) is not None:
                _record_about_run(connection, found, event)
        case Retrying() | Confirmed() | Started() | Bound() | Ended() | CameLate():
            _record_about_execution(connection, event)
        case _:
            assert_never(event)


def _living(connection: sqlite3.Connection, run: str) -> int | None:
    row = connection.execute("SELECT key FROM runs WHERE run = ? AND ended_us IS NULL", [run]).fetchone()
    return None if row is None else int(row[0])


def _job(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT INTO jobs (name) VALUES (?) ON CONFLICT DO NOTHING", [name])
    [key] = connection.execute("SELECT key FROM jobs WHERE name = ?", [name]).fetchone()
    return int(key)


def _answered(connection: sqlite3.Connection, job: int, slot_us: int) -> None:
    connection.execute(
        "UPDATE jobs SET last_slot_us = ? WHERE key = ? AND coalesce(last_slot_us < ?, TRUE)", [slot_us, job, slot_us]
    )


def _record_run(connection: sqlite3.Connection, event: RunStarted) -> None:
    job = _job(connection, event.job)
    slot_us = None if event.slot is None else to_us(event.slot)
    if connection.execute("SELECT 1 FROM runs WHERE job = ? AND slot_us = ?", [job, slot_us]).fetchone():
        raise SlotTaken(f"the ledger holds a run of {event.job} for {event.slot}")
    if connection.execute("SELECT 1 FROM runs WHERE run = ?", [event.run]).fetchone():
        raise RunTaken(f"the ledger holds a run {event.run}")
    connection.execute(
        "INSERT INTO runs (run, job, slot_us, started_by, token, started_us) VALUES (?, ?, ?, ?, ?, ?)",
        [event.run, job, slot_us, clean(event.by), event.token, to_us(event.at)],
    )
    if slot_us is not None:
        _answered(connection, job, slot_us)


def _record_passed(connection: sqlite3.Connection, alike: Sequence[SlotPassed]) -> None:
    event = alike[0]
    job = _job(connection, event.job)
    slots_us = sorted({to_us(slot) for each in alike for slot in (each.slot, each.last or each.slot)})
    connection.execute(
        "INSERT INTO passed (job, first_us, last_us, slots, reason, text, at_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [job, slots_us[0], slots_us[-1], len(slots_us), event.reason.value, clean(event.text), to_us(event.at)],
    )
    _answered(connection, job, slots_us[-1])


def _record_hold(connection: sqlite3.Connection, event: HoldSet | HoldEnded) -> None:
    if isinstance(event, HoldEnded):
        connection.execute("DELETE FROM holds WHERE machine = ?", [clean(event.machine)])
        return
    hold = event.hold
    until_us = None if hold.until is None else to_us(hold.until)
    connection.execute(
        "INSERT OR REPLACE INTO holds (machine, reason, held_by, since_us, until_us) VALUES (?, ?, ?, ?, ?)",
        [clean(hold.machine), clean(hold.reason), clean(hold.by), to_us(hold.since), until_us],
    )


def _record_about_run(connection: sqlite3.Connection, run: int, event: _AboutRun) -> None:
    at_us = to_us(event.at)
    match event:
        case Targeted():
            connection.executemany(
                "INSERT INTO executions (run, machine, attempt, targeted_us) VALUES (?, ?, 1, ?)"
                " ON CONFLICT DO NOTHING",
                [(run, machine, at_us) for machine in event.machines],
            )
        case Launched():
            _record_launch(connection, run, event)
        case KillRequested():
            connection.execute(
                "INSERT INTO kills (run, machines, killed_by, at_us, signal, grace_s) VALUES (?, ?, ?, ?, ?, ?)",
                [run, json.dumps(event.machines), clean(event.by), at_us, event.signal, event.grace_s],
            )
        case RunEnded():
            connection.execute(
                "UPDATE runs SET ended_us = ?, verdict = ?, text = ? WHERE key = ?",
                [at_us, event.verdict.value, clean(event.text), run],
            )
            summaries.ended(connection, run)
            connection.execute(
                "UPDATE jobs SET last_run = ? WHERE key = (SELECT job FROM runs WHERE key = ?)", [run, run]
            )
        case _:
            assert_never(event)


def _record_launch(connection: sqlite3.Connection, run: int, event: Launched) -> None:
    at_us = to_us(event.at)
    launch = connection.execute(
        "INSERT INTO launches (run, ticket, attempt, at_us) VALUES (?, ?, ?, ?)",
        [run, event.ticket, event.attempt, at_us],
    ).lastrowid
    connection.executemany(
        "UPDATE executions SET launch = ?, launched_us = ? WHERE run = ? AND machine = ? AND attempt = ?",
        [(launch, at_us, run, machine, event.attempt) for machine in event.machines],
    )


def _record_about_execution(connection: sqlite3.Connection, event: _AboutExecution) -> None:
    at_us = to_us(event.at)
    match event:
        case Retrying(execution=execution):
            connection.execute(
                "INSERT INTO executions (run, machine, attempt, targeted_us)"
                " SELECT key, ?, ?, ? FROM runs WHERE run = ? ON CONFLICT DO NOTHING",
                [execution.machine, execution.attempt, at_us, execution.run],
            )
        case Confirmed():
            _set(connection, event.execution, "confirmed_us = ?", at_us)
        case Started():
            text = clean(event.version)
            _set(connection, event.execution, "started_us = ?, pid = ?, wrapper_version = ?", at_us, event.pid, text)
        case Bound():
            _set(connection, event.execution, "bound = ?", event.digest)
        case Ended():
            _set(connection, event.execution, "ended_us = ?, outcome = ?", at_us, dump_outcome(event.outcome))
            fleet.ended(connection, event.execution, event.outcome, at_us)
        case CameLate():
            _set(connection, event.execution, "late_us = ?, late = ?", at_us, dump_outcome(event.outcome))
            fleet.answered(connection, event.execution.machine)
        case _:
            assert_never(event)


def _set(connection: sqlite3.Connection, execution: ExecutionId, columns: str, *values: str | int) -> None:
    """`columns` is one of the texts above; everything that came from elsewhere is among `values`."""
    connection.execute(
        f"UPDATE executions SET {columns}"  # noqa: S608  # see above
        " WHERE run = (SELECT key FROM runs WHERE run = ?) AND machine = ? AND attempt = ?",
        [*values, execution.run, execution.machine, execution.attempt],
    )
