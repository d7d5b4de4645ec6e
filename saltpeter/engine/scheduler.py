"""Sleeps until the next slot, and hands it on. One heap; nobody looks at a job that is not due."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import attrs
import trio

from saltpeter.domain.events import Awaited, NextSlot, Reason, SlotPassed
from saltpeter.domain.job import Config, Job
from saltpeter.domain.schedule import Passed, Plan, plan
from saltpeter.engine.board import Board
from saltpeter.logs import fields

log = logging.getLogger(__name__)

_AT_ONCE = 25  # jobs planned before other tasks get their turn


def _nobody(_at: datetime | None) -> None:
    pass


@attrs.define(eq=False)
class Scheduler:
    """Fires each job's slots. `answered` says how far an earlier daemon came with each job.

    `due` and `record` return at once; what follows from them happens in tasks of its own.
    """

    board: Board
    now: Callable[[], datetime]
    due: Callable[[Job, datetime], None]
    record: Callable[[Sequence[SlotPassed | Awaited]], None]
    answered: Mapping[str, datetime]
    wake_me_at: Callable[[datetime | None], None] = _nobody  # who can do that better than trio stirs us then
    _jobs: dict[str, Job] = attrs.field(factory=dict, init=False)
    _since: dict[str, datetime] = attrs.field(factory=dict, init=False)  # slots up to here have their answer
    _heap: list[tuple[datetime, str]] = attrs.field(factory=list, init=False)
    _wakes: dict[str, datetime | None] = attrs.field(factory=dict, init=False)  # the heap's valid entry of each job
    _stirred: trio.Event = attrs.field(factory=trio.Event, init=False)

    def stir(self) -> None:
        """Look again: the jobs have changed, or the clock was set."""
        self._stirred.set()

    async def serve(self) -> None:
        """Run until cancelled."""
        config: Config | None = None
        while True:
            self._stirred = trio.Event()
            if config is not self.board.state.config:
                config = self.board.state.config
                await self._take(config)
            await self._fire_what_is_due()
            next_at = self._heap[0][0] if self._heap else None
            self.wake_me_at(next_at)
            with trio.move_on_after(self._seconds_until(next_at)):
                await self._stirred.wait()

    async def _take(self, config: Config) -> None:
        """Follow `config`: a job whose schedule is as it was keeps its place."""
        for name in self._jobs.keys() - {job.name for job in config.jobs.values() if job.enabled}:
            del self._jobs[name], self._wakes[name], self._since[name]
            self.board.post(NextSlot(job=name, slot=None))
        answered, self.answered = self.answered, {}  # a job that comes back later counts from then on
        new: list[Awaited] = []
        changed = [job for job in config.jobs.values() if job.enabled and self._jobs.get(job.name) is not job]
        for number, job in enumerate(changed):
            before = self._jobs.get(job.name)
            self._jobs[job.name] = job
            if before is not None and before.schedule == job.schedule:
                continue
            if job.name not in answered:
                new.append(Awaited(job=job.name, at=self.now()))
            self._since[job.name] = answered.get(job.name) or new[-1].at
            self._wake(job, job.schedule.next_after(self._since[job.name]))
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        self.record(new)

    async def _fire_what_is_due(self) -> None:
        for number in range(len(self._heap)):
            if not self._heap or self._heap[0][0] > self.now():
                return
            wake_at, name = heapq.heappop(self._heap)
            if self._wakes.get(name) == wake_at:
                self._plan(self._jobs[name])
            if number % _AT_ONCE == _AT_ONCE - 1:
                await trio.lowlevel.checkpoint()

    def _plan(self, job: Job) -> None:
        owed = plan(job.schedule, since=self._since[job.name], now=self.now())
        self._since[job.name] = owed.until
        self._tell_what_passed(job, owed)
        for slot in owed.fire:
            self.due(job, slot)
        self._wake(job, owed.wake_at)

    def _tell_what_passed(self, job: Job, owed: Plan) -> None:
        at = self.now()
        told: list[SlotPassed] = []
        newest = f"the slot of {owed.fire[-1].isoformat()} stands for it" if owed.fire else ""
        rule = f"misfire: {job.schedule.misfire.value}, misfire_grace: {job.schedule.misfire_grace_s:g}"
        late = f"noticed too late to start ({rule})"
        for reason, passed, text in (
            (Reason.MISSED, owed.missed, late),
            (Reason.COALESCED, owed.coalesced, newest),
        ):
            for first, last in _ranges(passed):
                log.warning("%s at %s: %s", job.name, first, text, extra=fields(f"run.{reason.value}", job=job.name))
                told.append(SlotPassed(job=job.name, slot=first, last=last, reason=reason, text=text, at=at))
        self.record(told)

    def _wake(self, job: Job, at: datetime | None) -> None:
        self._wakes[job.name] = at
        if at is not None:
            heapq.heappush(self._heap, (at, job.name))
        self.board.post(NextSlot(job=job.name, slot=at))

    def _seconds_until(self, at: datetime | None) -> float:
        return float("inf") if at is None else max(0.0, (at - self.now()).total_seconds())


def _ranges(passed: Passed) -> list[tuple[datetime, datetime | None]]:
    """Each slot by itself; where there are more than are listed, the last entry spans those up to the last."""
    if not passed.more:
        return [(slot, None) for slot in passed.slots]
    *listed, before_last, last = passed.slots
    return [*((slot, None) for slot in listed), (before_last, last)]
