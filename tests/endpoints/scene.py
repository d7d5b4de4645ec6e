"""A daemon's inside as the control socket sees it: a board, a shelf of what is remembered, and an engine that obeys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

import attrs
import trio

from saltpeter.domain.events import (
    Ended,
    Event,
    ExecutionId,
    HoldEnded,
    HoldSet,
    Launched,
    OutputGrew,
    RunStarted,
    Targeted,
)
from saltpeter.domain.job import Config, Hold, Job, Settings, Target
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import ExecutionState, RunState, State
from saltpeter.endpoints.auth import Gate, NoTokens
from saltpeter.endpoints.control import ControlEndpoint
from saltpeter.endpoints.http import Front
from saltpeter.endpoints.readiness import Check
from saltpeter.endpoints.strangers import MOST
from saltpeter.engine.board import Board
from saltpeter.engine.commands import HandedOver
from saltpeter.engine.execution import AS_THE_JOB_SAYS, Manner
from saltpeter.engine.storage import (
    Active,
    Alike,
    Answer,
    Bars,
    Done,
    LogLine,
    MachineRecord,
    Matrix,
    Passed,
    Piece,
    StoreHealth,
    Stretch,
    Tally,
    Writing,
)
from saltpeter.errors import CommandRefused, StoreError
from sp_wrapper import wire
from tests.endpoints.rig import now

RUN = "backup_1762346049"
DB01, DB02 = ExecutionId(RUN, "db01"), ExecutionId(RUN, "db02")
FINE = Outcome(end=End.EXITED, code=0)
HEALTH = StoreHealth(
    ledger=Writing(), output=Writing(), ledger_bytes=2**20, output_bytes=2**20, free_bytes=2**30, set_aside=()
)
KILLED = Outcome(end=End.KILLED, code=143, receipt=wire.Receipt(ended=(wire.Process(7, "sleep"),)))


def job(name: str, schedule: str = "0 3 * * *", group: str = "nightly", **written: object) -> Job:
    return Job(
        name=name,
        group=group,
        path=f"/etc/{group}.yaml",
        line=1,
        schedule=Schedule(Fields.parse(schedule)),
        command="true",
        target=Target("*"),
        written=MappingProxyType({"command": "true", **written}),
    )


def config(*jobs: Job) -> Config:
    return Config(jobs={each.name: each for each in jobs}, settings=Settings(statedir="/s", logdir="/l"))


@attrs.define(eq=False)
class Shelf:
    """What the store remembers: here, what the board shows, the output, and runs that the board has let go of."""

    board: Board
    output: dict[ExecutionId, list[Piece]] = attrs.field(factory=dict)
    older: dict[str, RunState] = attrs.field(factory=dict)

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        await trio.sleep(0.001)
        return self.output.get(execution, [])[first : first + limit]

    async def run(self, run: str) -> RunState | None:
        return self.board.state.run(run) or self.older.get(run)

    async def runs(
        self,
        job: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        failed: bool | None = None,
        *,
        among: Collection[str] | None = None,
    ) -> Sequence[RunState]:
        of_it = [run for run in self._runs() if job in (None, run.job) and (among is None or run.job in among)]
        return of_it[:limit]

    async def tallies(self, runs: Sequence[str]) -> Mapping[str, Tally]:
        return {run.id: Tally(len(run.executions), run.failed) for run in self._runs() if run.id in runs}

    async def stretches(
        self, since: datetime, until: datetime, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Stretch]:
        return [
            Stretch(run.job, each.id, each.started_at, each.ended_at, each.outcome.code if each.outcome else None)
            for run in self._runs()
            if since <= run.started_at < until and (among is None or run.job in among)
            for each in run.executions.values()
        ]

    async def latest(self, jobs: Sequence[str], count: int) -> Mapping[str, Sequence[RunState]]:
        return {job: await self.runs(job, limit=count) for job in jobs}

    async def matrix(self, runs: Sequence[str], machines: int) -> Matrix:
        return Matrix({}, 0)

    async def alike(self, executions: Collection[ExecutionId]) -> Sequence[Alike]:
        return []

    async def active(self, since: datetime, until: datetime) -> Mapping[str, Active]:
        return {}

    async def bars(self, jobs: Sequence[str], since: datetime, until: datetime, grain: timedelta) -> Bars:
        return Bars([], [], complete=True)

    async def machines(
        self, since: datetime | None = None, among: Collection[str] | None = None
    ) -> Sequence[MachineRecord]:
        return []

    async def done_on(self, machine: str, among: Collection[str] | None = None) -> Sequence[Done]:
        return []

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        return [each for known in self._runs() if known.id == run for each in known.executions.values()]

    async def launches(self, run: str) -> Sequence[Launched]:
        return []

    async def passed(self, job: str, limit: int = 100) -> Sequence[Passed]:
        return []

    async def logs(self, execution: ExecutionId) -> Sequence[LogLine]:
        return []

    async def why(self, job: str, at: datetime) -> Answer:
        return Answer()

    async def health(self) -> StoreHealth:
        return HEALTH

    def _runs(self) -> list[RunState]:
        state = self.board.state
        return [*state.runs.values(), *state.last.values(), *self.older.values()]


@attrs.define(eq=False)
class Scene:
    """A daemon whose story the test tells. Implements `Commands`."""

    board: Board = attrs.field(factory=lambda: Board(State(config(job("backup"), job("other")))))
    checks: Mapping[str, Check] = attrs.field(factory=dict)
    gate: Gate = attrs.field(factory=lambda: Gate(NoTokens(), b"key", now))
    asked: list[tuple[object, ...]] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)
    shelf: Shelf = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.shelf = Shelf(self.board)

    def front(self, most_strangers: int = MOST) -> Front:
        return ControlEndpoint(self.board, self.shelf, self, "1.0", now, self.gate, self.checks).front(most_strangers)

    # --- what happens ---

    def post(self, *events: Event) -> None:
        for event in events:
            self.board.post(event)

    def start(self, *machines: str, run: str = RUN) -> None:
        self.post(
            RunStarted(run=run, job="backup", slot=None, by="x", token="secret!", at=now()),
            Targeted(run=run, machines=machines, at=now()),
        )

    def write(self, execution: ExecutionId, data: bytes) -> None:
        pieces = self.shelf.output.setdefault(execution, [])
        pieces.append(Piece(len(pieces), data))
        length = sum(len(piece.data) for piece in pieces)
        self.post(OutputGrew(execution=execution, length=length, at=now()))

    def end(self, execution: ExecutionId, outcome: Outcome = FINE) -> None:
        self.post(Ended(execution=execution, outcome=outcome, at=now()))

    # --- what people ask ---

    async def run(self, job: str, by: str, machines: Collection[str] | None = None) -> str:
        if job == "broken":
            raise StoreError("the disk is full")
        if job not in self.board.state.config.jobs:
            raise CommandRefused("unknown_job", f"there is no job {job!r}")
        self.asked.append(("run", job, by, machines))
        return RUN

    async def kill(
        self,
        job: str,
        by: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
        manner: Manner = AS_THE_JOB_SAYS,
    ) -> Sequence[HandedOver]:
        self.asked.append(("kill", job, by, machines, instance, manner))
        if not self.board.state.runs_of(job):
            raise CommandRefused("not_running", f"{job} is not running")
        return [HandedOver(RUN, (DB01,), (DB01,))]

    async def signal(
        self,
        job: str,
        by: str,
        signal: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
    ) -> Sequence[HandedOver]:
        self.asked.append(("signal", job, by, signal, machines, instance))
        return [HandedOver(RUN, (DB01, DB02), (DB01,))]

    async def hold(self, machine: str, by: str, reason: str, until: datetime | None = None) -> None:
        self.post(HoldSet(hold=Hold(machine=machine, reason=reason, by=by, since=now(), until=until), at=now()))

    async def release(self, machine: str, by: str) -> None:
        self.post(HoldEnded(machine=machine, by=by, at=now()))

    async def ended(self, handed: HandedOver) -> Sequence[tuple[ExecutionId, Outcome]]:
        await self.done.wait()
        return [(execution, KILLED) for execution in handed.executions]

    async def reload(self, by: str) -> None:
        await trio.sleep(0.01)
        self.asked.append(("reload", by))
