"""A daemon dies at some point, another one takes its place: nothing is lost, nothing runs twice."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Ended, Reason, RunStarted, SlotPassed
from saltpeter.domain.job import Job, Maintenance, Overlap, Retry, Share
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.execution import Manner
from saltpeter.engine.launcher import AskStatus, Call, KillThroughWrapper
from tests.helpers.bottle import NOON, Bottle, PlayedWrapper, Script, bottle, fleet, job
from tests.helpers.fake_launcher import FakeLauncher, OnCall, Reply
from tests.helpers.memory_store import MemoryStore


async def resumed_by_wrappers(b: Bottle, run: str, machines: dict[str, Script], after_s: float = 20.0) -> None:
    """The machines' wrappers dial again; their commands went on meanwhile."""
    await trio.sleep(after_s)
    for name, script in machines.items():
        execution = await b.roster.find(run, name, 1, b.board.state.runs[run].token)
        b.nursery.start_soon(PlayedWrapper(script, execution).play)


def never_restarts(machines: FakeLauncher) -> None:
    """What was started stays with the wrappers of the first daemon; nothing new may start."""
    for machine in machines.machines.values():
        machine.on_start = lambda machine, call: pytest.fail(f"{machine} was started again by {call}")


async def test_running_executions_are_taken_up_and_the_downtime_costs_no_lease(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1", "m2"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        for machine in machines.machines:
            b.play(machine, Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
    await trio.sleep(300)  # nobody is there
    never_restarts(machines)
    async with bottle(job(), machines=machines, store=store) as b:
        scripts = {"m1": Script(lasts_s=50, code=0), "m2": Script(lasts_s=60, code=3)}
        await resumed_by_wrappers(b, run, scripts)
        assert await b.ended(run) is Verdict.FAILED
        assert {m: o.code for m, o in b.outcomes(run).items()} == {"m1": 0, "m2": 3}


@pytest.mark.parametrize("died_after_s", [0.0, 0.01, 0.05, 0.12, 0.16])
async def test_a_death_in_phase_1_neither_loses_nor_repeats_the_start(
    autojump_clock: MockClock, died_after_s: float
) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(connects_after_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(died_after_s)
    await trio.sleep(1)
    started_before = bool(machines.machines["m1"].starts)
    if started_before:
        never_restarts(machines)
    async with bottle(job(), machines=machines, store=store) as b:
        machines.machines["m1"].on_call = status(running=started_before)
        if started_before:
            await resumed_by_wrappers(b, run, {"m1": Script(lasts_s=5)}, after_s=3)
        assert await b.ended(run) is Verdict.SUCCEEDED
    assert len(machines.machines["m1"].starts) == 1


async def test_batches_go_on_where_they_were(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1", "m2", "m3", "m4"), MemoryStore()
    in_ones = job(batch_size=Share(1))
    async with bottle(in_ones, machines=machines, store=store) as b:
        b.play("m2", Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(30)
        done = set(b.outcomes(run))
    async with bottle(in_ones, machines=machines, store=store) as b:
        if "m2" not in done and machines.machines["m2"].starts:
            await resumed_by_wrappers(b, run, {"m2": Script(lasts_s=5)}, after_s=1)
        assert await b.ended(run) is Verdict.SUCCEEDED
    assert [len(machine.starts) for machine in machines.machines.values()] == [1, 1, 1, 1]


async def test_retries_go_on_where_they_were(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    persistent = job(retry=Retry(limit=1, delay_s=100.0))
    async with bottle(persistent, machines=machines, store=store) as b:
        b.play("m1", Script(code=1))
        run = await b.runs.run("backup", "test")
        await trio.sleep(50)
    async with bottle(persistent, machines=machines, store=store) as b:
        assert await b.ended(run) is Verdict.SUCCEEDED
    assert len(machines.machines["m1"].starts) == 2


async def test_a_kill_goes_on_where_it_was(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf, reports=False))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
        await b.runs.kill("backup", "test")
        await trio.sleep(1)
    async with bottle(job(), machines=machines, store=store) as b:
        await resumed_by_wrappers(b, run, {"m1": Script(lasts_s=math.inf)}, after_s=1)
        assert await b.ended(run) is Verdict.KILLED


async def test_a_kill_is_told_again_as_it_was_asked_for(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf, reports=False))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
        await b.runs.kill("backup", "test", manner=Manner(signal="INT", grace_s=45.0))
        await trio.sleep(1)
    async with bottle(job(), machines=machines, store=store) as b:
        await resumed_by_wrappers(b, run, {"m1": Script(lasts_s=math.inf)}, after_s=1)
        await b.ended(run)
    asked = [call for _, call in machines.machines["m1"].acted_on if isinstance(call, KillThroughWrapper)]
    assert [(kill.signal, kill.grace_s) for kill in asked] == [("INT", 45.0)]  # nobody was connected after the restart


async def test_maintenance_that_came_meanwhile_ends_nothing_that_runs(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1", "m2"), MemoryStore()
    both = Maintenance(machines=frozenset({"m1", "m2"}))
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
        assert set(b.outcomes(run)) == {"m2"}
    never_restarts(machines)
    async with bottle(job(), machines=machines, store=store, maintenance=both) as b:
        await resumed_by_wrappers(b, run, {"m1": Script(lasts_s=50, code=3)})
        assert await b.ended(run) is Verdict.FAILED
        assert {m: o.code for m, o in b.outcomes(run).items()} == {"m1": 3, "m2": 0}
        assert len(b.of(Ended)) == 2


async def test_a_run_whose_job_was_removed_is_followed_to_its_end(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
    async with bottle(machines=machines, store=store) as b:
        await resumed_by_wrappers(b, run, {"m1": Script(lasts_s=5, code=0)})
        assert await b.ended(run) is Verdict.SUCCEEDED


async def test_what_a_removed_job_had_not_launched_is_not_launched(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1", "m2"), MemoryStore()
    async with bottle(job(batch_size=Share(1)), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf))
        b.play("m2", Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(10)
        [launched] = [name for name, machine in machines.machines.items() if machine.starts]
    async with bottle(machines=machines, store=store) as b:
        await resumed_by_wrappers(b, run, {launched: Script(lasts_s=5, code=0)})
        await b.ended(run)
        [other] = set(machines.machines) - {launched}
        assert b.outcomes(run)[launched].succeeded
        assert "the job no more" in b.outcomes(run)[other].text


async def test_slots_of_the_downtime_are_answered(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    every_minute: Job = job(schedule="* * * * *")
    async with bottle(every_minute, machines=machines, store=store):
        await trio.sleep(70)
    await trio.sleep(300 - 70 + 30)  # from 1:10 to 5:30
    async with bottle(every_minute, machines=machines, store=store) as b:
        await trio.sleep(45)
        ran = [(s.slot - NOON).total_seconds() for s in b.of(RunStarted)]
        passed = {(p.slot - NOON).total_seconds(): p.reason for p in b.of(SlotPassed)}
    assert ran == [60, 300, 360]  # 5:00 is within its grace of a minute
    assert passed == {120: Reason.MISSED, 180: Reason.MISSED, 240: Reason.MISSED}


async def test_a_slot_that_waits_still_has_its_turn(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    queueing: Job = job(schedule="*/10 * * * *", overlap=Overlap.QUEUE)
    async with bottle(queueing, machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf))
        await trio.sleep(1260)  # the slot of 12:10 runs, and that of 12:20 waits for it to end
        [first] = b.of(RunStarted)
    async with bottle(queueing, machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=5))
        await resumed_by_wrappers(b, first.run, {"m1": Script(lasts_s=5)})
        await trio.sleep(60)
    async with bottle(queueing, machines=machines, store=store) as b:
        await trio.sleep(60)  # its turn does not come a second time
        assert [(s.slot - NOON).total_seconds() for s in b.of(RunStarted)] == [600, 1200]


async def test_a_slot_that_replaces_still_does(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    replacing: Job = job(schedule="*/10 * * * *", overlap=Overlap.REPLACE)
    async with bottle(replacing, machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf, reports=False))
        await trio.sleep(1201)  # the machine is told, and does not answer yet
        [first] = b.of(RunStarted)
    async with bottle(replacing, machines=machines, store=store) as b:
        await resumed_by_wrappers(b, first.run, {"m1": Script(lasts_s=math.inf)}, after_s=1)
        assert await b.ended(first.run) is Verdict.KILLED
        await trio.sleep(60)
        assert [(s.slot - NOON).total_seconds() for s in b.of(RunStarted)] == [600, 1200]


async def test_the_first_slot_of_a_new_job_may_fall_into_the_downtime(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    hourly: Job = job(schedule="@hourly")
    async with bottle(hourly, store=store):
        await trio.sleep(3590)  # no slot has come yet
    await trio.sleep(40)
    async with bottle(hourly, store=store) as b:
        await trio.sleep(60)
        assert [(s.slot - NOON).total_seconds() for s in b.of(RunStarted)] == [3600]


def status(*, running: bool) -> OnCall:
    state = "running" if running else "never seen"

    def called(machine: str, call: Call) -> Reply | None:
        return Reply(0, f'{{"state": "{state}"}}') if isinstance(call, AskStatus) else None

    return called
