"""Machines that report what nobody waits for any more, over restarts and lost ledgers."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import CameLate, ExecutionId, RunStarted
from saltpeter.domain.outcome import End
from saltpeter.engine.execution import BadToken, UnknownExecution
from saltpeter.engine.latecomers import ORPHAN
from sp_wrapper import wire
from tests.helpers.bottle import PlayedWrapper, Script, bottle, fleet, job
from tests.helpers.memory_store import MemoryStore

BACK = Script(lasts_s=1, code=7, output=b"and so it ended\n")


async def test_the_truth_comes_late_even_to_another_daemon(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(lasts_s=math.inf, beats_for_s=10))
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.LOST
    async with bottle(job(), machines=machines, store=store) as b:
        await PlayedWrapper(BACK, await b.roster.find(run, "m1", 1, token)).play()
        [late] = b.of(CameLate)
        assert (late.outcome.end, late.outcome.code) == (End.EXITED, 7)
        assert b.store.text(late.execution).endswith("and so it ended\n")
        assert b.board.state.last["backup"].executions["m1"].late == late.outcome
    async with bottle(job(), machines=machines, store=store) as b:  # its ack was lost, so it comes once more
        await PlayedWrapper(BACK, await b.roster.find(run, "m1", 1, token)).play()
        assert len(b.of(CameLate)) == 1


async def test_a_word_that_was_heard_is_acked_again_and_recorded_once(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(job(), machines=machines, store=store) as b:
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await b.ended(run)
    async with bottle(job(), machines=machines, store=store) as b:
        await (await b.roster.find(run, "m1", 1, token)).completed(wire.Complete(retcode=0))
        assert not b.of(CameLate)


async def test_a_run_that_the_ledger_has_lost_is_recorded_as_an_orphan(autojump_clock: MockClock) -> None:
    machines = fleet("m1", "m2")
    async with bottle(job(), machines=machines) as b:
        for machine in machines.machines:
            b.play(machine, Script(lasts_s=math.inf))
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await trio.sleep(5)
    async with bottle(job(), machines=machines) as b:  # with an empty store
        for machine in machines.machines:
            await PlayedWrapper(BACK, await b.roster.find(run, machine, 1, token)).play()
        [started] = b.of(RunStarted)
        assert (started.run, started.job, started.by) == (run, "backup", ORPHAN)
        assert {late.execution.machine: late.outcome.code for late in b.of(CameLate)} == {"m1": 7, "m2": 7}
        assert "no record of this run" in b.store.text(ExecutionId(run, "m1"))
        assert b.store.text(ExecutionId(run, "m2")).endswith("and so it ended\n")


async def test_nobody_else_can_make_up_a_run(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=60))
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await trio.sleep(1)
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, token + "x")
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, "")
        with pytest.raises(UnknownExecution):
            await b.roster.find("backup_1", "m1", 1, token)
        assert len(b.of(RunStarted)) == 1
