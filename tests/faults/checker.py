"""The promises, as questions to the evidence. Each function yields what is wrong, a line each; nothing is best."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timezone
from itertools import takewhile

import attrs

from saltpeter.domain.config import Host
from saltpeter.domain.events import ExecutionId, Reason
from saltpeter.domain.job import Job
from saltpeter.domain.outcome import TERMINATED_TEXT, End, Outcome
from saltpeter.domain.state import ExecutionState
from saltpeter.engine.reload import Directory
from saltpeter.engine.storage import Passed
from tests.faults import command
from tests.faults.campaign import Noted
from tests.faults.evidence import Journal, Ledger, read_journal, read_ledger
from tests.faults.fleet import Fleet, Work, instant


@attrs.frozen(kw_only=True)
class Case:
    """All that is known of one campaign. `since` and `until`: a daemon was there, or should have been."""

    works: Mapping[str, Work]
    jobs: Mapping[str, Job]
    since: datetime
    until: datetime
    journal: Journal
    ledger: Ledger
    hurt: Collection[ExecutionId] = ()  # executions whose wrapper was killed: their code may be unknown

    def work(self, run: str) -> Work:
        return self.works[run.rpartition("_")[0]]


def examined(whole: Fleet, noted: Noted | None = None) -> Case:
    """The evidence that `whole` has left, once it has settled; `noted` is the harm that was done."""
    assert whole.ready_at is not None
    assert whole.idle_at is not None
    host = Host(statedir="", logdir="", zone=timezone.utc)
    return Case(
        works=whole.works,
        jobs=Directory(str(whole.daemon.conf_d), host, instant).load().config.jobs,
        since=whole.ready_at,
        until=whole.idle_at,
        journal=read_journal(whole.journal),
        ledger=read_ledger(whole.places, whole.works),
        hurt=() if noted is None else noted.hurt,
    )


def violations(case: Case) -> list[str]:
    """All that is wrong."""
    asked = (runs_end, nothing_runs_twice, nothing_runs_unrecorded, ends_are_right, output_is_right, slots_are_answered)
    return [f"{question.__name__}: {wrong}" for question in asked for wrong in question(case)]


def runs_end(case: Case) -> Iterator[str]:
    """Every run and every execution has ended."""
    yield from (f"{run.id} has not ended" for run in case.ledger.runs.values() if run.ended_at is None)
    yield from (f"{each.id} has no outcome" for each in case.ledger.attempts.values() if each.outcome is None)


def nothing_runs_twice(case: Case) -> Iterator[str]:
    """A machine has started each attempt of a run once at most."""
    for execution, times in case.journal.starts.items():
        if times > 1:
            yield f"{_name(execution)} was started {times} times"


def nothing_runs_unrecorded(case: Case) -> Iterator[str]:
    """What has started was in the ledger, as launched, and not as an orphan."""
    for execution in case.journal.starts:
        known = case.ledger.attempts.get(execution)
        if known is None or known.launched_at is None:
            yield f"{_name(execution)} ran, but the ledger knows of no launch"


def ends_are_right(case: Case) -> Iterator[str]:
    """The code that a command ended with is the one recorded, if need be as late."""
    for known in case.ledger.attempts.values():
        if known.outcome is not None and known.id not in case.hurt:
            problem = _problem_of_end(case, known, known.outcome)
            if problem:
                late = "" if known.late is None else f", late {known.late.end.value} {known.late.code}"
                recorded = f"{known.outcome.end.value} {known.outcome.code}{late} ({known.outcome.text})"
                yield f"{_name(known.id)} {problem}; recorded: {recorded}"


def _problem_of_end(case: Case, known: ExecutionState, outcome: Outcome) -> str:
    """Why an undisturbed execution's record cannot be true, "" when it can."""
    started, code = case.journal.starts[known.id] > 0, case.journal.ends.get(known.id)
    word = (known.late or outcome) if outcome.end is End.LOST else outcome  # the machine's
    match word.end:
        case End.EXITED if code is None:
            return "never ended by itself"
        case End.EXITED:
            return "" if word.code == code else f"ended with {code}"
        case End.KILLED:
            return "" if case.ledger.runs[known.id.run].kills or _may_be_replaced(case, known) else "was never killed"
        case End.TIMED_OUT:
            return "" if "timeout" in case.work(known.id.run).more else "has no timeout"
        case End.LOST:
            return "was never heard of again"
        case _:
            return "ran" if started else ""


