"""What is going on: the state that the events make. No IO, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import takewhile

import attrs
from typing_extensions import assert_never

from saltpeter.domain.changes import Change, Changes, Kind
from saltpeter.domain.events import (
    Awaited,
    Bound,
    CameLate,
    Configured,
    Confirmed,
    Ended,
    Event,
    ExecutionId,
    HoldEnded,
    HoldSet,
    KillRequested,
    Launched,
    NextSlot,
    OutputGrew,
    Paused,
    Recalled,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    StoreFares,
    Targeted,
)
from saltpeter.domain.job import Config, Hold, Maintenance
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.verdict import Verdict


@attrs.define
class ExecutionState:
    id: ExecutionId
    targeted_at: datetime
    ticket: str = ""  # of its launch
    launched_at: datetime | None = None
    confirmed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_heartbeat: datetime | None = None
    rss: int | None = None  # bytes that the command and its children had at the last heartbeat
    cpu_s: float | None = None  # that they had used until then
    pid: int | None = None
    paused: bool = False
    wrapper_version: str = ""
    output_length: int = 0
    outcome: Outcome | None = None
    late: Outcome | None = None
    bound: str = ""  # the digest of its wrapper's secret; never pushed to clients


@attrs.define
class RunState:
    id: str
    job: str
    slot: datetime | None
    by: str
    token: str
    started_at: datetime
    executions: dict[str, ExecutionState] = attrs.field(factory=dict)  # the latest attempt of each machine
    kills: tuple[KillRequested, ...] = ()  # oldest first
    ended_at: datetime | None = None
    verdict: Verdict | None = None
    text: str = ""  # why it ended so, where no execution tells it
    open: int = 0  # executions that have not ended
    failed: int = 0  # executions whose latest attempt has failed


@attrs.define
class State:
    """Everything that is shown now.

    `runs` holds the living runs; `last` the newest ended run of each job. `touched` names each job with the
    serial of its latest change, the most recent last, so that "what changed since" costs what changed; `changes`
    says the same of each thing that may change.
    """

    config: Config
    serial: int = 0
    config_serial: int = 0  # the serial of the latest Configured
    runs: dict[str, RunState] = attrs.field(factory=dict)
    last: dict[str, RunState] = attrs.field(factory=dict)
    holds: dict[str, Hold] = attrs.field(factory=dict)  # by machine; "" is every machine
    holds_serial: int = 0  # the serial of the latest change of `holds`
    store_problem: str | None = None  # why nothing can be made durable; then no run starts
    store_serial: int = 0  # the serial of the latest change of that
    next_slots: dict[str, datetime | None] = attrs.field(factory=dict)
    touched: dict[str, int] = attrs.field(factory=dict)
    changes: Changes = attrs.field(factory=Changes)

    def touched_since(self, serial: int) -> list[str]:
        """The jobs that changed after `serial`, the most recent first."""
        return list(takewhile(lambda job: self.touched[job] > serial, reversed(self.touched)))

    def maintenance(self, at: datetime) -> Maintenance:
        """What holds at `at`: by conf.d and by hand."""
        written = self.config.maintenance
        held = frozenset(hold.machine for hold in self.holds.values() if hold.counts(at))
        return Maintenance(everything=written.everything or "" in held, machines=written.machines | held - {""})

    def run(self, run: str) -> RunState | None:
        """The run of that id, living or the newest ended one of its job."""
        if run in self.runs:
            return self.runs[run]
        last = self.last.get(job_of(run))
        return last if last is not None and last.id == run else None

    def runs_of(self, job: str) -> list[RunState]:
        """The living runs of `job`, oldest first."""
        return [run for run in self.runs.values() if run.job == job]


def job_of(run: str) -> str:
    """Whose run it is, by its id."""
    return run.rpartition("_")[0]


def apply(state: State, event: Event) -> None:
    """Let `event` change `state` and raise its serial by one. What an event does not know of is left alone."""
    state.serial += 1
    match event:
        case Targeted() | Launched() | KillRequested() | RunEnded():
            if (run := state.runs.get(event.run)) is not None:
                _apply_to_run(state, run, event)
                _touch(state, run.job)
        case Retrying() | Confirmed() | Started() | Bound() | OutputGrew() | Paused() | Ended() | CameLate():
            if (run := state.run(event.execution.run)) is not None:
                _apply_to_execution(run, event)
                _note_execution(state, event)
                _touch(state, run.job)
        case Configured() | HoldSet() | HoldEnded():
            _apply_to_settings(state, event)
        case StoreFares():
            state.store_problem, state.store_serial = event.problem, state.serial
        case SlotPassed() | RunStarted() | Awaited() | NextSlot() | Recalled():
            _touch(state, _apply_to_job(state, event))
        case _:
            assert_never(event)


def _apply_to_settings(state: State, event: Configured | HoldSet | HoldEnded) -> None:
    match event:
        case Configured():
            for job in _redefined(state.config, event.config):
                _note(state, Kind.DEFINITION, job)
                _note(state, Kind.JOB, job)
            state.config, state.config_serial = event.config, state.serial
        case HoldSet():
            state.holds[event.hold.machine], state.holds_serial = event.hold, state.serial
        case HoldEnded():
            state.holds.pop(event.machine, None)
            state.holds_serial = state.serial
        case _:
            assert_never(event)


def _redefined(before: Config, after: Config) -> list[str]:
    """The jobs that are new, other than they were, or gone."""
    return [
        job
        for job in before.jobs.keys() | after.jobs.keys()
        if (old := before.jobs.get(job)) is not (new := after.jobs.get(job)) and old != new
    ]


def _apply_to_job(state: State, event: SlotPassed | RunStarted | Awaited | NextSlot | Recalled) -> str:
    """Returns the job's name."""
    match event:
        case SlotPassed() | Awaited():
            return event.job
        case RunStarted():
            state.runs[event.run] = RunState(
                id=event.run, job=event.job, slot=event.slot, by=event.by, token=event.token, started_at=event.at
            )
            _note(state, Kind.RUN, event.run)
            _note(state, Kind.JOB, event.job)
            return event.job
        case NextSlot():
            state.next_slots[event.job] = event.slot
            _note(state, Kind.JOB, event.job)
            return event.job
        case Recalled(run=run) if run.ended_at is None:
            state.runs[run.id] = run
            _note(state, Kind.RUN, run.id)
            _note_machines(state, run.id, run.executions)
        case Recalled(run=run):
            state.last[run.job] = run
        case _:
            assert_never(event)
    _note(state, Kind.JOB, event.run.job)
    return event.run.job


