"""What is remembered of runs, as results of requests. No IO.

What is not known, or not yet, is None. Instants are left as they are: writing them out is left to `jsontext`, which is
several times as fast at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs
import cattrs

from saltpeter.domain.events import KillRequested
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.schedule import Schedule
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Alike, Done, MachineRecord, Matrix, Part, Passed, Stretch, Tally

Result: TypeAlias = dict[str, Any]

SHOWN = 50  # of a job's latest runs

# Of an execution, to be filled in: to make all that anew for each of thousands takes a third longer.
_UNKNOWN: Result = {
    "attempt": None,
    "state": None,
    "targeted": None,
    "launched": None,
    "confirmed": None,
    "started": None,
    "ended": None,
    "retcode": None,
    "outcome": None,
    "text": "",
    "late": None,
    "last_heartbeat": None,
    "rss": None,
    "cpu": None,
    "pid": None,
    "wrapper_version": None,
    "output_length": None,
    "receipt": None,
    "usage": None,
}
_PLAINLY = cattrs.Converter()  # several times as fast as attrs.asdict


def run(known: RunState, tally: Tally) -> Result:
    """A run in a line; `duration` in seconds."""
    return {
        "job_instance": known.id,
        "cron": known.job,
        "slot": known.slot,
        "by": known.by,
        "started": known.started_at,
        "ended": known.ended_at,
        "verdict": verdict(known),
        "text": known.text,
        "machines": tally.machines,
        "failed": tally.failed,
        "duration": _duration_s(known),
    }


def run_in_full(known: RunState, attempts: Iterable[ExecutionState]) -> Result:
    """A run with each machine's part, the `attempts` where there were several, and who asked for its end."""
    return {
        **run(known, Tally(len(known.executions), known.failed)),
        "results": {machine: execution(each) for machine, each in known.executions.items()},
        "attempts": [{"machine": each.id.machine, **execution(each)} for each in attempts],
        "kills": [kill(each) for each in known.kills],
    }


def execution(known: ExecutionState) -> Result:
    """One attempt on one machine."""
    told = _UNKNOWN.copy()
    told["attempt"] = known.id.attempt
    told["state"] = stage(known)
    told["targeted"] = known.targeted_at
    told["launched"] = known.launched_at
    told["confirmed"] = known.confirmed_at
    told["started"] = known.started_at
    told["ended"] = known.ended_at
    if (outcome := known.outcome) is not None:
        told["retcode"] = outcome.code
        told["outcome"] = outcome.end.value
        told["text"] = outcome.text
        told["receipt"] = _plain(outcome.receipt)
        told["usage"] = _plain(outcome.usage)
    if known.late:
        told["late"] = ending(known.late)
    told["last_heartbeat"] = known.last_heartbeat
    told["rss"] = known.rss
    told["cpu"] = known.cpu_s
    told["pid"] = known.pid
    told["wrapper_version"] = known.wrapper_version
    told["output_length"] = known.output_length
    return told


def stage(known: ExecutionState) -> str:
    """How far it has come: waiting, launched, running, paused or ended."""
    if known.ended_at is not None:
        return "ended"
    if known.paused:
        return "paused"
    if known.confirmed_at is not None or known.started_at is not None:
        return "running"
    return "waiting" if known.launched_at is None else "launched"


def ending(outcome: Outcome) -> Result:
    return {
        "retcode": outcome.code,
        "outcome": outcome.end.value,
        "text": outcome.text,
        "receipt": _plain(outcome.receipt),
        "usage": _plain(outcome.usage),
    }


def kill(asked: KillRequested) -> Result:
    """`machines` is empty when the whole run was meant."""
    return {"machines": list(asked.machines), "by": asked.by, "at": asked.at}


