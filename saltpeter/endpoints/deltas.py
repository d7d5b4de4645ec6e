"""Protocol 2 of the control socket: everything once, then what changes. No IO.

What a client has been told is a serial. What it is due is worked out from the newest state when it is ready for it: a
slow client gets newer news, not more, and a change costs what has changed, however much else there is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from math import inf
from typing import Any, Literal, TypeAlias

import attrs

from saltpeter.domain.changes import Change, Kind
from saltpeter.domain.state import RunState, State
from saltpeter.endpoints import control_wire as wire
from saltpeter.endpoints import records, views
from saltpeter.engine.storage import Tally

MERGE_S = 0.1  # changes come at most this often
GROWTH_S = 1.0  # how much machines have written, at most this often

SETTINGS = ("maintenance", "saltpeter_config", "problems", "store_problem")
_BY_NAME = ("crons", "jobs", "runs")  # parts that are left out where nothing of them has changed

Because: TypeAlias = Literal["new", "restarted", "too_old"]
_Settings: TypeAlias = tuple[object, object, object]
_CHANGED = (SETTINGS[:3], ("maintenance",), ("store_problem",))  # the parts to tell when one of _Settings has changed


@attrs.define(eq=False)
class Texts:
    """Messages as text, worked out once for all clients that are due the same at the same serial."""

    _serial: int = attrs.field(default=-1, init=False)
    _made: dict[tuple[object, ...], str] = attrs.field(factory=dict, init=False)

    def of(self, state: State, key: tuple[object, ...], make: Callable[[], Mapping[str, Any]]) -> str:
        if self._serial != state.serial:
            self._serial, self._made = state.serial, {}
        if key not in self._made:
            self._made[key] = wire.pack(make())
        return self._made[key]


@attrs.define
class _Watched:
    """A job that is told of in detail. `run` is the one that was told of last, "" for none yet.

    `told_to` is the serial up to which all of it is told: what has `grown` since, too.
    """

    pinned: RunState | None = None  # the run that was asked for by its id
    known: int | None = None  # the serial up to which the client knows that run from before
    run: str = ""
    begun_at: int = -1  # the serial at which that was first told of
    told_to: int = -1
    grown: set[str] = attrs.field(factory=set)  # machines whose output is longer than was told


@attrs.define(eq=False)
class Deltas:
    """One client's view. Times are those of trio's clock, in seconds.

    `serial` is what the client knows already; None: nothing, `because` says why. `wake_at` is when something that was
    held back becomes due; inf when nothing is.
    """

    _sp_version: str
    _life: str
    _texts: Texts
    _serial: int | None = None
    _because: Because = "new"
    _listens: bool = True  # to all; else only to the jobs that it subscribes to
    _same_life: bool = True  # what it knows from before was told by this daemon
    wake_at: float = attrs.field(default=inf, init=False)
    _settings: _Settings | None = attrs.field(default=None, init=False)  # what was told of them
    _again_at: float = attrs.field(default=-inf, init=False)
    _growth_at: float = attrs.field(default=-inf, init=False)
    _watched: dict[str, _Watched] = attrs.field(factory=dict, init=False)

    @property
    def subscribed(self) -> Collection[str]:
        return self._watched.keys()

    def subscribe(self, job: str, run: RunState | None = None, known: int | None = None) -> None:
        """Tell of `job` in detail: of `run`, which the client knows up to the serial `known`, or of its newest run."""
        watched = self._watched.get(job)
        if watched is None or (watched.pinned and watched.pinned.id) != (run and run.id):
            self._watched[job] = _Watched(run, known if self._same_life else None)

    def unsubscribe(self, job: str) -> None:
        self._watched.pop(job, None)

    def run_of(self, state: State, job: str) -> RunState | None:
        """The run of `job` that the client sees."""
        pinned = self._watched[job].pinned
        return views.newest_run(state, job) if pinned is None else state.run(pinned.id) or pinned

    def due(self, state: State, at: float, now: datetime) -> list[str]:
        """The messages to send now, in this order. `at` is trio's time and `now` the wall's."""
        self.wake_at = inf
        messages = list(self._fresh(state))
        if at >= self._again_at:
            news = list(self._news(state, at, now))
            if news:
                self._again_at = at + MERGE_S
            return news + messages
        self.wake_at = self._again_at
        return messages

    def _fresh(self, state: State) -> Iterable[str]:
        """Runs of which the client has not heard yet: whole, or what is new to it."""
        for job, watched in self._watched.items():
            run = self.run_of(state, job)
            if run is not None and run.id != watched.run:
                watched.run, watched.begun_at = run.id, state.serial
                watched.grown.clear()
                known, watched.known = watched.known, None
                changes = None if known is None else state.changes.since(known)
                if known is None or changes is None:
                    watched.told_to = state.serial
                    yield self._texts.of(state, ("run", run.id), lambda run=run: _whole(state, run))  # type: ignore[misc]
                else:
                    watched.told_to = known
                    of_run = [change for change in changes if change.name == run.id]
                    yield from self._changed(state, run, watched, of_run, known)

    def _news(self, state: State, at: float, now: datetime) -> Iterable[str]:
        since = self._serial
        changes = None if since is None else state.changes.since(since)
        settings = self._settings_of(state, at, now)
        if changes is None:
            yield from self._everything(state, settings, now)
        elif changes or settings != self._settings:
            if self._listens:
                yield from self._overview(state, changes, settings, now)
            yield from self._details(state, changes)
        self._serial, self._settings = state.serial, settings
        yield from self._growth(state, at)

    def _settings_of(self, state: State, at: float, now: datetime) -> _Settings:
        """What changes whenever maintenance, settings or problems do."""
        ends = [hold.until for hold in state.holds.values() if hold.until is not None and hold.counts(now)]
        if ends:
            self.wake_at = at + (min(ends) - now).total_seconds()  # then that machine is not held any more
        return (state.config_serial, (state.holds_serial, state.maintenance(now)), state.store_problem)

    def _everything(self, state: State, settings: _Settings, now: datetime) -> Iterable[str]:
        because = self._because if self._serial is None else "too_old"
        if self._listens:
            head = {"type": "snapshot", "protocol": 2, "life": self._life, "serial": state.serial, "because": because}
            told = {**head, "sp_version": self._sp_version}
            yield self._texts.of(state, ("snapshot", because, settings), lambda: {**told, **_all(state, now)})
        if self._serial is not None:  # of the runs, too, nobody knows what has been missed
            for watched in self._watched.values():
                watched.run = ""
            yield from self._fresh(state)

    def _overview(self, state: State, changes: Collection[Change], settings: _Settings, now: datetime) -> Iterable[str]:
        fresh = settings != self._settings
        if not fresh and all(change.kind is Kind.OUTPUT for change in changes):
            return

        def made() -> dict[str, Any]:
            parts = {"crons": _crons(state, changes), "jobs": _jobs(state, changes), "runs": _runs(state, changes)}
            parts |= _of_settings(state, now, _names(self._settings, settings))
            told = {name: part for name, part in parts.items() if part or name not in _BY_NAME}
            return {"type": "changes", "serial": state.serial, **told}

        yield self._texts.of(state, ("changes", self._serial, settings if fresh else None), made)

    def _details(self, state: State, changes: Collection[Change]) -> Iterable[str]:
        if not self._watched:
            return
        by_run: dict[str, list[Change]] = {}
        for change in changes:
            by_run.setdefault(change.name, []).append(change)
        for watched in self._watched.values():
            run = state.run(watched.run)
            if run is not None and watched.begun_at != state.serial:
                yield from self._changed(state, run, watched, by_run.get(run.id, []), self._serial)

    def _changed(
        self, state: State, run: RunState, watched: _Watched, changes: Collection[Change], since: int | None
    ) -> Iterable[str]:
        """Of `run`, its `changes` since that serial; how much machines have written comes later."""
        watched.grown.update(change.machine for change in changes if change.kind is Kind.OUTPUT)
        if not watched.grown:
            watched.told_to = state.serial
        if any(change.kind in (Kind.RUN, Kind.MACHINE) for change in changes):
            to = watched.told_to
            yield self._texts.of(state, ("run", run.id, since, to), lambda: _part(run, changes, to))

    def _growth(self, state: State, at: float) -> Iterable[str]:
        grown = [each for each in self._watched.values() if each.grown]
        if not grown:
            return
        if at < self._growth_at:
            self.wake_at = min(self.wake_at, self._growth_at)
            return
        self._growth_at = at + GROWTH_S
        for watched in grown:
            if (run := state.run(watched.run)) is not None:
                lengths = {name: run.executions[name].output_length for name in watched.grown & run.executions.keys()}
                yield wire.pack({**_head(run, state.serial, whole=False), "lengths": lengths})
            watched.grown.clear()
            watched.told_to = state.serial


# --- what is told ---------------------------------------------------------------------------------


def _all(state: State, now: datetime) -> dict[str, Any]:
    return {
        "crons": {name: views.cron(job) for name, job in state.config.jobs.items()},
        "jobs": views.last_states(state),
        "runs": {
            run.id: {**_line(run), "machines": {name: records.stage(each) for name, each in run.executions.items()}}
            for run in state.runs.values()
        },
        **_of_settings(state, now),
    }


def _names(before: _Settings | None, after: _Settings) -> Iterable[str]:
    """Which settings have to be told; of those from conf.d all."""
    if before is None:
        return SETTINGS
    apart = zip(before, after, _CHANGED, strict=True)
    changed = {name for one, other, names in apart if one != other for name in names}
    return (name for name in SETTINGS if name in changed)


def _of_settings(state: State, now: datetime, names: Iterable[str] = SETTINGS) -> dict[str, Any]:
    whole = {
        "maintenance": views.maintenance(state, now),
        "saltpeter_config": views.settings(state.config.settings),
        "problems": [attrs.asdict(problem) for problem in state.config.problems],
        "store_problem": state.store_problem,
    }
    return {name: whole[name] for name in names}


def _crons(state: State, changes: Iterable[Change]) -> dict[str, Any]:
    names = [change.name for change in changes if change.kind is Kind.DEFINITION]
    jobs = {name: state.config.jobs.get(name) for name in names}
    return {name: None if job is None else views.cron(job) for name, job in jobs.items()}


def _jobs(state: State, changes: Iterable[Change]) -> dict[str, Any]:
    names = [change.name for change in changes if change.kind is Kind.JOB]
    return views.last_states(state, names) if names else {}


def _runs(state: State, changes: Iterable[Change]) -> dict[str, Any]:
    """The living runs of which something has changed, each with the machines that have; None: it lives no longer."""
    told: dict[str, Any] = {}
    for change in changes:
        run = state.runs.get(change.name)
        if change.kind is Kind.RUN:
            told[change.name] = None if run is None else {**_line(run), "machines": {}, **told.get(change.name, {})}
        elif change.kind is Kind.MACHINE and run is not None:
            entry = told.setdefault(run.id, {**_line(run), "machines": {}})
            entry["machines"][change.machine] = records.stage(run.executions[change.machine])
    return told


def _line(run: RunState) -> dict[str, Any]:
    """A living run, apart from its machines: `open` are those that have not ended, of `targets` in all."""
    return {
        "cron": run.job,
        "slot": run.slot,
        "by": run.by,
        "started": run.started_at,
        "targets": len(run.executions),
        "open": run.open,
        "failed": run.failed,
    }


def _head(run: RunState, serial: int, *, whole: bool) -> dict[str, Any]:
    head = {"type": "run", "cron": run.job, "job_instance": run.id}
    return {**head, "serial": serial, "whole": whole}


def _facts(run: RunState) -> dict[str, Any]:
    told = records.run(run, Tally(len(run.executions), run.failed))
    return {**told, "kills": [records.kill(each) for each in run.kills]}


def _whole(state: State, run: RunState) -> dict[str, Any]:
    results = {machine: records.execution(each) for machine, each in run.executions.items()}
    return {**_head(run, state.serial, whole=True), "run": _facts(run), "results": results}


def _part(run: RunState, changes: Iterable[Change], serial: int) -> dict[str, Any]:
    """`serial` is the one up to which all of the run is told, with this."""
    machines = {change.machine for change in changes if change.kind is Kind.MACHINE}
    results = {machine: records.execution(run.executions[machine]) for machine in sorted(machines)}
    return {**_head(run, serial, whole=False), "run": _facts(run), "results": results}
