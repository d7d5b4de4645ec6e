"""The whole engine in virtual time: a fleet, a store and wrappers that a test plays.

async with bottle(job(command="x"), fleet=two_machines()) as b:
    b.play("m1", Script(lasts_s=10, code=3))
    run = await b.runs.run("backup", "test")
    await b.ended(run)
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import trio

from saltpeter.domain.events import Configured, Ended, LedgerEvent, RunEnded
from saltpeter.domain.job import Config, Job, Maintenance, Settings, Target, TargetType
from saltpeter.domain.outcome import LEASE_S, Outcome
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import State
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.board import Board
from saltpeter.engine.departures import Departures
from saltpeter.engine.execution import Execution
from saltpeter.engine.latecomers import Roster
from saltpeter.engine.launcher import Call, StartWrapper
from saltpeter.engine.leases import Leases
from saltpeter.engine.means import Means
from saltpeter.engine.record import Recorder
from saltpeter.engine.recovery import remember, take_up
from saltpeter.engine.roster import Executions
from saltpeter.engine.runs import Runs
from saltpeter.engine.scheduler import Scheduler
from saltpeter.engine.secrets import ReadSecrets, read_secrets
from saltpeter.engine.tokens import Tokens
from sp_wrapper import wire
from tests.helpers.fake_launcher import FakeLauncher, FakeMachine, Reply
from tests.helpers.memory_store import MemoryStore

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=timezone.utc)
NO_MAINTENANCE = Maintenance()
SETTINGS = Settings(statedir="/nowhere", logdir="/nowhere")


def now() -> datetime:
    """Wall time, driven by trio's clock: a day of cron takes moments."""
    return NOON + timedelta(seconds=trio.current_time())


def job(name: str = "backup", *, schedule: str = "0 0 1 1 *", targets: str = "*", **facts: Any) -> Job:
    """A job on every machine of the fleet, that is never due unless `schedule` says so."""
    facts.setdefault("schedule", Schedule(Fields.parse(schedule)))
    facts.setdefault("target", Target(targets, TargetType.GLOB))
    return Job(name=name, group="test", path="test.yaml", line=1, command="true", **facts)


def fleet(*names: str) -> FakeLauncher:
    return FakeLauncher({name: FakeMachine() for name in names or ("m1",)})


@attrs.frozen(kw_only=True)
class Script:
    """What a machine's wrapper does, once it has been started."""

    lasts_s: float = 1.0
    code: int = 0
    connects_after_s: float = 0.2
    beats_for_s: float = float("inf")  # then it falls silent
    dies_on_kill: bool = True  # its command; when not, it needs KILL, after the grace
    reports: bool = True  # does its completion ever arrive?
    output: bytes = b""


@attrs.define(eq=False, repr=False)  # a whole daemon hangs on it: to write that down would take for ever
class PlayedWrapper:
    """Speaks for one execution as a wrapper's connection would."""

    script: Script
    execution: Execution
    paused: bool = False
    told: list[wire.FromDaemon] = attrs.field(factory=list)
    _killed: trio.Event = attrs.field(factory=trio.Event)

    def tell(self, message: wire.FromDaemon) -> None:
        self.told.append(message)
        if isinstance(message, wire.Kill):
            self._killed.set()

    async def play(self) -> None:
        async with trio.open_nursery() as nursery:
            self.execution.connected(self, wire.Connect(version="1", sent=0))
            await self.execution.started(wire.Start(pid=7, version="1"))
            nursery.start_soon(self._beat)
            complete = await self._run()
            if self.script.output:
                await self.execution.output(wire.Output(seq=0, data=self.script.output, offset=0))
            if self.script.reports:
                await self.execution.completed(complete)
            nursery.cancel_scope.cancel()

    async def _run(self) -> wire.Complete:
        with trio.move_on_after(self.script.lasts_s) as lasting:
            await self._killed.wait()
        if lasting.cancelled_caught:
            return wire.Complete(retcode=self.script.code)
        [kill] = [message for message in self.told if isinstance(message, wire.Kill)][:1]
        if not self.script.dies_on_kill:
            await trio.sleep(kill.grace)
        died = wire.Receipt(signalled=(wire.Process(7, "sh", "S"),), ended=(wire.Process(7, "sh"),))
        if kill.reason == "timeout":
            return wire.Complete(retcode=124, outcome="timeout", receipt=died)
        return wire.Complete(retcode=143, outcome="killed", receipt=died)

    async def _beat(self) -> None:
        with trio.move_on_after(self.script.beats_for_s):
            while True:
                await trio.sleep(wire.HEARTBEAT_S)
                self.execution.beat(wire.Heartbeat(paused=self.paused))


