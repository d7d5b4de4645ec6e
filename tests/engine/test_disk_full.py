"""A disk that is full for a while costs time, and nothing else."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from saltpeter.domain.outcome import End
from saltpeter.domain.state import ExecutionId
from saltpeter.domain.verdict import Verdict
from tests.helpers.bottle import Script, bottle, job


async def test_what_machines_report_meanwhile_is_kept_and_acked_later(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=60, code=3, output=b"all of it\n"))
        run = await b.runs.run("backup", "test")
        await trio.sleep(30)
        b.store.broken = "disk full"
        await trio.sleep(600)  # the command has ended, and its wrapper waits for an ack
        assert run in b.board.state.runs
        b.store.broken = ""
        assert await b.ended(run) is Verdict.FAILED
        assert (b.outcomes(run)["m1"].end, b.outcomes(run)["m1"].code) == (End.EXITED, 3)
        assert b.store.text(ExecutionId(run, "m1")) == "all of it\n"