def _note(state: State, kind: Kind, name: str, machine: str = "") -> None:
    state.changes.note(Change(kind, name, machine), state.serial)


def _note_machines(state: State, run: str, machines: Iterable[str]) -> None:
    for machine in machines:
        _note(state, Kind.MACHINE, run, machine)


def _touch(state: State, job: str) -> None:
    state.touched.pop(job, None)
    state.touched[job] = state.serial


def _apply_to_run(state: State, run: RunState, event: Targeted | Launched | KillRequested | RunEnded) -> None:
    match event:
        case Targeted():
            for machine in event.machines:
                _begin(run, ExecutionId(run.id, machine), event.at)
            _note_machines(state, run.id, event.machines)
        case Launched():
            for machine in event.machines:
                execution = run.executions[machine]
                execution.launched_at, execution.ticket = event.at, event.ticket
            return _note_machines(state, run.id, event.machines)
        case RunEnded():
            run.ended_at, run.verdict, run.text = event.at, event.verdict, event.text
            del state.runs[run.id]
            state.last[run.job] = run
            _note(state, Kind.JOB, run.job)
        case KillRequested():
            run.kills += (event,)
        case _:
            assert_never(event)
    _note(state, Kind.RUN, run.id)


def _begin(run: RunState, execution: ExecutionId, at: datetime) -> None:
    before = run.executions.get(execution.machine)
    run.failed -= before is not None and before.outcome is not None and before.outcome.is_failure
    run.executions[execution.machine] = ExecutionState(execution, at)
    run.open += 1


def _note_execution(
    state: State, event: Retrying | Confirmed | Started | Bound | OutputGrew | Paused | Ended | CameLate
) -> None:
    execution = event.execution
    _note(state, Kind.OUTPUT if isinstance(event, OutputGrew) else Kind.MACHINE, execution.run, execution.machine)
    if isinstance(event, (Retrying, Ended)):  # they change how many are open, and how many have failed
        _note(state, Kind.RUN, execution.run)


def _apply_to_execution(
    run: RunState, event: Retrying | Confirmed | Started | Bound | OutputGrew | Paused | Ended | CameLate
) -> None:
    if isinstance(event, Retrying):
        return _begin(run, event.execution, event.at)
    execution = run.executions.get(event.execution.machine)
    if execution is None or execution.id != event.execution:
        return  # an earlier attempt's late word: the ledger keeps it
    match event:
        case Confirmed():
            execution.confirmed_at = event.at
        case Started():
            execution.started_at, execution.pid, execution.wrapper_version = event.at, event.pid, event.version
        case Bound():
            execution.bound = event.digest
        case OutputGrew():
            execution.output_length = event.length
        case Paused():
            execution.paused = event.paused
        case Ended():
            run.open -= execution.ended_at is None
            run.failed += event.outcome.is_failure - (execution.outcome is not None and execution.outcome.is_failure)
            execution.ended_at, execution.outcome = event.at, event.outcome
        case CameLate():
            execution.late = event.outcome
        case _:
            assert_never(event)
