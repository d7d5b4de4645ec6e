"""Whatever happens, the ledger gives back the state that the same events made in memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Reason,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    Targeted,
)
from saltpeter.domain.job import Config, Hold, Settings
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.state import ExecutionState, RunState, State, apply
from saltpeter.domain.verdict import Verdict
from saltpeter.errors import RunTaken, SlotTaken
from saltpeter.store import history, rules
from saltpeter.store.ledger import facts_of
from saltpeter.store.schema import LEDGER, connect
from sp_wrapper import wire
from tests.store.test_output import Counting

NOON = datetime(2025, 11, 5, 12, tzinfo=timezone.utc)
JOBS = ("backup", "a_b_1", "'; DROP TABLE runs; --", "../x")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
processes = st.lists(st.builds(wire.Process, st.integers(1, 2**31), texts, texts), max_size=2).map(tuple)
outcomes = st.builds(
    Outcome,
    end=st.sampled_from(End),
    code=st.integers(-255, 255),
    text=texts,
    receipt=st.none() | st.builds(wire.Receipt, processes, processes, processes),
    usage=st.none() | st.builds(wire.Usage, st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 2**50)),
)


def empty_ledger() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(LEDGER))
    return connection


def record(ledger: sqlite3.Connection, events: Iterable[LedgerEvent]) -> None:
    rules.record(ledger, facts_of(events))


def test_two_runs_of_one_slot_are_refused_and_so_are_two_runs_of_one_id() -> None:
    ledger = empty_ledger()
    record(ledger, [run_started("backup", NOON)])
    for event, error in (
        (run_started("backup", NOON, run="backup_7"), SlotTaken),
        (run_started("backup", NOON), SlotTaken),  # both; that the slot has run is what counts
        (run_started("backup", None, run=run_id("backup", NOON)), RunTaken),
    ):
        try:
            record(ledger, [event])
        except error:
            continue
        raise AssertionError(f"{event} was taken")
    record(ledger, [run_started("backup", None, run="backup_8"), run_started("backup", None, run="backup_9")])
    record(ledger, [run_started("other", NOON)])
    ledger.close()


def test_an_hour_of_missed_seconds_is_one_row() -> None:
    ledger = empty_ledger()
    hour = [NOON + timedelta(seconds=second) for second in range(3600)]
    record(ledger, [slot_passed("backup", slot, Reason.COALESCED) for slot in hour])
    record(ledger, [slot_passed("backup", NOON, Reason.OVERLAP), slot_passed("other", NOON, Reason.OVERLAP)])
    newest, overlap = history.passed(ledger, "backup", 10)
    assert (newest.first, newest.last, newest.slots) == (NOON, hour[-1], len(hour))
    assert (overlap.reason, overlap.slots, overlap.text) == (Reason.OVERLAP, 1, "why")
    assert history.last_slots(ledger) == {"backup": hour[-1], "other": NOON}
    assert len(history.passed(ledger, "backup", 1)) == 1
    ledger.close()


def test_only_neighbours_with_the_same_answer_are_one_row() -> None:
    ledger, minutes = empty_ledger(), [NOON + timedelta(minutes=minute) for minute in range(5)]
    overlaps = [slot_passed("backup", slot, Reason.OVERLAP) for slot in minutes]
    stretch = attrs.evolve(overlaps[0], last=minutes[1])
    record(ledger, [stretch, overlaps[1], Awaited(job="backup", at=NOON), overlaps[3], overlaps[2]])
    record(ledger, [attrs.evolve(overlaps[4], text="\ud83d"), slot_passed("other", minutes[4], Reason.WAITING)])
    found = [(each.first, each.last, each.slots, each.text) for each in history.passed(ledger, "backup", 10)]
    assert found == [
        (minutes[4], minutes[4], 1, "\\ud83d"),
        (minutes[2], minutes[3], 2, "why"),
        (minutes[0], minutes[1], 2, "why"),
    ]
    assert history.last_slots(ledger) == {"backup": minutes[4], "other": minutes[4]}
    assert history.waiting(ledger) == {"other": minutes[4]}
    ledger.close()


def test_who_killed_what_and_how() -> None:
    ledger, run = empty_ledger(), run_id("backup", NOON)
    kills = (
        KillRequested(run=run, machines=('d"b\x00', "'é\ud83d"), by="ann", at=NOON, signal="INT", grace_s=0.1),
        KillRequested(run=run, machines=(), by="", at=NOON, grace_s=0.0),
    )
    ended = RunEnded(run=run, verdict=Verdict.FAILED, at=NOON)
    record(ledger, [run_started("backup", NOON), *kills, ended, attrs.evolve(kills[1], by="too late")])
    [found] = history.last_runs(ledger)
    assert found.kills == kills
    ledger.close()


def test_a_hold_is_set_and_changed_until_it_is_ended() -> None:
    ledger = empty_ledger()
    everywhere = Hold(machine="", reason="half \x00", by="ann", since=NOON, until=NOON + timedelta(hours=1))
    db01 = Hold(machine="db01", reason="disks", by="ann", since=NOON)
    changed = attrs.evolve(db01, reason="more disks", by="bob", until=NOON + timedelta(microseconds=1))
    later = NOON + timedelta(minutes=5)
    record(ledger, [HoldSet(hold=db01, at=NOON), HoldSet(hold=everywhere, at=later), HoldSet(hold=changed, at=later)])
    assert history.holds(ledger) == [everywhere, changed]
    record(ledger, [HoldSet(hold=db01, at=later), HoldEnded(machine="", by="bob", at=later)])
    assert history.holds(ledger) == [db01]
    record(ledger, [HoldEnded(machine="db01", by="bob", at=later), HoldEnded(machine="db02", by="bob", at=later)])
    assert history.holds(ledger) == []
    ledger.close()


def test_what_recovery_needs_is_there() -> None:
    """The tickets to ask for, who is still to be killed, and each attempt of a retried machine."""
    ledger, run = empty_ledger(), run_id("backup", NOON)
    first, second = ExecutionId(run, "db01"), ExecutionId(run, "db01", 2)
    lost = Outcome(end=End.LOST, code=253)
    events: list[LedgerEvent] = [
        run_started("backup", NOON),
        Targeted(run=run, machines=("db02", "db01", "db03"), at=NOON),
        Launched(run=run, ticket="1", attempt=1, machines=("db01", "db02"), at=NOON),
        Ended(execution=first, outcome=lost, at=NOON),
        Retrying(execution=second, at=NOON),
        Launched(run=run, ticket="2", attempt=2, machines=("db01",), at=NOON),
        CameLate(execution=first, outcome=Outcome(end=End.EXITED, code=0), at=NOON),
        KillRequested(run=run, machines=("db02",), by="ann", at=NOON, signal="INT", grace_s=2.5),
        KillRequested(run=run, machines=(), by="bob", at=NOON),
    ]
    record(ledger, events)
    assert history.launches(ledger, run) == [
        Launched(run=run, ticket="1", attempt=1, machines=("db02", "db01"), at=NOON),
        Launched(run=run, ticket="2", attempt=2, machines=("db01",), at=NOON),
    ]
    assert [(each.id.machine, each.id.attempt) for each in history.attempts(ledger, run)] == [
        ("db02", 1),
        ("db01", 1),
        ("db03", 1),
        ("db01", 2),
    ]
    [found] = history.unfinished(ledger)
    assert list(found.kills) == events[-2:]
    assert list(found.executions) == ["db02", "db01", "db03"]
    assert (found.executions["db01"].id, found.open) == (second, 3)
    assert history.attempts(ledger, run)[1].late == Outcome(end=End.EXITED, code=0)
    ledger.close()


def test_a_word_about_the_unknown_changes_nothing() -> None:
    ledger, nobody = empty_ledger(), ExecutionId("backup_1", "m")
    record(ledger, [run_started("backup", NOON)])
    before = history.unfinished(ledger)
    record(ledger, [Targeted(run="backup_1", machines=("m",), at=NOON), Confirmed(execution=nobody, at=NOON)])
    record(ledger, [Retrying(execution=nobody, at=NOON), RunEnded(run="x", verdict=Verdict.FAILED, at=NOON)])
    assert history.unfinished(ledger) == before
    assert history.attempts(ledger, "backup_1") == []
    ledger.close()


def test_runs_are_found_by_job_and_by_time() -> None:
    ledger = empty_ledger()
    hours = [NOON + timedelta(hours=hour) for hour in range(5)]
    record(ledger, [run_started(job, hour) for hour in hours for job in ("a", "b")])
    newest = [run_id("a", hour) for hour in reversed(hours)]
    assert [run.id for run in history.runs(ledger, "a", None, None, 100)] == newest
    assert [run.id for run in history.runs(ledger, "a", hours[1], hours[3], 100)] == newest[2:4]
    assert [run.job for run in history.runs(ledger, None, hours[3], None, 3)] == ["b", "a", "b"]
    assert history.find_run(ledger, "a_7") is None
    assert history.day_of(ledger, newest[0]) == "20251105"
    ledger.close()


def test_a_broken_text_costs_nothing_but_its_broken_part() -> None:
    ledger, run = empty_ledger(), run_id("backup", NOON)
    broken = "half \ud83d of a pair \x00"
    record(ledger, [run_started("backup", NOON), Targeted(run=run, machines=("m",), at=NOON)])
    outcome = Outcome(end=End.FAILED, code=1, text=broken)
    record(ledger, [Ended(execution=ExecutionId(run, "m"), outcome=outcome, at=NOON)])
    record(ledger, [RunEnded(run=run, verdict=Verdict.FAILED, at=NOON, text=broken)])
    [found] = history.last_runs(ledger)
    assert found.executions["m"].outcome == outcome
    assert found.text == "half \\ud83d of a pair \x00"
    ledger.close()


@attrs.frozen
class Move:
    """Something happens: `kind` says what, `which` picks the run, the execution or the job that it happens to."""

    kind: type[LedgerEvent]
    which: int
    at: datetime
    text: str
    outcome: Outcome


moves = st.builds(
    Move,
    st.sampled_from([RunStarted, Targeted, *get_args(LedgerEvent)]),  # the first two oftener: all else follows them
    st.integers(0, 30),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(timezone.utc)),  # noqa: DTZ001
    texts,
    outcomes,
)


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(moves, min_size=1, max_size=8), max_size=5))
def test_the_ledger_rebuilds_the_state(batches: list[list[Move]]) -> None:
    state = State(Config(jobs={}, settings=Settings(statedir="/s", logdir="/l")))
    ledger = empty_ledger()
    slots: dict[str, datetime] = {}
    for batch in batches:
        events = []
        for move in batch:
            events.append(event_of(state, move))
            apply(state, events[-1])
        record(ledger, events)
        for event in events:
            if isinstance(event, (RunStarted, SlotPassed)) and event.slot is not None:
                slots[event.job] = max(event.slot, slots.get(event.job, event.slot))
    assert history.unfinished(ledger) == list(state.runs.values())
    assert {run.job: run for run in history.last_runs(ledger)} == state.last
    assert history.last_slots(ledger) == slots
    for run in (*state.runs.values(), *state.last.values()):
        assert history.find_run(ledger, run.id) == run
        machines = [execution.id.machine for execution in history.attempts(ledger, run.id)]
        assert list(run.executions) == list(dict.fromkeys(machines))
    ledger.close()


def event_of(state: State, move: Move) -> LedgerEvent:
    """What `move` is in `state`; where nothing is there that it could happen to, a job's slot is passed over."""
    job, second = JOBS[move.which % len(JOBS)], NOON + timedelta(seconds=state.serial)
    if move.kind is RunStarted:
        return run_started(job, second if move.which % 2 else None, run=run_id(job, second))
    if living := list(state.runs.values()):
        run = living[move.which % len(living)]
        if (event := event_of_run(run, move)) is not None:
            return event
    known = [each for run in (*living, *state.last.values()) for each in run.executions.values()]
    if known and (event := event_of_execution(known[move.which % len(known)], move)) is not None:
        return event
    return SlotPassed(job=job, slot=move.at, reason=Reason.OVERLAP, text=move.text, at=second)


