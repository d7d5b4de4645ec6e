"""Why a job ran at a time, or did not: what is recorded, held against what the schedule says. No IO."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from saltpeter.domain.job import Job
from saltpeter.engine.storage import Answer

NEAR = timedelta(seconds=60)  # who says 3:00 also means 3:00:30
PROMPT = timedelta(seconds=5)  # what is due takes a moment to be recorded
_SAME = timedelta(seconds=1)


def slot_near(job: Job | None, at: datetime) -> datetime | None:
    """The slot nearest to `at` that the schedule, as it is now, has near it."""
    if job is None or not job.enabled:
        return None
    near = takewhile(lambda slot: slot <= at + NEAR, job.schedule.fire_times(at - NEAR - _SAME))
    return min(near, key=lambda slot: abs(slot - at), default=None)


def explain(
    name: str,
    job: Job | None,
    *,
    at: datetime,
    slot: datetime | None,
    known: Answer,
    now: datetime,
    trouble: str | None = None,
) -> dict[str, Any]:
    """The answer about `at`, where the schedule has `slot` and the store knows `known` of it (of `at`, without one).

    `trouble` is what keeps the store from writing.
    """
    reach = NEAR if slot is None else _SAME
    is_it = known.slot is not None and abs(known.slot - (slot or at)) <= reach
    if is_it and known.run is not None:
        verdict = f"ended: {known.run.verdict.value}" if known.run.verdict else "is running"
        ran = {"answer": "ran", "slot": known.slot, "job_instance": known.run.id}
        return {**ran, "text": f"it ran as {known.run.id}, started by {known.run.by}, and {verdict}"}
    if is_it and known.passed is not None:
        reason = known.passed.reason.value
        return {"answer": "passed", "slot": known.slot, "reason": reason, "text": known.passed.text or reason}
    if slot is None:
        return _not_due(name, job, at, known)
    if slot > now - PROMPT:
        text = f"it is due at {slot.isoformat()}" if slot > now else "it is due just now, and not recorded yet"
        return {"answer": "pending", "slot": slot, "text": text}
    if trouble is not None and known.down is None:
        text = f"nothing of it is recorded yet, for {trouble}"
        return {"answer": "pending", "slot": slot, "text": text}
    return _unanswered(slot, known)


def _unanswered(slot: datetime, known: Answer) -> dict[str, Any]:
    """Of a slot that has passed without a word."""
    if (down := known.down) is not None:
        until = down.until.isoformat()
        text = (
            f"no daemon was there from {down.since.isoformat()} to {until}"
            if down.since
            else f"the first daemon here began at {until}"
        )
        span = {"from": down.since, "to": down.until}
        return {"answer": "down", "slot": slot, "text": text, "down": span}
    text = "the schedule has this slot now, but nothing is recorded: the job, or this schedule of it, may be newer"
    return {"answer": "not_due", "slot": slot, "text": text}


def _not_due(name: str, job: Job | None, at: datetime, known: Answer) -> dict[str, Any]:
    if job is None and known.slot is None:
        return {
            "answer": "unknown_job",
            "slot": None,
            "text": f"there is no job {name!r}, and nothing is recorded of one",
        }
    answer: dict[str, Any] = {"answer": "not_due", "slot": None}
    if job is None:
        return {**answer, "text": "there is no such job any more, and nothing is recorded near that time"}
    if not job.enabled:
        return {**answer, "text": "the job is disabled (enabled: false)"}
    after = job.schedule.next_after(at)
    then = f"the next slot after that is {after.isoformat()}" if after else "there is no slot after that"
    return {**answer, "text": f"it was not due then; {then}"}