def statistics(runs: Sequence[RunState]) -> Result:
    """What a job's latest runs, newest first, have in common. Lists are oldest first, seconds and verdicts."""
    ended = [each for each in reversed(runs) if each.verdict is not None]
    durations = [duration_s for each in ended if (duration_s := _duration_s(each)) is not None]
    succeeded = sum(each.verdict is Verdict.SUCCEEDED for each in ended)
    return {
        "runs": len(ended),
        "success_rate": succeeded / len(ended) if ended else None,
        "p50": percentile(durations, 50),
        "p95": percentile(durations, 95),
        "durations": durations[-SHOWN:],
        "verdicts": [each.verdict.value for each in ended[-SHOWN:] if each.verdict],
    }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The least of `values` that `percent` of them do not exceed; None of none."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def latest(runs: Sequence[RunState]) -> Result:
    """`runs` in short, newest first, and how long a run usually takes."""
    return {"usual": usual_s(runs), "runs": [{**_short(each), "duration": _duration_s(each)} for each in runs]}


def _short(known: RunState) -> Result:
    return {"job_instance": known.id, "started": known.started_at, "verdict": verdict(known)}


def usual_s(runs: Iterable[RunState]) -> float | None:
    """The median of those that succeeded: what was killed or broke off says little of how long it takes."""
    took = [duration_s for each in runs if each.verdict is Verdict.SUCCEEDED and (duration_s := _duration_s(each))]
    return percentile(took, 50)


def matrix(runs: Sequence[RunState], known: Matrix) -> Result:
    """A line for each machine, with a cell for each run, newest first; a cell is None where it had no part."""
    lines = {machine: [_cell(parts.get(each.id)) for each in runs] for machine, parts in known.parts.items()}
    return {"runs": [_short(each) for each in runs], "machines": lines, "total": known.total}


def _cell(part: Part | None) -> Result | None:
    if part is None:
        return None
    return {"outcome": part.end.value if part.end else None, "retcode": part.code}


def passed(known: Passed) -> Result:
    return {
        "first": known.first,
        "last": known.last,
        "slots": known.slots,
        "reason": known.reason.value,
        "text": known.text,
        "at": known.at,
    }


def alike(groups: Sequence[Alike]) -> Result:
    return {"groups": [attrs.asdict(group) for group in groups]}


def slot(job: str, schedule: Schedule, at: datetime) -> Result:
    """A slot, what the clock in the job's zone shows then, and what is special about that."""
    local = at.astimezone(schedule.zone)
    return {"cron": job, "slot": at, "local": local, "zone": str(schedule.zone), "note": schedule.note(at)}


def verdict(known: RunState) -> str | None:
    return known.verdict.value if known.verdict else None


def timeline(stretches: Iterable[Stretch]) -> list[Result]:
    """When machines began and ended, oldest first."""
    moments: list[tuple[datetime, Result]] = []
    for each in stretches:
        about = {"cron": each.job, "job_instance": each.execution.run, "machine": each.execution.machine}
        for at, kind, code in ((each.began_at, "machine_start", ""), (each.ended_at, "machine_result", each.code)):
            if at is not None:
                moments.append((at, {**about, "timestamp": at, "ret_code": code, "msg_type": kind}))
    return [moment for _, moment in sorted(moments, key=lambda each: each[0])]


def done(known: Done) -> Result:
    """An execution that has ended on a machine."""
    return {
        "job_instance": known.execution.run,
        "cron": known.job,
        "attempt": known.execution.attempt,
        "started": known.began_at,
        "ended": known.ended_at,
        "outcome": known.end.value,
        "retcode": known.code,
    }


def machine(known: MachineRecord) -> Result:
    """How a machine fares; `failures` are those in a row."""
    return {
        "machine": known.machine,
        "ended": known.ended_at,
        "last": done(known.last) if known.last else None,
        "failures": known.failures,
        "failed": done(known.failed) if known.failed else None,
        "silent_since": known.silent_since,
    }


def _duration_s(known: RunState) -> float | None:
    return None if known.ended_at is None else (known.ended_at - known.started_at).total_seconds()


def _plain(given: attrs.AttrsInstance | None) -> Result | None:
    return None if given is None else _PLAINLY.unstructure(given)
