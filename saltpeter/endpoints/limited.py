"""The daemon as those know it who may know of some groups of jobs only.

They are given a board, a past and an engine in which there is nothing else. So whoever answers them, now or later,
cannot forget about the limit: a job outside it is a job that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

import attrs

from saltpeter.domain.events import ExecutionId, Launched
from saltpeter.domain.excerpt import Excerpt
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.state import ExecutionState, RunState, State, job_of
from saltpeter.endpoints.queries import Past
from saltpeter.engine.board import Board
from saltpeter.engine.commands import Commands, HandedOver
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
)
from saltpeter.errors import CommandRefused

NO_JOB = ""  # none can be called so
OF_ALL = "that concerns the jobs of all groups"


@attrs.frozen(eq=False)
class LimitedBoard:
    """Implements `Shown`: the excerpt of what the whole board shows."""

    whole: Board
    excerpt: Excerpt

    @property
    def state(self) -> State:
        return self.excerpt.of(self.whole.state)

    async def newer_than(self, serial: int) -> State:
        """The excerpt, as soon as anything has happened at all after `serial`."""
        await self.whole.newer_than(serial)
        return self.state

    def shows(self, job: str) -> bool:
        return job in self.state.config.jobs

    def lost(self, jobs: Collection[str]) -> Collection[str]:
        """Those of `jobs` that are not shown."""
        shown = self.state.config.jobs
        return [job for job in jobs if job not in shown]


@attrs.frozen(eq=False)
class LimitedPast:
    """Implements `Past`: what is remembered of the jobs that `board` shows."""

    whole: Past
    board: LimitedBoard

    def _has(self, run: str) -> bool:
        return self.board.shows(job_of(run))

    def _shown(self, jobs: Iterable[str]) -> list[str]:
        return [job for job in jobs if self.board.shows(job)]

    @property
    def _all(self) -> Collection[str]:
        return list(self.board.state.config.jobs)

    # --- runs ------------------------------------------------------------------------------------

    async def run(self, run: str) -> RunState | None:
        return await self.whole.run(run) if self._has(run) else None

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
        jobs = self._all if among is None else self._shown(among)
        return await self.whole.runs(job, since, until, limit, failed, among=jobs)

    async def tallies(self, runs: Sequence[str]) -> Mapping[str, Tally]:
        return await self.whole.tallies([run for run in runs if self._has(run)])

    async def stretches(
        self, since: datetime, until: datetime, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Stretch]:
        jobs = self._all if among is None else self._shown(among)
        return await self.whole.stretches(since, until, limit, jobs)

    async def latest(self, jobs: Sequence[str], count: int) -> Mapping[str, Sequence[RunState]]:
        return await self.whole.latest(self._shown(jobs), count)

    async def matrix(self, runs: Sequence[str], machines: int) -> Matrix:
        return await self.whole.matrix([run for run in runs if self._has(run)], machines)

    async def active(self, since: datetime, until: datetime) -> Mapping[str, Active]:
        found = await self.whole.active(since, until)
        return {job: each for job, each in found.items() if self.board.shows(job)}

    async def bars(self, jobs: Sequence[str], since: datetime, until: datetime, grain: timedelta) -> Bars:
        return await self.whole.bars(self._shown(jobs), since, until, grain)

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        return await self.whole.attempts(run) if self._has(run) else []

    async def launches(self, run: str) -> Sequence[Launched]:
        return await self.whole.launches(run) if self._has(run) else []

    # --- slots -----------------------------------------------------------------------------------

    async def passed(self, job: str, limit: int = 100) -> Sequence[Passed]:
        return await self.whole.passed(job, limit) if self.board.shows(job) else []

    async def why(self, job: str, at: datetime) -> Answer:
        return await self.whole.why(job if self.board.shows(job) else NO_JOB, at)

    # --- machines --------------------------------------------------------------------------------

    async def machines(
        self, since: datetime | None = None, among: Collection[str] | None = None
    ) -> Sequence[MachineRecord]:
        return await self.whole.machines(since, self._all if among is None else self._shown(among))

    async def done_on(self, machine: str, among: Collection[str] | None = None) -> Sequence[Done]:
        return await self.whole.done_on(machine, self._all if among is None else self._shown(among))

    # --- output ----------------------------------------------------------------------------------

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        return await self.whole.pieces(execution, first, limit) if self._has(execution.run) else []

    async def logs(self, execution: ExecutionId) -> Sequence[LogLine]:
        return await self.whole.logs(execution) if self._has(execution.run) else []

    async def alike(self, executions: Collection[ExecutionId]) -> Sequence[Alike]:
        return await self.whole.alike([each for each in executions if self._has(each.run)])

    async def health(self) -> StoreHealth:
        return await self.whole.health()


@attrs.frozen(eq=False)
class LimitedCommands:
    """Implements `Commands` for the jobs that `defined` knows; it refuses all others. What concerns all is not here."""

    whole: Commands
    defined: Callable[[str], object]

    async def run(self, job: str, by: str, machines: Collection[str] | None = None) -> str:
        self.defined(job)
        return await self.whole.run(job, by, machines)

    async def kill(
        self,
        job: str,
        by: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
        manner: Manner = AS_THE_JOB_SAYS,
    ) -> Sequence[HandedOver]:
        self.defined(job)
        return await self.whole.kill(job, by, machines, instance, manner)

    async def signal(
        self, job: str, by: str, signal: str, machines: Collection[str] | None = None, instance: str | None = None
    ) -> Sequence[HandedOver]:
        self.defined(job)
        return await self.whole.signal(job, by, signal, machines, instance)

    async def ended(self, handed: HandedOver) -> Sequence[tuple[ExecutionId, Outcome]]:
        return await self.whole.ended(handed)

    async def hold(self, machine: str, by: str, reason: str, until: datetime | None = None) -> NoReturn:
        raise CommandRefused("forbidden", OF_ALL)

    async def release(self, machine: str, by: str) -> NoReturn:
        raise CommandRefused("forbidden", OF_ALL)

    async def reload(self, by: str) -> NoReturn:
        raise CommandRefused("forbidden", OF_ALL)
