"""What those are told who may know of some groups of jobs only: the state's excerpt, whatever happens to the whole."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.domain.changes import Changes, Kind
from saltpeter.domain.events import Configured, Ended, Event, ExecutionId, HoldSet, RunEnded, RunStarted, Targeted
from saltpeter.domain.excerpt import Excerpt
from saltpeter.domain.job import Config, Hold, Maintenance
from saltpeter.domain.state import State, apply, job_of
from saltpeter.domain.verdict import Verdict
from saltpeter.errors import Problem
from tests.endpoints.rig import NOON
from tests.endpoints.scene import FINE, config, job
from tests.endpoints.test_deltas import JOBS, Told, events, hear, viewer

OURS = frozenset({"web", "shop"})
GROUPS = ("web", "shop", "vault")


def regrouped(state: State, draw: st.DataObject) -> Iterable[Event]:
    """Some jobs are there, each in any of the groups."""
    named = draw.draw(st.sets(st.sampled_from(JOBS), min_size=1))
    jobs = [job(each, group=draw.draw(st.sampled_from(GROUPS)), owner=str(state.serial % 2)) for each in sorted(named)]
    maintenance = Maintenance(machines=draw.draw(st.frozensets(st.sampled_from(["m1", "m9"]))))
    return [Configured(config=attrs.evolve(config(*jobs), maintenance=maintenance), at=NOON)]


def told_of(excerpt: Excerpt, whole: State) -> Told:
    """What somebody who comes just now is told."""
    told = Told()
    hear(told, viewer(), excerpt.of(whole), 0)
    return told


@settings(max_examples=200, deadline=None)
@given(draw=st.data(), bound=st.sampled_from([3, 10, 1000]))
def test_it_is_kept_as_if_it_were_made_just_now(draw: st.DataObject, bound: int) -> None:
    whole = State(config(*(job(each, group="web") for each in JOBS)), changes=Changes(bound))
    excerpt, told, listening, at = Excerpt(OURS), Told(), viewer(), 0.0
    for _ in range(draw.draw(st.integers(1, 25))):
        for event in regrouped(whole, draw) if draw.draw(st.booleans()) else events(whole, draw):
            apply(whole, event)
        match draw.draw(st.sampled_from(["hear", "miss", "reconnect"])):
            case "hear":
                at += draw.draw(st.sampled_from([0.05, 0.2, 2.0]))
                hear(told, listening, excerpt.of(whole), at)
            case "reconnect":
                listening = viewer(told.serial)
        check(excerpt, whole)
    for _ in range(2):
        at += 2.0
        hear(told, listening, excerpt.of(whole), at)
    there = told_of(excerpt, whole)
    assert told.overview["crons"] == there.overview["crons"]
    assert told.overview["runs"] == there.overview["runs"]
    assert {name: told.overview["jobs"][name] for name in there.overview["jobs"]} == there.overview["jobs"]
    for part in ("maintenance", "store_problem", "problems"):
        assert told.overview[part] == there.overview[part]
    if there.run:
        assert (told.run, told.results) == (there.run, there.results)


def check(excerpt: Excerpt, whole: State) -> None:
    """It holds what it should, and nothing else."""
    kept, made = excerpt.of(whole), Excerpt(OURS).of(whole)
    ours = {name for name, each in whole.config.jobs.items() if each.group in OURS}
    assert kept.config.jobs == made.config.jobs == {name: whole.config.jobs[name] for name in ours}
    assert kept.serial == whole.serial
    for part in ("runs", "last", "next_slots"):
        assert getattr(kept, part) == getattr(made, part), part
    assert {run.job for run in (*kept.runs.values(), *kept.last.values())} <= ours
    assert made.touched.keys() <= kept.touched.keys() <= ours  # one that has come since is told anew
    assert list(kept.touched.values()) == sorted(kept.touched.values())
    for name in JOBS:
        assert [run.id for run in kept.runs_of(name)] == [run.id for run in made.runs_of(name)]
    seen = {"m1", "m2", "m3"} if ours else set()
    assert made.holds.keys() <= kept.holds.keys() <= seen
    assert made.config.maintenance.machines <= kept.config.maintenance.machines <= seen
    assert kept.store_problem == whole.store_problem


# --- some of it, one by one -----------------------------------------------------------------------


def scene(**groups: str) -> State:
    return State(config(*(job(name, group=group) for name, group in groups.items())))


def start(whole: State, name: str, *machines: str) -> str:
    run = f"{name}_{whole.serial}"
    at = NOON + timedelta(seconds=whole.serial)
    apply(whole, RunStarted(run=run, job=name, slot=None, by="x", token="t", at=at))
    apply(whole, Targeted(run=run, machines=machines, at=at))
    return run


def regroup(whole: State, **groups: str) -> None:
    apply(whole, Configured(config=config(*(job(name, group=group) for name, group in groups.items())), at=NOON))


def test_nothing_is_noted_of_what_is_not_ours() -> None:
    whole, excerpt = scene(site="web", gold="vault"), Excerpt(OURS)
    serial = excerpt.of(whole).serial
    run = start(whole, "gold", "safe1")
    apply(whole, Ended(execution=ExecutionId(run, "safe1"), outcome=FINE, at=NOON))
    apply(whole, RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=NOON))
    known = excerpt.of(whole)
    assert (known.changes.since(serial), known.config_serial, known.touched) == ([], 0, {})
    assert known.run(run) is None


def test_a_job_that_moves_comes_and_goes_with_its_runs() -> None:
    whole, excerpt = scene(site="web", gold="vault"), Excerpt(OURS)
    run = start(whole, "gold", "safe1", "safe2")
    known = excerpt.of(whole)
    serial = known.serial
    regroup(whole, site="web", gold="shop")
    known = excerpt.of(whole)
    assert list(known.runs) == [run]
    noted = {(change.kind, change.name, change.machine) for change in known.changes.since(serial) or ()}
    machines = {(Kind.MACHINE, run, "safe1"), (Kind.MACHINE, run, "safe2")}
    assert noted == {(Kind.DEFINITION, "gold", ""), (Kind.JOB, "gold", ""), (Kind.RUN, run, ""), *machines}
    serial = known.serial
    regroup(whole, site="web", gold="vault")
    known = excerpt.of(whole)
    assert (known.runs, list(known.config.jobs)) == ({}, ["site"])
    noted = {(change.kind, change.name, change.machine) for change in known.changes.since(serial) or ()}
    assert noted == {(Kind.DEFINITION, "gold", ""), (Kind.JOB, "gold", ""), (Kind.RUN, run, "")}


def test_maintenance_is_told_of_our_machines_and_of_all() -> None:
    whole, excerpt = scene(site="web", gold="vault"), Excerpt(OURS)
    start(whole, "gold", "safe1")
    for machine in ("safe1", "web1", ""):
        hold = Hold(machine=machine, reason="", by="x", since=NOON)
        apply(whole, HoldSet(hold=hold, at=NOON))
    assert list(excerpt.of(whole).holds) == [""]
    serial = excerpt.of(whole).holds_serial
    start(whole, "site", "web1")
    known = excerpt.of(whole)
    assert list(known.holds) == ["web1", ""]
    assert known.holds_serial > serial


def test_a_problem_of_our_file_is_told_unless_it_names_another() -> None:
    def problem(group: str, name: str) -> Problem:
        return Problem(f"/etc/{group}.yaml", 1, name, "", f"{group}: {name}")

    told = [("web", "site"), ("web", "new"), ("web", ""), ("vault", ""), ("vault", "gold"), ("vault", "both")]
    twice = [("web", "gold"), ("web", "both")]  # which would say where the other one is
    jobs = config(job("site", group="web"), job("gold", group="vault"))
    whole = State(attrs.evolve(jobs, problems=tuple(problem(*each) for each in [*told, *twice])))
    shown: Config = Excerpt(OURS).of(whole).config
    assert [each.text for each in shown.problems] == ["web: site", "web: new", "web: "]


def test_a_run_belongs_to_the_job_that_its_id_says() -> None:
    assert job_of("a_b_1762346049") == "a_b"
    assert job_of("") == ""
