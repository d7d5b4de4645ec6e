"""Jobs without a wrapper: Salt's one answer is all there is."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.outcome import End
from saltpeter.engine.launcher import KillPlain, StartPlain
from tests.helpers.bottle import bottle, fleet, job
from tests.helpers.fake_launcher import Reply


async def test_salts_answer_is_the_outcome_and_the_output(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False), machines=fleet("m1", "m2")) as b:
        for name, code in {"m1": 0, "m2": 3}.items():
            b.fleet.machines[name].on_start = lambda machine, call, code=code: Reply(code, f"{machine}\n", after_s=100)
        outcomes = await b.see()
        assert {m: (o.end, o.code) for m, o in outcomes.items()} == {"m1": (End.EXITED, 0), "m2": (End.EXITED, 3)}
        assert b.store.text(ExecutionId(b.board.state.last["backup"].id, "m2")) == "m2\n"


@pytest.mark.parametrize("asked", ["kill", "timeout"])
async def test_a_kill_and_a_timeout_go_through_salt(autojump_clock: MockClock, asked: str) -> None:
    timeout_s = 30.0 if asked == "timeout" else math.inf
    async with bottle(job(use_wrapper=False, timeout_s=timeout_s, kill_signal="INT", kill_grace_s=4.0)) as b:
        b.fleet.machines["m1"].on_start = lambda machine, call: Reply(0, after_s=math.inf)
        run = await b.runs.run("backup", "test")
        await trio.sleep(30)
        if asked == "kill":
            await b.runs.kill("backup", "test")
        await b.ended(run)
        [kill, *_] = [call for _, call in b.fleet.machines["m1"].acted_on if isinstance(call, KillPlain)]
        assert (kill.run, kill.signal, kill.grace_s) == (run, "INT", 4.0)
        assert b.outcomes(run)["m1"].code == (143 if asked == "kill" else 124)


async def test_a_kill_that_comes_before_the_command_is_sent_again(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False, timeout_s=math.inf)) as b:
        b.fleet.machines["m1"].on_start = lambda machine, call: Reply(0, after_s=math.inf)
        run = await b.runs.run("backup", "test")
        await trio.sleep(0.05)  # published, and not there yet
        b.fleet.machines["m1"].start_delay_s = 0.0
        await b.runs.kill("backup", "test")
        await b.ended(run)
        calls = [type(call) for _, call in b.fleet.machines["m1"].acted_on]
        assert calls == [KillPlain, StartPlain, KillPlain]
        assert b.outcomes(run)["m1"].end is End.KILLED


async def test_a_machine_that_dies_while_it_runs_is_lost(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False, timeout_s=math.inf)) as b:
        machine = b.fleet.machines["m1"]
        machine.on_start = lambda machine, call: Reply(0, after_s=math.inf)
        run = await b.runs.run("backup", "test")
        await trio.sleep(600)
        assert b.board.state.runs
        machine.up = False
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.LOST
        assert b.end_times(run)["m1"] < 600 + 60 + 30


async def test_a_command_that_is_gone_without_an_answer_does_not_run_forever(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False, timeout_s=math.inf)) as b:
        machine = b.fleet.machines["m1"]
        machine.on_start = lambda machine, call: Reply(0, after_s=20)
        run = await b.runs.run("backup", "test")
        await trio.sleep(19)
        machine.answers_lost = True  # the master restarts just when it ends
        await trio.sleep(2)
        machine.answers_lost = False
        await b.ended(run)
        outcomes = b.outcomes(run)
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.FAILED, 255)


async def test_a_dead_machine_is_255(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False), machines=fleet("m1", "dead")) as b:
        b.fleet.machines["dead"].up = False
        outcomes = await b.see()
        assert outcomes["m1"].succeeded
        assert outcomes["dead"].end is End.NO_RESPONSE