def event_of_run(run: RunState, move: Move) -> LedgerEvent | None:
    kind, at = move.kind, move.at
    if kind is Targeted:
        machines = {f"m{move.which}", move.text, "m1"} - run.executions.keys()
        return Targeted(run=run.id, machines=tuple(sorted(machines)), at=at)
    if kind is Launched and run.executions:
        attempt = move.which % 2 + 1
        alike = tuple(name for name, execution in run.executions.items() if execution.id.attempt == attempt)
        return Launched(run=run.id, ticket=str(move.which), attempt=attempt, machines=alike, at=at)
    if kind is KillRequested:
        return KillRequested(run=run.id, machines=(move.text,), by=move.text, at=at)
    if kind is RunEnded:
        verdicts = list(Verdict)
        return RunEnded(run=run.id, verdict=verdicts[move.which % len(verdicts)], at=at, text=move.text)
    return None


def event_of_execution(execution: ExecutionState, move: Move) -> LedgerEvent | None:
    own, at = execution.id, move.at
    if move.kind is Retrying and execution.ended_at is not None:
        return Retrying(execution=attrs.evolve(own, attempt=own.attempt + 1), at=at)
    if move.kind is Confirmed:
        return Confirmed(execution=own, at=at)
    if move.kind is Started:
        return Started(execution=own, pid=move.which, version=move.text, at=at)
    if move.kind is Ended:
        return Ended(execution=own, outcome=move.outcome, at=at)
    if move.kind is Bound:
        return Bound(execution=own, digest=move.text, at=at)
    return CameLate(execution=own, outcome=move.outcome, at=at) if move.kind is CameLate else None