class Nobody:
    """Nobody counts."""

    def post(self, event: LedgerEvent) -> None:
        pass

    def output(self, size: int) -> None:
        pass


@attrs.define(eq=False, repr=False)  # as well
class Bottle:
    board: Board
    store: MemoryStore
    fleet: FakeLauncher
    roster: Roster
    runs: Runs
    scheduler: Scheduler
    nursery: trio.Nursery
    scripts: dict[str, Script] = attrs.field(factory=dict)
    wrappers: list[PlayedWrapper] = attrs.field(factory=list)

    def play(self, machine: str, script: Script) -> None:
        """What the wrappers that are started on `machine` from now on do."""
        self.scripts[machine] = script

    def start_wrapper(self, machine: str, call: Call) -> Reply | None:
        if isinstance(call, StartWrapper):
            self.nursery.start_soon(self._wrapper, machine, call.env)
        return None

    async def _wrapper(self, machine: str, env: Mapping[str, str]) -> None:
        script = self.scripts.get(machine, Script())
        await trio.sleep(script.connects_after_s)
        found = await self.roster.find(env["SP_JOB_INSTANCE"], machine, int(env["SP_ATTEMPT"]), env["SP_TOKEN"])
        wrapper = PlayedWrapper(script, found)
        self.wrappers.append(wrapper)
        await wrapper.play()

    def configure(self, *jobs: Job, maintenance: Maintenance = NO_MAINTENANCE, **settings: Any) -> None:
        config = Config(
            jobs={job.name: job for job in jobs},
            settings=attrs.evolve(SETTINGS, **settings),
            maintenance=maintenance,
        )
        self.board.post(Configured(config=config, at=now()))
        self.scheduler.stir()

    async def ended(self, run: str) -> Verdict:
        """Wait for the end of `run`."""
        serial = -1
        while True:
            serial = (await self.board.newer_than(serial)).serial
            for event in self.store.events:
                if isinstance(event, RunEnded) and event.run == run:
                    return event.verdict

    async def see(self, name: str = "backup", by: str = "test") -> dict[str, Outcome]:
        """Run the job to its end; the outcome on each machine."""
        run = await self.runs.run(name, by)
        await self.ended(run)
        return self.outcomes(run)

    def outcomes(self, run: str) -> dict[str, Outcome]:
        """The last outcome of each machine."""
        return {
            event.execution.machine: event.outcome
            for event in self.store.events
            if isinstance(event, Ended) and event.execution.run == run
        }

    def end_times(self, run: str) -> dict[str, float]:
        """When each machine's last attempt ended, in virtual seconds."""
        return {
            event.execution.machine: round((event.at - NOON).total_seconds(), 3)
            for event in self.store.events
            if isinstance(event, Ended) and event.execution.run == run
        }

    def of(self, kind: type[Any]) -> list[Any]:
        """The ledger's events of that kind, oldest first."""
        return [event for event in self.store.events if isinstance(event, kind)]


@asynccontextmanager
async def bottle(
    *jobs: Job,
    machines: FakeLauncher | None = None,
    store: MemoryStore | None = None,
    maintenance: Maintenance = NO_MAINTENANCE,
    secrets: ReadSecrets = read_secrets,
    **settings: Any,
) -> AsyncIterator[Bottle]:
    """A running engine with `jobs`, that has taken up what `store` remembers. Leaving it is a daemon's death."""
    machines = machines or fleet()
    store = store or MemoryStore()
    board = Board(State(Config(jobs={}, settings=SETTINGS)))
    means = Means(
        record=Recorder(store, board, Nobody()),
        executions=Executions(),
        departures=Departures(),
        leases=Leases(LEASE_S),
        launchers={"salt": machines, "local": machines},
        now=now,
        settings=lambda: board.state.config.settings,
        machines_url="ws://127.0.0.1:8889/",
        chance=random.Random(7),  # noqa: S311  a draw that can be replayed
        tokens=Tokens(b"0" * 32),
        read_secrets=secrets,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(means.departures.serve)
        nursery.start_soon(means.leases.serve)
        runs = Runs(means, nursery, reread=trio.lowlevel.checkpoint)
        scheduler = Scheduler(board, now, runs.due, runs.note, await store.last_slots())
        made = Bottle(board, store, machines, Roster(means, store), runs, scheduler, nursery)
        for machine in machines.machines.values():
            machine.on_start = machine.on_start or made.start_wrapper
        made.configure(*jobs, maintenance=maintenance, **settings)
        await remember(store, board)
        await take_up(store, board, runs)
        nursery.start_soon(scheduler.serve)
        try:
            yield made
        finally:
            for machine in machines.machines.values():  # they outlive the daemon
                machine.on_start = None
            nursery.cancel_scope.cancel()