def _may_be_replaced(case: Case, known: ExecutionState) -> bool:
    return case.work(known.id.run).more.get("overlap") == "replace"


def output_is_right(case: Case) -> Iterator[str]:
    """What is stored is what the command wrote, byte for byte; of one that was ended, as far as it came."""
    for known in case.ledger.attempts.values():
        execution, stored = known.id, case.ledger.output.get(known.id, b"")
        whole = command.said(execution.run, execution.machine, execution.attempt, case.work(execution.run).size)
        word = known.late or known.outcome
        if word is not None and word.end is End.EXITED:
            if _digest(stored) != _digest(whole):
                yield f"{_name(execution)}: {len(stored)} bytes are stored, not the {len(whole)} that it wrote"
        elif not whole.startswith(_without_last_words(stored, len(whole))):
            yield f"{_name(execution)}: what is stored is not how its output begins"


def _without_last_words(stored: bytes, limit: int) -> bytes:
    """Without the line in which the wrapper says why the output ends here."""
    body, _, last = stored.removesuffix(b"\n").rpartition(b"\n")
    if last == TERMINATED_TEXT.encode() or last.startswith(b"[Job exceeded timeout of "):
        return body[:limit]
    return stored


def slots_are_answered(case: Case) -> Iterator[str]:
    """Each slot became a run, or there is a reason why not; and there were no others."""
    for name, job in case.jobs.items():
        if case.works[name].schedule is None:
            continue
        schedule = job.schedule
        slots = list(takewhile(lambda slot: slot < case.until, schedule.fire_times(case.since)))
        ran = Counter(run.slot for run in case.ledger.runs.values() if run.job == name and run.slot is not None)
        passed = case.ledger.passed[name]
        for slot in slots:
            about = [each for each in passed if each.first <= slot <= each.last]
            if not ran[slot] and not about:
                yield f"{name} at {slot.time()}: no answer"
            elif not ran[slot] and all(_only_waited(each) for each in about):
                yield f"{name} at {slot.time()}: waited for its turn, and never had it ({about[0].text})"
            elif ran[slot] and not all(_only_waited(each) for each in about):
                yield f"{name} at {slot.time()}: ran, although {about[0].reason.value} ({about[0].text})"
        extra = [slot for slot in ran if slot > case.since and slot < case.until and slot not in set(slots)]
        yield from (f"{name} at {slot.time()}: ran without being due" for slot in extra)
        for each in passed:
            if each.reason is Reason.MISSED and (each.at - each.last).total_seconds() < schedule.misfire_grace_s:
                yield f"{name} at {each.last.time()}: counted as missed too early"


def _only_waited(passed: Passed) -> bool:
    return passed.reason is Reason.WAITING


def figures(case: Case) -> str:
    """What there was to check, in one line."""
    attempts = case.ledger.attempts.values()
    ends = Counter(each.outcome.end.value for each in attempts if each.outcome is not None)
    late = sum(each.late is not None for each in attempts)
    passed = Counter(each.reason.value for stretch in case.ledger.passed.values() for each in stretch)
    return (
        f"{len(case.ledger.runs)} runs, {len(case.ledger.attempts)} executions {dict(ends)},"
        f" {late} late, {len(case.hurt)} hurt; slots passed over: {dict(passed)}"
    )


def _name(execution: ExecutionId) -> str:
    return f"{execution.run} on {execution.machine}, attempt {execution.attempt}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
