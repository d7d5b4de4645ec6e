"""The ledger: events go in, the same state comes out. Plain functions of a connection, inside its transaction.

What happens to runs and executions, and so often at once, goes in as facts: the rules below say what each changes. The
rest is written event by event.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import TypeAlias, Union

from typing_extensions import assert_never

from saltpeter.domain.events import (
    Awaited,
    Bound,
    CameLate,
    Confirmed,
    Ended,
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
from saltpeter.store import facts, fleet, summaries
from saltpeter.store.codec import clean, to_us
from saltpeter.store.facts import OF_EXECUTION, Fact
from saltpeter.store.outcomes import dump_outcome

_OfRun: TypeAlias = Union[RunStarted, Targeted, Launched, RunEnded]
_OfExecution: TypeAlias = Union[Retrying, Confirmed, Started, Bound, Ended, CameLate]

_RULES = {
    "run_started": """
        INSERT INTO jobs (name) VALUES (new.job) ON CONFLICT DO NOTHING;
        INSERT INTO runs (run, job, slot_us, started_by, token, started_us)
            SELECT new.run, key, new.number, new.text, new.more, new.at_us FROM jobs WHERE name = new.job;
        UPDATE jobs SET last_slot_us = new.number
            WHERE name = new.job AND new.number IS NOT NULL AND coalesce(last_slot_us < new.number, TRUE);
    """,
    "targeted": """
        INSERT INTO executions (run, machine, attempt, targeted_us)
            SELECT key, new.machine, 1, new.at_us FROM runs WHERE {of_living} ON CONFLICT DO NOTHING;
    """,
    "launching": """
        INSERT INTO launches (run, ticket, attempt, at_us)
            SELECT key, new.text, new.attempt, new.at_us FROM runs WHERE {of_living};
    """,
    "launched": """
        UPDATE executions SET launch = (SELECT max(key) FROM launches WHERE run = executions.run),
            launched_us = new.at_us
            WHERE run = (SELECT key FROM runs WHERE {of_living}) AND machine = new.machine AND attempt = new.attempt;
    """,
    "retrying": """
        INSERT INTO executions (run, machine, attempt, targeted_us)
            SELECT key, new.machine, new.attempt, new.at_us FROM runs WHERE run = new.run ON CONFLICT DO NOTHING;
    """,
    "confirmed": "UPDATE executions SET confirmed_us = new.at_us WHERE {of_execution};",
    "started": """
        UPDATE executions SET started_us = new.at_us, pid = new.number, wrapper_version = new.text
            WHERE {of_execution};
    """,
    "bound": "UPDATE executions SET bound = new.text WHERE {of_execution};",
    "ended": """
        UPDATE executions SET ended_us = new.at_us, outcome = new.text WHERE {of_execution};
        {machine_has_ended}
    """,
    "came_late": """
        UPDATE executions SET late_us = new.at_us, late = new.text WHERE {of_execution};
        {machine_answers}
    """,
    "run_ended": """
        UPDATE jobs SET last_run = living.key FROM (SELECT key, job FROM runs WHERE {of_living}) AS living
            WHERE jobs.key = living.job;
        UPDATE runs SET ended_us = new.at_us, verdict = new.text, text = new.more, {tallied}
            WHERE {of_living};
    """,
}
RULES = {
    kind: rule.format(
        of_execution=OF_EXECUTION,
        of_living="run = new.run AND ended_us IS NULL",
        machine_has_ended=fleet.ENDED,
        machine_answers=fleet.ANSWERED,
        tallied=summaries.TALLIED,
    )
    for kind, rule in _RULES.items()
}


def record(connection: sqlite3.Connection, events: Iterable[LedgerEvent]) -> None:
    """Write `events`. One about a run or an execution that is not in the ledger changes nothing.

    Raises SlotTaken for a second run of a slot, RunTaken for a run id that is there already.
    """
    for alike, group in groupby(events, key=_alike):
        if alike is Fact:
            _record_facts(connection, list(group))
        elif alike is None:
            for event in group:
                _record(connection, event)
        else:
            _record_passed(connection, [event for event in group if isinstance(event, SlotPassed)])


def record_all(connection: sqlite3.Connection, commits: Sequence[Sequence[LedgerEvent]]) -> Sequence[None]:
    """The same for the events of several commits."""
    record(connection, chain.from_iterable(commits))
    return [None] * len(commits)


def _alike(event: LedgerEvent) -> object:
    """What neighbours that are written together have in common: slots that did not run share an answer, and a row."""
    match event:
        case SlotPassed():
            return event.job, event.reason, event.text, event.at
        case Awaited() | HoldSet() | HoldEnded() | KillRequested():
            return None
        case _:
            return Fact


# --- by the rules ---------------------------------------------------------------------------------


def _record_facts(connection: sqlite3.Connection, events: Sequence[LedgerEvent]) -> None:
    try:
        facts.write(connection, [fact for event in events for fact in _facts(event)], RULES)
    except sqlite3.IntegrityError:
        for event in events:
            if isinstance(event, RunStarted):
                _make_sure_it_is_new(connection, event)
        raise


def _make_sure_it_is_new(connection: sqlite3.Connection, event: RunStarted) -> None:
    """Raises SlotTaken, or RunTaken."""
    slot_us = None if event.slot is None else to_us(event.slot)
    of_slot = "SELECT 1 FROM runs JOIN jobs ON jobs.key = runs.job WHERE name = ? AND slot_us = ?"
    if connection.execute(of_slot, [event.job, slot_us]).fetchone():
        raise SlotTaken(f"the ledger holds a run of {event.job} for {event.slot}")
    if connection.execute("SELECT 1 FROM runs WHERE run = ?", [event.run]).fetchone():
        raise RunTaken(f"the ledger holds a run {event.run}")


def _facts(event: LedgerEvent) -> Iterable[Fact]:
    match event:
        case RunStarted() | Targeted() | Launched() | RunEnded():
            return _facts_of_run(event)
        case Retrying() | Confirmed() | Started() | Bound() | Ended() | CameLate():
            return (_fact_of_execution(event),)
        case _:
            raise AssertionError(f"{event} is no fact")


def _facts_of_run(event: _OfRun) -> Iterable[Fact]:
    run, at_us = event.run, to_us(event.at)
    match event:
        case RunStarted():
            slot_us = None if event.slot is None else to_us(event.slot)
            yield Fact("run_started", run, at_us, number=slot_us, text=clean(event.by), more=event.token, job=event.job)
        case Targeted():
            for machine in event.machines:
                yield Fact("targeted", run, at_us, machine)
        case Launched():
            yield Fact("launching", run, at_us, attempt=event.attempt, text=event.ticket)
            for machine in event.machines:
                yield Fact("launched", run, at_us, machine, event.attempt)
        case RunEnded():
            yield Fact("run_ended", run, at_us, text=event.verdict.value, more=clean(event.text))
        case _:
            assert_never(event)


def _fact_of_execution(event: _OfExecution) -> Fact:
    where = (event.execution.run, to_us(event.at), event.execution.machine, event.execution.attempt)
    match event:
        case Retrying():
            return Fact("retrying", *where)
        case Confirmed():
            return Fact("confirmed", *where)
        case Started():
            return Fact("started", *where, event.pid, clean(event.version))
        case Bound():
            return Fact("bound", *where, text=event.digest)
        case Ended():
            return Fact("ended", *where, fleet.sign(event.outcome), dump_outcome(event.outcome))
        case CameLate():
            return Fact("came_late", *where, text=dump_outcome(event.outcome))
        case _:
            assert_never(event)


# --- event by event -------------------------------------------------------------------------------


def _record(connection: sqlite3.Connection, event: LedgerEvent) -> None:
    match event:
        case Awaited():
            _answered(connection, _job(connection, event.job), to_us(event.at))
        case HoldSet() | HoldEnded():
            _record_hold(connection, event)
        case KillRequested():
            connection.execute(
                "INSERT INTO kills (run, machines, killed_by, at_us, signal, grace_s)"
                " SELECT key, ?, ?, ?, ?, ? FROM runs WHERE run = ? AND ended_us IS NULL",
                [
                    *(json.dumps(event.machines), clean(event.by), to_us(event.at), event.signal, event.grace_s),
                    event.run,
                ],
            )
        case _:
            raise AssertionError(f"{event} is written by the rules")


def _job(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT INTO jobs (name) VALUES (?) ON CONFLICT DO NOTHING", [name])
    [key] = connection.execute("SELECT key FROM jobs WHERE name = ?", [name]).fetchone()
    return int(key)


def _answered(connection: sqlite3.Connection, job: int, slot_us: int) -> None:
    connection.execute(
        "UPDATE jobs SET last_slot_us = ? WHERE key = ? AND coalesce(last_slot_us < ?, TRUE)", [slot_us, job, slot_us]
    )


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