def run_id(job: str, slot: datetime) -> str:
    return f"{job}_{slot.timestamp():.0f}"


def run_started(job: str, slot: datetime | None, run: str = "") -> RunStarted:
    name = run or run_id(job, slot or NOON)
    return RunStarted(run=name, job=job, slot=slot, by="schedule", token="t", at=slot or NOON)


def slot_passed(job: str, slot: datetime, reason: Reason) -> SlotPassed:
    return SlotPassed(job=job, slot=slot, reason=reason, text="why", at=NOON)


def life_of(run: str, machines: Sequence[str]) -> list[LedgerEvent]:
    """All that happens in a run that goes well."""
    fine = Outcome(end=End.EXITED, code=0)
    parts = [ExecutionId(run, machine) for machine in machines]
    return [
        run_started(run.rpartition("_")[0], None, run=run),
        Targeted(run=run, machines=tuple(machines), at=NOON),
        Launched(run=run, ticket="1", attempt=1, machines=tuple(machines), at=NOON),
        *(Confirmed(execution=each, at=NOON) for each in parts),
        *(Bound(execution=each, digest="d", at=NOON) for each in parts),
        *(Started(execution=each, pid=1, version="1", at=NOON) for each in parts),
        *(Ended(execution=each, outcome=fine, at=NOON) for each in parts),
        RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=NOON),
    ]


