"""How a run ended, from how its executions did."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from saltpeter.domain.job import Share
from saltpeter.domain.outcome import End, Outcome


class Verdict(enum.Enum):
    SUCCEEDED = "success"
    FAILED = "failed"
    KILLED = "killed"
    NO_TARGETS = "no_targets"


def verdict(outcomes: Iterable[Outcome], success: Share) -> Verdict:
    """Judge a run. Machines under maintenance do not count; with none left there were no targets.

    A run that a person killed is KILLED, unless enough machines had succeeded all the same.
    """
    counted = [outcome for outcome in outcomes if outcome.end is not End.MAINTENANCE]
    if not counted:
        return Verdict.NO_TARGETS
    if sum(outcome.succeeded for outcome in counted) >= success.of(len(counted)):
        return Verdict.SUCCEEDED
    if any(outcome.end is End.KILLED for outcome in counted):
        return Verdict.KILLED
    return Verdict.FAILED
