"""The checker itself: it is content with what is right, and sees each kind of wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import attrs
import pytest

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.events import ExecutionId, Reason
from saltpeter.domain.job import Job, Target, TargetType
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Passed
from tests.faults import command
from tests.faults.checker import Case, violations
from tests.faults.evidence import Journal, Ledger
from tests.faults.fleet import Work

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
FIRST = ExecutionId("tick_1", "m01")
SECOND = ExecutionId("tick_2", "m01")


def ended(code: int) -> Outcome:
    return Outcome(end=End.EXITED, code=code)


def a_good_case() -> Case:
    """A minutely job: its first slot ran and failed, its second one ran and was lost for a while, its third passed."""
    work = Work(name="tick", schedule="* * * * *", machines=("m01",), size=100)
    job = Job(
        name="tick",
        group="",
        path="",
        line=1,
        command="true",
        target=Target("m01", TargetType.LIST),
        schedule=Schedule(Fields.parse("* * * * *")),
    )
    ledger = Ledger()
    for number, execution in enumerate((FIRST, SECOND), start=1):
        slot = NOON + number * MINUTE
        run = RunState(execution.run, "tick", slot, "schedule", "", slot, ended_at=slot, verdict=Verdict.FAILED)
        ledger.runs[run.id] = run
        ledger.attempts[execution] = ExecutionState(execution, slot, launched_at=slot, ended_at=slot, outcome=ended(7))
        ledger.output[execution] = command.said(execution.run, execution.machine, execution.attempt, 100)
    ledger.attempts[SECOND].outcome, ledger.attempts[SECOND].late = outcomes.LOST, ended(0)
    third = NOON + 3 * MINUTE
    ledger.passed["tick"] = [Passed("tick", third, third, 1, Reason.OVERLAP, "it still ran", third)]
    return Case(
        works={"tick": work},
        jobs={"tick": job},
        since=NOON,
        until=NOON + 3.5 * MINUTE,
        journal=Journal(Counter([FIRST, SECOND]), {FIRST: 7, SECOND: 0}),
        ledger=ledger,
    )


def test_what_is_right_is_left_alone() -> None:
    assert violations(a_good_case()) == []


def runs_on(case: Case) -> None:
    case.ledger.runs["tick_1"].ended_at = None


def has_no_outcome(case: Case) -> None:
    case.ledger.attempts[FIRST].outcome = None


def ran_twice(case: Case) -> None:
    case.journal.starts[FIRST] += 1


def ran_unrecorded(case: Case) -> None:
    case.journal.starts[attrs.evolve(FIRST, machine="m02")] += 1


def wrong_code(case: Case) -> None:
    case.journal.ends[FIRST] = 8


def wrong_late_code(case: Case) -> None:
    case.journal.ends[SECOND] = 1


def never_heard_of(case: Case) -> None:
    case.ledger.attempts[SECOND].late = None


def refused_though_it_runs(case: Case) -> None:
    case.ledger.attempts[FIRST].outcome = outcomes.launch_failed(254, "claimed before")


def killed_by_nobody(case: Case) -> None:
    case.ledger.attempts[FIRST].outcome = outcomes.KILLED


def a_byte_is_missing(case: Case) -> None:
    case.ledger.output[FIRST] = case.ledger.output[FIRST][:-1]


def a_byte_came_twice(case: Case) -> None:
    case.ledger.output[SECOND] += case.ledger.output[SECOND][-1:]


def a_slot_is_forgotten(case: Case) -> None:
    del case.ledger.runs["tick_1"], case.ledger.attempts[FIRST], case.journal.starts[FIRST]


def a_slot_passed_unnoticed(case: Case) -> None:
    case.ledger.passed["tick"] = []


def a_slot_waits_for_ever(case: Case) -> None:
    [passed] = case.ledger.passed["tick"]
    case.ledger.passed["tick"] = [attrs.evolve(passed, reason=Reason.WAITING)]


def a_slot_ran_although_it_passed(case: Case) -> None:
    [passed] = case.ledger.passed["tick"]
    case.ledger.passed["tick"] = [passed, attrs.evolve(passed, first=NOON + MINUTE, last=NOON + MINUTE)]


def an_instant_was_no_slot(case: Case) -> None:
    case.ledger.runs["tick_3"] = attrs.evolve(case.ledger.runs["tick_1"], id="tick_3", slot=NOON + MINUTE / 2)


def given_up_too_early(case: Case) -> None:
    [passed] = case.ledger.passed["tick"]
    case.ledger.passed["tick"] = [attrs.evolve(passed, reason=Reason.MISSED)]


@pytest.mark.parametrize(
    ("wrong", "seen_by"),
    [
        (runs_on, "runs_end"),
        (has_no_outcome, "runs_end"),
        (ran_twice, "nothing_runs_twice"),
        (ran_unrecorded, "nothing_runs_unrecorded"),
        (wrong_code, "ends_are_right"),
        (wrong_late_code, "ends_are_right"),
        (never_heard_of, "ends_are_right"),
        (refused_though_it_runs, "ends_are_right"),
        (killed_by_nobody, "ends_are_right"),
        (a_byte_is_missing, "output_is_right"),
        (a_byte_came_twice, "output_is_right"),
        (a_slot_is_forgotten, "slots_are_answered"),
        (a_slot_passed_unnoticed, "slots_are_answered"),
        (a_slot_waits_for_ever, "slots_are_answered"),
        (a_slot_ran_although_it_passed, "slots_are_answered"),
        (an_instant_was_no_slot, "slots_are_answered"),
        (given_up_too_early, "slots_are_answered"),
    ],
)
def test_each_wrong_is_seen(wrong: Callable[[Case], None], seen_by: str) -> None:
    case = a_good_case()
    wrong(case)
    found = violations(case)
    assert found
    assert found[0].startswith(f"{seen_by}: ")
