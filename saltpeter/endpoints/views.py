"""The state as clients see it: protocol 1 of the control socket, as plain dicts. No IO.

Each view is made new, so that nothing in it changes while it waits to be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

from saltpeter.domain.job import Job, Settings
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.state import ExecutionState, RunState, State
from saltpeter.domain.verdict import Verdict
from sp_wrapper import wire

HIDDEN = "***"
_SECRET = re.compile("PASS|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


def newest_run(state: State, job: str) -> RunState | None:
    living = state.runs_of(job)
    return living[-1] if living else state.last.get(job)


def config(state: State, now: datetime) -> dict[str, Any]:
    return {
        "crons": {name: cron(job) for name, job in state.config.jobs.items()},
        "maintenance": maintenance(state, now),
        "saltpeter_config": settings(state.config.settings),
        "problems": [attrs.asdict(problem) for problem in state.config.problems],
        "serial": max(state.config_serial, state.holds_serial),
    }


def maintenance(state: State, now: datetime) -> dict[str, Any]:
    """What is under maintenance at `now`, by conf.d or by hand, and which holds people have set."""
    counted = state.maintenance(now)
    holds = [
        {
            "machine": hold.machine,
            "reason": hold.reason,
            "by": hold.by,
            "since": _iso(hold.since),
            "until": _iso(hold.until) or None,
        }
        for hold in state.holds.values()
        if hold.counts(now)
    ]
    return {"global": counted.everything, "machines": sorted(counted.machines), "holds": holds}


def cron(job: Job) -> dict[str, Any]:
    """A job as its file has it, with where that is; without what its environment keeps secret."""
    shown = dict(job.written)
    if isinstance(env := shown.get("env"), Mapping):
        shown["env"] = redacted(env)
    if isinstance(sources := shown.get("secret_env"), Mapping):
        shown["secret_env"] = {str(name): dict.fromkeys(source, HIDDEN) for name, source in sources.items()}
    return {**shown, "group": job.group, "path": job.path, "line": job.line}


def redacted(env: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): HIDDEN if _SECRET.search(str(name)) else value for name, value in env.items()}


def settings(now: Settings) -> dict[str, Any]:
    """The settings by the names that they have in the files."""
    elsewhere = ("wrapper", "server_host", "respond_within_s", "order_valid_for_s")
    shown = attrs.asdict(now, filter=lambda field, _: field.name not in elsewhere)
    return {
        **shown,
        "respond_within": now.respond_within_s,
        "order_valid_for": now.order_valid_for_s,
        "default_saltpeter_server_host": now.server_host,
        "default_wrapper_path": now.wrapper.path,
        "default_wrapper_loglevel": now.wrapper.loglevel,
        "default_wrapper_logdir": now.wrapper.logdir,
    }


def running(state: State) -> dict[str, Any]:
    """The living runs, each with the machines where it has not ended."""
    return {
        run.id: {
            "name": run.job,
            "started": run.started_at.isoformat(),
            "machines": [machine for machine, each in run.executions.items() if each.ended_at is None],
            "targets": len(run.executions),
        }
        for run in state.runs.values()
    }


def store_problem(state: State) -> dict[str, str]:
    """What a status says more while nothing can be made durable."""
    return {} if state.store_problem is None else {"store_problem": state.store_problem}


@attrs.define
class Running:
    """The living runs, worked out once for all clients that ask at the same moment."""

    _serial: int = attrs.field(default=-1, init=False)
    _made: dict[str, Any] = attrs.field(factory=dict, init=False)

    def of(self, state: State) -> dict[str, Any]:
        if self._serial != state.serial:
            self._serial, self._made = state.serial, running(state)
        return self._made


def last_state(state: State, job: str, newest: RunState | None) -> dict[str, Any]:
    """How the job's newest run, `newest`, went; while it lives nothing is held against it."""
    last = state.last.get(job) if newest is None or newest.ended_at is not None else None
    return {
        "last_run": _iso(newest.started_at if newest else None),
        "result_ok": last is None or last.verdict is Verdict.SUCCEEDED,
        "verdict": last.verdict.value if last and last.verdict else "",
        "job_instance": newest.id if newest else "",
        "next_run": _iso(state.next_slots.get(job)),
    }


def last_states(state: State, jobs: Iterable[str] | None = None) -> dict[str, Any]:
    """How the newest runs of `jobs` went; None: of all jobs that are in force or have run."""
    living = {run.job: run for run in state.runs.values()}
    wanted = {**state.config.jobs, **state.last, **living} if jobs is None else jobs
    return {job: last_state(state, job, living.get(job) or state.last.get(job)) for job in wanted}


def details(state: State, job: str, newest: RunState | None) -> dict[str, Any]:
    """All about `job` and its newest run but the output itself; `overlap`: more than one run of it lives."""
    executions = newest.executions if newest else {}
    return {
        "next_run": _iso(state.next_slots.get(job)),
        "last_run": _iso(newest.started_at if newest else None),
        "job_instance": newest.id if newest else "",
        "verdict": newest.verdict.value if newest and newest.verdict else "",
        "targets": list(executions),
        "overlap": len(state.runs_of(job)) > 1,
        "results": {machine: result(execution) for machine, execution in executions.items()},
    }


def result(execution: ExecutionState) -> dict[str, Any]:
    """One machine's part."""
    outcome = execution.outcome
    begun = execution.started_at or execution.confirmed_at or execution.launched_at
    shown: dict[str, Any] = {
        "ret": "",  # the output comes in chunks of its own
        "retcode": "" if outcome is None else outcome.code,
        "outcome": "" if outcome is None else outcome.end.value,
        "starttime": _iso(begun),
        "endtime": _iso(execution.ended_at),
        "last_heartbeat": _iso(execution.last_heartbeat),
        "wrapper_version": execution.wrapper_version,
        "output_length": execution.output_length,
        "attempt": execution.id.attempt,
        "paused": execution.paused,
    }
    if execution.late is not None:
        shown["late"] = {"retcode": execution.late.code, "outcome": execution.late.end.value}
    return shown


def killed(outcome: Outcome) -> dict[str, Any]:
    """How an execution that was asked to end did."""
    return {"retcode": outcome.code, "outcome": outcome.end.value, "receipt": receipt(outcome.receipt)}


def receipt(given: wire.Receipt | None) -> dict[str, Any] | None:
    return None if given is None else attrs.asdict(given)


def _iso(at: datetime | None) -> str:
    return "" if at is None else at.isoformat()
