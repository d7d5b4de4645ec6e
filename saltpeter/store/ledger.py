"""What the ledger is told: events become facts, which its rules take (see there). Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import TypeAlias, Union

from typing_extensions import assert_never

from saltpeter.domain.events import (
    Awaited,
    Bound,
    CameLate,
    Confirmed,
    Ended,
    HoldEnded,
    HoldSet,
    KillRequested,
    Launched,
    LedgerEvent,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    Targeted,
)
from saltpeter.store import fleet
from saltpeter.store.codec import clean, to_us
from saltpeter.store.facts import Fact
from saltpeter.store.outcomes import dump_outcome

_OfRun: TypeAlias = Union[RunStarted, Targeted, Launched, KillRequested, RunEnded]
_OfExecution: TypeAlias = Union[Retrying, Confirmed, Started, Bound, Ended, CameLate]


def facts_of(events: Iterable[LedgerEvent]) -> list[Fact]:
    """What `events` tell, in their order. Neighbouring slots that did not run and share an answer are one fact."""
    facts: list[Fact] = []
    for answer, group in groupby(events, key=_answer):
        if answer is None:
            facts.extend(chain.from_iterable(map(_facts, group)))
        else:
            facts.append(_fact_of_slots([event for event in group if isinstance(event, SlotPassed)]))
    return facts


def _answer(event: LedgerEvent) -> object:
    """What became of a slot that did not run; None for all else."""
    return (event.job, event.reason, event.text, event.at) if isinstance(event, SlotPassed) else None


def _facts(event: LedgerEvent) -> Iterable[Fact]:
    match event:
        case RunStarted() | Targeted() | Launched() | KillRequested() | RunEnded():
            return _facts_of_run(event)
        case Retrying() | Confirmed() | Started() | Bound() | Ended() | CameLate():
            return (_fact_of_execution(event),)
        case HoldSet() | HoldEnded():
            return (_fact_of_hold(event),)
        case Awaited():
            return (Fact("awaited", "", to_us(event.at), number=to_us(event.at), job=event.job),)
        case SlotPassed():
            return (_fact_of_slots([event]),)
        case _:
            assert_never(event)


def _fact_of_slots(alike: Sequence[SlotPassed]) -> Fact:
    event = alike[0]
    slots_us = {to_us(slot) for each in alike for slot in (each.slot, each.last or each.slot)}
    more = json.dumps({"first_us": min(slots_us), "slots": len(slots_us), "reason": event.reason.value})
    at_us, text = to_us(event.at), clean(event.text)
    return Fact("slot_passed", "", at_us, number=max(slots_us), text=text, more=more, job=event.job)


def _facts_of_run(event: _OfRun) -> Iterable[Fact]:
    run, at_us = event.run, to_us(event.at)
    match event:
        case RunStarted():
            slot_us = None if event.slot is None else to_us(event.slot)
            yield Fact("run_started", run, at_us, number=slot_us, text=clean(event.by), more=event.token, job=event.job)
        case Targeted():
            yield Fact("targeted", run, at_us, tuple(event.machines))
        case Launched():
            yield Fact("launching", run, at_us, attempt=event.attempt, text=event.ticket)
            yield Fact("launched", run, at_us, tuple(event.machines), event.attempt)
        case KillRequested():
            more = json.dumps({"machines": event.machines, "signal": event.signal, "grace_s": event.grace_s})
            yield Fact("kill_requested", run, at_us, text=clean(event.by), more=more)
        case RunEnded():
            yield Fact("run_ended", run, at_us, text=event.verdict.value, more=clean(event.text))
        case _:
            assert_never(event)


def _fact_of_execution(event: _OfExecution) -> Fact:
    where = (event.execution.run, to_us(event.at), event.execution.machine, event.execution.attempt)
    match event:
        case Retrying():
            return Fact("retrying", *where)
        case Confirmed():
            return Fact("confirmed", *where)
        case Started():
            return Fact("started", *where, event.pid, clean(event.version))
        case Bound():
            return Fact("bound", *where, text=event.digest)
        case Ended():
            return Fact("ended", *where, fleet.sign(event.outcome), dump_outcome(event.outcome))
        case CameLate():
            return Fact("came_late", *where, text=dump_outcome(event.outcome))
        case _:
            assert_never(event)


def _fact_of_hold(event: HoldSet | HoldEnded) -> Fact:
    if isinstance(event, HoldEnded):
        return Fact("hold_ended", "", to_us(event.at), clean(event.machine))
    hold = event.hold
    since_us, until_us = to_us(hold.since), None if hold.until is None else to_us(hold.until)
    machine, reason, by = clean(hold.machine), clean(hold.reason), clean(hold.by)
    return Fact("hold_set", "", since_us, machine, number=until_us, text=reason, more=by)
