"""What people do to living runs and to machines: pause, signal, maintenance by hand."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Reason, RunStarted, SlotPassed
from saltpeter.domain.outcome import End
from saltpeter.engine.execution import FORCE_S, Manner
from saltpeter.errors import CommandRefused
from sp_wrapper import wire
from tests.helpers.bottle import Script, bottle, fleet, job, now
from tests.helpers.fake_launcher import Reply
from tests.helpers.memory_store import MemoryStore


async def test_a_paused_command_does_not_run_into_its_timeout(autojump_clock: MockClock) -> None:
    async with bottle(job(timeout_s=100.0)) as b:
        b.play("m1", Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(30)
        [handed] = await b.runs.signal("backup", "test", "STOP")
        assert [execution.machine for execution in handed.told] == ["m1"]
        assert b.board.state.runs[run].executions["m1"].paused
        b.wrappers[0].paused = True
        await trio.sleep(1000)
        assert b.board.state.runs
        await b.runs.signal("backup", "test", "CONT")
        b.wrappers[0].paused = False
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.TIMED_OUT
        assert b.end_times(run)["m1"] == pytest.approx(1100, abs=1)
        assert [m.signal for m in b.wrappers[0].told if isinstance(m, wire.Signal)] == ["STOP", "CONT"]


async def test_a_signal_reaches_those_that_are_connected_and_says_whom(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        b.play("m1", Script(lasts_s=60))
        b.play("m2", Script(lasts_s=60, connects_after_s=30))
        await b.runs.run("backup", "test")
        await trio.sleep(5)
        [handed] = await b.runs.signal("backup", "test", "USR1")
        assert {execution.machine for execution in handed.executions} == {"m1", "m2"}
        assert {execution.machine for execution in handed.told} == {"m1"}
        with pytest.raises(CommandRefused, match="not running on m9"):
            await b.runs.signal("backup", "test", "USR1", machines=["m9"])


async def test_maintenance_by_hand_holds_until_its_end_and_over_a_restart(autojump_clock: MockClock) -> None:
    store, machines = MemoryStore(), fleet("m1", "m2")
    hourly = job(schedule="@hourly")
    async with bottle(hourly, machines=machines, store=store) as b:
        await b.runs.hold("m2", "ops", "new disk", until=now() + timedelta(hours=2.5))
        await b.runs.hold("", "ops", "migration")
        await trio.sleep(3700)
        assert [passed.reason for passed in b.of(SlotPassed)] == [Reason.MAINTENANCE]
    async with bottle(hourly, machines=machines, store=store) as b:
        with pytest.raises(CommandRefused, match="maintenance"):
            await b.runs.run("backup", "test")
        await b.runs.release("", "ops")
        await trio.sleep(3 * 3600)
        ends = [b.outcomes(started.run)["m2"].end for started in b.of(RunStarted)]
        assert ends == [End.MAINTENANCE, End.EXITED, End.EXITED]  # 14:00, 15:00 and 16:00


async def test_maintenance_that_makes_no_sense_is_refused(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        with pytest.raises(CommandRefused, match="passed already"):
            await b.runs.hold("m1", "ops", "", until=now() - timedelta(seconds=1))
        with pytest.raises(CommandRefused, match="not under maintenance by hand"):
            await b.runs.release("m1", "ops")


async def test_a_kill_may_be_harder_than_the_job_says_and_be_repeated(autojump_clock: MockClock) -> None:
    async with bottle(job(kill_grace_s=60.0)) as b:
        b.play("m1", Script(lasts_s=math.inf, dies_on_kill=False))
        run = await b.runs.run("backup", "test")
        await trio.sleep(5)
        await b.runs.kill("backup", "test", manner=Manner(signal="INT"))
        await trio.sleep(1)
        await b.runs.kill("backup", "test", manner=Manner(grace_s=0.0))
        await b.ended(run)
        told = [message for message in b.wrappers[0].told if isinstance(message, wire.Kill)]
        assert [(kill.signal, kill.grace) for kill in told] == [("INT", 60.0), ("TERM", 0.0)]
        assert b.outcomes(run)["m1"].end is End.KILLED
        assert b.end_times(run)["m1"] == pytest.approx(6 + FORCE_S, abs=0.5)  # the second grace, not the first


@pytest.mark.parametrize("signal", ["STOP", "CONT", "USR1"])
async def test_a_signal_that_nobody_can_be_told_is_refused(autojump_clock: MockClock, signal: str) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=math.inf, connects_after_s=math.inf))
        await b.runs.run("backup", "test")
        await trio.sleep(5)
        with pytest.raises(CommandRefused, match="not connected now on m1") as refused:
            await b.runs.signal("backup", "test", signal)
        assert refused.value.code == "not_connected"


async def test_without_a_wrapper_nothing_can_be_signalled(autojump_clock: MockClock) -> None:
    async with bottle(job(use_wrapper=False)) as b:
        b.fleet.machines["m1"].on_start = lambda machine, call: Reply(0, after_s=math.inf)
        await b.runs.run("backup", "test")
        await trio.sleep(5)
        with pytest.raises(CommandRefused, match="runs without a wrapper"):
            await b.runs.signal("backup", "test", "USR1")


async def test_a_daemon_that_stops_starts_nothing(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.nursery.cancel_scope.cancel()
        with pytest.raises(CommandRefused, match="is stopping") as refused:
            await b.runs.run("backup", "test")
        assert refused.value.code == "stopping"
