"""May a due slot become a run, and when may its machines start? Plain decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias, Union

import attrs

from saltpeter.domain.events import Reason
from saltpeter.domain.job import Job, Maintenance, Overlap, Share
from saltpeter.domain.outcome import End, Outcome


@attrs.frozen
class Start:
    """Run it now."""


@attrs.frozen
class Queue:
    """Run it when the living run has ended."""

    text: str


@attrs.frozen
class Replace:
    """End the living runs, then run it."""

    text: str


@attrs.frozen
class Pass:
    """Do not run it, and record why."""

    reason: Reason
    text: str


Admission: TypeAlias = Union[Start, Queue, Replace, Pass]


def admit(job: Job, *, living: Sequence[str], queued: bool, maintenance: Maintenance) -> Admission:
    """Decide on a slot of `job` that is due. `living` are its unended runs, `queued` whether one waits for them."""
    if maintenance.everything:
        return Pass(Reason.MAINTENANCE, "maintenance: no new runs are started")
    if not living or job.overlap is Overlap.ALLOW:
        return Start()
    if job.overlap is Overlap.REPLACE:
        return Replace(f"replaces {', '.join(living)}")
    if job.overlap is Overlap.SKIP:
        return Pass(Reason.OVERLAP, f"{living[-1]} was still running")
    if queued:
        return Pass(Reason.OVERLAP, f"{living[-1]} was still running, and another slot was waiting for it")
    return Queue(f"waits for {living[-1]} to end")


def splay(job: str, machine: str, within_s: float) -> float:
    """How many whole seconds, below `within_s`, `job` holds back its start on `machine`; the same every time.

    Whole seconds, so that machines which start together are launched together.
    """
    if within_s < 1:
        return 0.0
    digest = hashlib.blake2b(f"{job}\0{machine}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") % int(within_s))


def too_many_failures(outcomes: Iterable[Outcome], limit: Share | None, total: int) -> bool:
    """Whether no further machine of the `total` should be launched."""
    if limit is None:
        return False
    failures = sum(1 for outcome in outcomes if counts_as_failure(outcome))
    return failures >= limit.of(total)


def counts_as_failure(outcome: Outcome) -> bool:
    return not outcome.succeeded and outcome.end is not End.MAINTENANCE


def worth_a_retry(outcome: Outcome) -> bool:
    """A failure that another attempt may mend: not what a person or the machine's own claim has decided."""
    return counts_as_failure(outcome) and outcome.end not in (End.KILLED, End.REFUSED)
