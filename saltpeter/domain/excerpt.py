"""What of the state concerns the jobs of some groups: a state of its own, kept in step with the whole. No IO.

It has the serials of the whole, and shares the runs with it. Keeping in step costs what has changed; after a reload,
what there is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from saltpeter.domain.changes import Change, Changes, Kind
from saltpeter.domain.document import group_of
from saltpeter.domain.job import Config, Job
from saltpeter.domain.state import RunState, State
from saltpeter.errors import Problem

T = TypeVar("T")


@attrs.define(eq=False)
class Excerpt:
    """The part of a state that people see who may know of the jobs of `groups` only.

    Such a job is one that conf.d has now, in a file of one of these groups: with it go its runs, also those of
    earlier days, and the machines that they were on.
    """

    groups: frozenset[str]
    _state: State | None = attrs.field(default=None, init=False)
    _config: Config | None = attrs.field(default=None, init=False)  # the whole one, as it was looked at last
    _holds: int = attrs.field(default=-1, init=False)  # the serial of the holds that were looked at last
    _machines: set[str] = attrs.field(factory=set, init=False)  # that runs which were shown since then were on

    def of(self, whole: State) -> State:
        """The excerpt of `whole` as it is now; always the same object, as the whole is."""
        if self._state is None:
            self._state = State(Config(jobs={}, settings=whole.config.settings))
            self._start(whole, self._state)
        elif self._state.serial != whole.serial:
            changes = whole.changes.since(self._state.serial)
            if changes is None:
                self._start(whole, self._state)
            else:
                self._follow(whole, self._state, changes)
        return self._state

    def _start(self, whole: State, known: State) -> None:
        """Know all of it anew, and nothing of what has changed."""
        known.changes = Changes(whole.changes.bound, complete_since=whole.serial)
        self._reconfigure(whole, known)
        self._take_all(whole, known)
        self._finish(whole, known, fresh=True)

    def _follow(self, whole: State, known: State, changes: Sequence[Change]) -> None:
        """Bring it up to date; `changes`, the most recent first, are those of the whole since then."""
        jobs, runs, machines = known.config.jobs, dict(known.runs), len(self._machines)
        if is_reload := whole.config is not self._config:
            self._reconfigure(whole, known)
        if known.config.jobs.keys() == jobs.keys():
            _catch_up(whole, known, changes)
        else:
            self._take_all(whole, known)
        _note(whole, known, changes, runs, jobs)
        self._machines.update(each.machine for each in changes if each.machine and known.run(each.name))
        self._finish(whole, known, fresh=is_reload or len(self._machines) != machines)

    # --- jobs and their runs ---------------------------------------------------------------------

    def _reconfigure(self, whole: State, known: State) -> None:
        self._config = whole.config
        jobs = {name: job for name, job in whole.config.jobs.items() if job.group in self.groups}
        problems = self._problems(whole.config)
        config = attrs.evolve(whole.config, jobs=jobs, problems=problems, maintenance=known.config.maintenance)
        if config != known.config:
            known.config, known.config_serial = config, whole.serial

    def _problems(self, config: Config) -> tuple[Problem, ...]:
        """Those of our files; not of a job that is elsewhere as well, for they would say where."""
        elsewhere = {each.job for each in config.problems if group_of(each.path) not in self.groups}
        elsewhere |= {name for name, job in config.jobs.items() if job.group not in self.groups}
        ours = [each for each in config.problems if group_of(each.path) in self.groups]
        return tuple(each for each in ours if not each.job or each.job not in elsewhere)

    def _take_all(self, whole: State, known: State) -> None:
        jobs = known.config.jobs
        known.runs = {name: run for name, run in whole.runs.items() if run.job in jobs}
        known.last, known.next_slots = _only(whole.last, jobs), _only(whole.next_slots, jobs)
        known.touched = _only(whole.touched, jobs)
        self._machines = {name for run in (*known.runs.values(), *known.last.values()) for name in run.executions}

    # --- what concerns all -----------------------------------------------------------------------

    def _finish(self, whole: State, known: State, *, fresh: bool) -> None:
        """Take over the rest. `fresh`: which machines may be told of may have changed."""
        known.serial = whole.serial
        known.store_problem, known.store_serial = whole.store_problem, whole.store_serial
        if not fresh and whole.holds_serial == self._holds:
            return
        self._holds = whole.holds_serial
        holds = {machine: hold for machine, hold in whole.holds.items() if not machine or machine in self._machines}
        if holds != known.holds:
            known.holds, known.holds_serial = holds, whole.serial
        written = whole.config.maintenance
        maintenance = attrs.evolve(written, machines=written.machines & self._machines)
        if maintenance != known.config.maintenance:
            known.config = attrs.evolve(known.config, maintenance=maintenance)
            known.config_serial = whole.serial


def _only(known: Mapping[str, T], jobs: Container[str]) -> dict[str, T]:
    return {job: each for job, each in known.items() if job in jobs}


def _catch_up(whole: State, known: State, changes: Iterable[Change]) -> None:
    """Take over what `changes` name."""
    fresh: list[RunState] = []
    for change in changes:
        if change.kind is Kind.JOB and change.name in known.config.jobs:
            _take(whole.last, known.last, change.name)
            _take(whole.next_slots, known.next_slots, change.name)
        elif change.kind is Kind.RUN:
            run = whole.runs.get(change.name)
            if run is None:
                known.runs.pop(change.name, None)
            elif run.job in known.config.jobs and known.runs.get(run.id) is not run:
                fresh.append(run)
    known.runs.update((run.id, run) for run in sorted(fresh, key=lambda run: run.started_at))
    for job in reversed(whole.touched_since(known.serial)):
        if job in known.config.jobs:
            _put_last(known.touched, job, whole.touched[job])


def _note(
    whole: State, known: State, changes: Sequence[Change], runs: Mapping[str, RunState], jobs: Mapping[str, Job]
) -> None:
    """Note what has changed since the living `runs` and the `jobs` were those."""
    for change in reversed(changes):
        of_job = change.kind in (Kind.DEFINITION, Kind.JOB)
        if change.name in known.config.jobs or change.name in jobs if of_job else known.run(change.name) is not None:
            known.changes.note(change, whole.serial)
    for name in runs.keys() - known.runs.keys():
        known.changes.note(Change(Kind.RUN, name), whole.serial)
    for job in known.config.jobs.keys() - jobs.keys():
        _put_last(known.touched, job, whole.serial)
        of_it = known.last.get(job)
        for run in (*known.runs_of(job), *([of_it] if of_it else ())):  # for who knew it before, the ended one as well
            known.changes.note(Change(Kind.RUN, run.id), whole.serial)
            for machine in run.executions:
                known.changes.note(Change(Kind.MACHINE, run.id, machine), whole.serial)


def _take(source: Mapping[str, T], target: dict[str, T], name: str) -> None:
    if name in source:
        target[name] = source[name]
    else:
        target.pop(name, None)


def _put_last(touched: dict[str, int], job: str, serial: int) -> None:
    touched.pop(job, None)
    touched[job] = serial
