"""What people ask about the past, the present and the future: read from the store, the board and the schedules."""

from __future__ import annotations

import base64
import codecs
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

import attrs
import trio

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.job import Job
from saltpeter.domain.state import RunState
from saltpeter.domain.values import suggestion
from saltpeter.endpoints import overview, reasons, records, verbs, views
from saltpeter.endpoints.forms import BadRequest, Moment
from saltpeter.endpoints.records import Result
from saltpeter.endpoints.vitals import Vitals
from saltpeter.engine.board import Shown
from saltpeter.engine.storage import Alike, History, Piece, Tally
from saltpeter.errors import CommandRefused

DEFAULT_SLOTS = 10
MOST_SLOTS = 10_000  # of a request that names an end instead of a count
MOST_STRETCHES = 20_000  # executions on a timeline
STATISTICS = 1000  # runs that statistics are of
_AT_ONCE = 25  # slots worked out before other tasks get their turn
_BEFORE = 2  # pieces that are read before a page, for a character that it may begin inside of


_Slots: TypeAlias = tuple[datetime, str, Iterator[datetime]]  # the next one, whose, and those after it


class Outputs(Protocol):
    """The part of the store that output comes from."""

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        """Output pieces from index `first` on, oldest first, at most `limit`."""


class Past(History, Outputs, Protocol):
    """All that is read from the store."""