def test_what_happens_costs_the_same_however_much_the_ledger_holds() -> None:
    """Counted in steps of SQLite's machine, for no plan shows what the rules look through."""
    ledger, steps = empty_ledger(), Counter[str]()
    record(ledger, life_of("backup_0", ["m1", "m2"]))  # makes the rules known

    def costs(run: str) -> int:
        def step() -> None:
            steps[run] += 1

        ledger.set_progress_handler(step, 1)
        record(ledger, life_of(run, ["m1", "m2"]))
        ledger.set_progress_handler(None, 1)
        return steps[run]

    few = costs("backup_1")
    for number in range(300):
        record(ledger, life_of(f"other{number % 50}_{number}", [f"x{number}"]))
    assert costs("backup_2") <= 1.2 * few
    ledger.close()


def test_the_facts_of_many_machines_take_a_few_statements() -> None:
    """Each statement of a thread is a quarrel with the loop about Python's lock."""
    ledger = sqlite3.connect(":memory:", isolation_level=None, factory=Counting)
    ledger.executescript("".join(LEDGER))
    record(ledger, life_of("backup_0", ["m1"]))
    ledger.statements = 0
    record(ledger, life_of("backup_1", [f"m{number}" for number in range(100)]))  # 604 facts
    assert ledger.statements <= 604 // 64 + 8
    ledger.close()


def test_what_is_written_needs_no_file_elsewhere(tmp_path: Path) -> None:
    """SQLite would put what a large statement may have to take back into /var/tmp, and fail where that is full."""
    with closing(connect(tmp_path / "ledger.sqlite", LEDGER)) as ledger:
        for number in range(3):
            ledger.execute("BEGIN")
            machines = [f"m{each * 7919 % 100_000}" for each in range(1000)]
            record(ledger, life_of(f"backup_{number}", machines))
            files = [each.readlink().name for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
            ledger.execute("COMMIT")
            assert [name for name in files if name.startswith("etilqs")] == []
