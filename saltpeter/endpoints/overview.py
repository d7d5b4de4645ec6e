"""Jobs over a span of time: what was, from the store, and what is to come, from the schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import trio

from saltpeter.domain.job import Job
from saltpeter.domain.schedule import Schedule
from saltpeter.domain.state import State
from saltpeter.endpoints.records import Result
from saltpeter.engine.storage import Active, Bar, Bars, Passed

MARKS = 400  # slots to come that are told of one job
_AT_ONCE = 25  # slots worked out before other tasks get their turn


async def upcoming(state: State, start: datetime, end: datetime, now: datetime) -> dict[str, datetime]:
    """The first slot to come in [start, end) of each job that has one."""
    found: dict[str, datetime] = {}
    if end <= now:
        return found
    for number, job in enumerate(list(state.config.jobs.values())):
        slot = _first(state, job, start, now)
        if slot is not None and slot < end:
            found[job.name] = slot
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


def _first(state: State, job: Job, start: datetime, now: datetime) -> datetime | None:
    if not job.enabled:
        return None
    if start <= now:
        return state.next_slots.get(job.name)
    return job.schedule.next_after(start - timedelta(microseconds=1))


async def coming(jobs: Iterable[Job], start: datetime, end: datetime, grain: timedelta) -> dict[str, list[datetime]]:
    """The slots in [start, end) of `jobs`, of those in the same `grain` the first."""
    found: dict[str, list[datetime]] = {}
    for job in jobs:
        of_it = found.setdefault(job.name, [])
        for slot in _thinned(job.schedule, start, end, grain):
            of_it.append(slot)
            if len(of_it) % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
    return found


def _thinned(schedule: Schedule, start: datetime, end: datetime, grain: timedelta) -> Iterator[datetime]:
    slot = schedule.next_after(start - timedelta(microseconds=1))
    while slot is not None and slot < end:
        yield slot
        slot = schedule.next_after(slot + grain - timedelta(microseconds=1))


# --- as results of requests -----------------------------------------------------------------------


def active(known: Mapping[str, Active], upcoming: Mapping[str, datetime]) -> Result:
    nothing = Active()
    return {"crons": {job: _active(known.get(job, nothing), upcoming.get(job)) for job in {**known, **upcoming}}}


def _active(known: Active, coming: datetime | None) -> Result:
    return {"began": known.began_at, "failed": known.failed, "passed": known.passed, "coming": coming}


def bars(found: Bars, coming: Mapping[str, Iterable[datetime]]) -> Result:
    return {
        "bars": [_bar(each) for each in found.bars],
        "passed": [_passed(each) for each in found.passed],
        "coming": [{"cron": job, "slot": slot} for job, slots in coming.items() for slot in slots],
        "complete": found.complete,
    }


def _bar(known: Bar) -> Result:
    return {
        "cron": known.job,
        "began": known.began_at,
        "ended": known.ended_at,
        "runs": known.runs,
        "failed": known.failed,
        "job_instance": known.run,
        "verdict": known.verdict.value if known.verdict else None,
    }


def _passed(known: Passed) -> Result:
    return {
        "cron": known.job,
        "first": known.first,
        "last": known.last,
        "slots": known.slots,
        "reason": known.reason.value,
        "text": known.text,
    }