@attrs.frozen
class Queries:
    """Answers requests that change nothing. `now` gives the time as an aware datetime. Raises CommandRefused."""

    board: Shown
    past: Past
    now: Callable[[], datetime]
    vitals: Vitals

    # --- runs -----------------------------------------------------------------------------------

    async def runs(self, asked: verbs.GetRuns) -> Result:
        found = await self.past.runs(asked.job, self._at(asked.since), self._at(asked.until), asked.limit, asked.failed)
        if not found and asked.job is not None:
            self.job(asked.job)
        tallies = await self.past.tallies([run.id for run in found])
        return {"runs": [records.run(run, tallies.get(run.id, Tally())) for run in found]}

    async def run(self, instance: str) -> Result:
        known = await self.find(instance)
        retried = {machine for machine, latest in known.executions.items() if latest.id.attempt > 1}
        attempts = await self.past.attempts(instance) if retried else ()
        return records.run_in_full(known, [each for each in attempts if each.id.machine in retried])

    async def find(self, instance: str) -> RunState:
        """The run of that id: as the board has it, else as it is remembered."""
        known = self.board.state.run(instance) or await self.past.run(instance)
        if known is None:
            raise CommandRefused("unknown_run", f"there is no run {instance!r}")
        return known

    async def statistics(self, job: str) -> Result:
        found = await self.past.runs(job, limit=STATISTICS)
        if not found:
            self.job(job)
        return records.statistics(found)

    async def latest(self, asked: verbs.GetLatest) -> Result:
        found = await self.past.latest(asked.jobs, asked.count)
        return {"crons": {job: records.latest(runs) for job, runs in found.items()}}

    async def matrix(self, asked: verbs.GetMatrix) -> Result:
        runs = await self.past.runs(asked.job, limit=asked.count)
        if not runs:
            self.job(asked.job)
        return records.matrix(runs, await self.past.matrix([run.id for run in runs], asked.machines))

    async def passed(self, asked: verbs.GetPassed) -> Result:
        found = await self.past.passed(asked.job, asked.limit)
        if not found:
            self.job(asked.job)
        return {"passed": [records.passed(each) for each in found]}

    async def alike(self, instance: str) -> Result:
        """Groups of machines; those that wrote nothing are a group as well."""
        executions = {each.id.machine: each.id for each in (await self.find(instance)).executions.values()}
        groups = await self.past.alike(executions.values())
        silent = tuple(executions.keys() - {machine for group in groups for machine in group.machines})
        return records.alike([*groups, Alike(tuple(sorted(silent)), 0, 0, "")] if silent else groups)

    async def timeline(self, asked: verbs.GetTimeline) -> Result:
        now = self.now()
        start, end = asked.start.at(now), asked.end.at(now)
        if start >= end:
            raise BadRequest("bad_time", "getTimeline: start_date must lie before end_date")
        content = records.timeline(await self.past.stretches(start, end, MOST_STRETCHES))
        return {"id": asked.id, "serial": self.board.state.serial, "content": content}

    async def overview(self, asked: verbs.GetActive | verbs.GetBars) -> Result:
        """What jobs have in a span of time."""
        now = self.now()
        start, end = asked.start.at(now), asked.end.at(now)
        if start >= end:
            raise BadRequest("bad_time", "start_date must lie before end_date")
        if isinstance(asked, verbs.GetActive):
            known = await self.past.active(start, end)
            return overview.active(known, await overview.upcoming(self.board.state, start, end, now))
        found = await self.past.bars(asked.jobs, start, end, timedelta(seconds=asked.grain_s))
        jobs = [job for name in asked.jobs if (job := self.board.state.config.jobs.get(name)) and job.enabled]
        grain = max(timedelta(seconds=asked.grain_s), (end - start) / overview.MARKS)
        return overview.bars(found, await overview.coming(jobs, max(start, now), end, grain))

    # --- machines and the daemon ----------------------------------------------------------------

    async def fleet(self, asked: verbs.GetMachines | verbs.GetMachine) -> Result:
        """Machines, or one of them, and what has ended there."""
        if isinstance(asked, verbs.GetMachine):
            done = await self.past.done_on(asked.machine)
            return {"machine": asked.machine, "parts": [records.done(each) for each in done]}
        found = await self.past.machines(self._at(asked.since))
        return {"now": self.now(), "machines": [records.machine(each) for each in found]}

    async def health(self) -> Result:
        """How the daemon fares: its checks, how late slots were of late, and what it keeps."""
        return await self.vitals.health()

    # --- output ---------------------------------------------------------------------------------

    async def output(self, asked: verbs.GetOutput) -> Result:
        """A page of output, from piece `position` on; `total_length` in bytes."""
        known = (await self.find(asked.instance)).executions.get(asked.machine)
        if known is None:
            raise CommandRefused("unknown_machine", f"{asked.instance} has no part on {asked.machine!r}")
        if asked.attempt is not None and asked.attempt != known.id.attempt:
            attempts = await self.past.attempts(asked.instance)
            wanted = ExecutionId(asked.instance, asked.machine, asked.attempt)
            if not (of_it := [each for each in attempts if each.id == wanted]):
                raise CommandRefused("unknown_machine", f"{asked.machine} had no attempt {asked.attempt}")
            [known] = of_it
        ended = known.ended_at is not None
        first = max(asked.position - _BEFORE, 0)
        pieces = await self.past.pieces(known.id, first, asked.position - first + asked.limit)
        page = [piece for piece in pieces if piece.index >= asked.position][: asked.limit]
        is_last = len(page) < asked.limit
        before = [piece for piece in pieces if piece.index < asked.position]
        text = _text(before, page, is_complete=ended and is_last)
        return {
            **({"data_b64": _base64(page)} if asked.raw else {"chunk": text}),
            "next": page[-1].index + 1 if page else asked.position,
            "is_complete": ended and is_last,
            "total_length": known.output_length,
        }

    # --- slots ----------------------------------------------------------------------------------

    async def next(self, asked: verbs.Next) -> Result:
        jobs = list(self.board.state.config.jobs.values()) if asked.job is None else [self.job(asked.job)]
        since, until = asked.since.at(self.now()), self._at(asked.until)
        count = asked.count or (DEFAULT_SLOTS if until is None else MOST_SLOTS)
        slots: list[Result] = []
        schedules = {job.name: job.schedule for job in jobs}
        for at, job in _merged(await _begun([job for job in jobs if job.enabled], since)):
            if len(slots) == count or (until is not None and at > until):
                break
            slots.append(records.slot(job, schedules[job], at))
            if len(slots) % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return {"slots": slots}

    async def why(self, asked: verbs.Why) -> Result:
        job = self.board.state.config.jobs.get(asked.job)
        now = self.now()
        at = asked.at.at(now)
        slot = reasons.slot_near(job, at)
        known = await self.past.why(asked.job, slot or at)
        trouble = self.board.state.store_problem
        return reasons.explain(asked.job, job, at=at, slot=slot, known=known, now=now, trouble=trouble)

    # --- what is there --------------------------------------------------------------------------

    def job(self, name: str) -> Job:
        """The job that is called so. Raises CommandRefused: unknown_job."""
        jobs = self.board.state.config.jobs
        if name not in jobs:
            raise CommandRefused("unknown_job", f"there is no job {name!r}{suggestion(name, jobs)}")
        return jobs[name]

    def maintenance(self) -> Result:
        return views.maintenance(self.board.state, self.now())

    def configuration(self) -> Result:
        """What a reload led to."""
        config = self.board.state.config
        return {"jobs": len(config.jobs), "problems": [attrs.asdict(problem) for problem in config.problems]}

    def _at(self, moment: Moment | None) -> datetime | None:
        return None if moment is None else moment.at(self.now())


async def _begun(jobs: Iterable[Job], since: datetime) -> list[_Slots]:
    """The slots of `jobs` after `since`; others get their turn in between."""
    begun = []
    for number, job in enumerate(jobs):
        slots = job.schedule.fire_times(since)
        if (first := next(slots, None)) is not None:
            begun.append((first, job.name, slots))
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return begun


def _merged(begun: list[_Slots]) -> Iterator[tuple[datetime, str]]:
    """Each job's slots, all together soonest first."""
    heapq.heapify(begun)
    while begun:
        at, job, slots = begun[0]
        yield at, job
        if (following := next(slots, None)) is None:
            heapq.heappop(begun)
        else:
            heapq.heapreplace(begun, (following, job, slots))


def _base64(page: Iterable[Piece]) -> str:
    return base64.b64encode(b"".join(piece.data for piece in page)).decode()


def _text(before: Iterable[Piece], page: Iterable[Piece], *, is_complete: bool) -> str:
    """The text of `page`; with the character that `before` began, without the one that the next page will end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in before:
        if not piece.system:
            decoder.decode(piece.data)
    texts = [piece.data.decode("utf-8", "replace") if piece.system else decoder.decode(piece.data) for piece in page]
    return "".join(texts) + (decoder.decode(b"", final=True) if is_complete else "")
