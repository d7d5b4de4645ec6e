"""A disk that is full for a while costs time, and nothing else."""

from __future__ import annotations

import logging
from datetime import timedelta

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId, Reason, RunStarted, SlotPassed
from saltpeter.domain.job import Job
from saltpeter.domain.outcome import End
from saltpeter.domain.schedule import Fields, Misfire, Schedule
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.record import telling_of_the_store
from saltpeter.errors import CommandRefused
from tests.helpers.bottle import NOON, Script, bottle, job, now
from tests.helpers.memory_store import MemoryStore

MINUTE = timedelta(minutes=1)


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


def hourly(name: str, misfire: Misfire) -> Job:
    it = job(name, schedule="0 * * * *")
    return attrs.evolve(it, schedule=attrs.evolve(it.schedule, misfire=misfire))


async def test_a_slot_waits_for_the_store_as_long_as_it_may_start(autojump_clock: MockClock) -> None:
    often = job("often", schedule="*/10 * * * * *")
    async with bottle(hourly("late", Misfire.LAST), hourly("never", Misfire.SKIP), often) as b:
        await trio.sleep(3595)
        before = len(b.of(RunStarted))
        b.store.broken = "disk full"
        await trio.sleep(29)
        b.store.broken = ""
        await trio.sleep(5)
        started = b.of(RunStarted)[before:]
        assert [(run.job, run.slot) for run in started] == [
            ("late", NOON + 60 * MINUTE),
            ("often", NOON + 60 * MINUTE + timedelta(seconds=20)),
        ]
        held = {passed.job: passed.slot for passed in b.of(SlotPassed) if passed.reason is Reason.HELD}
        assert held == {"never": NOON + 60 * MINUTE, "often": NOON + 60 * MINUTE + timedelta(seconds=10)}


@pytest.mark.parametrize("overlap", ["often", "seldom"])
async def test_an_older_slot_has_its_answer_before_a_newer_one(autojump_clock: MockClock, overlap: str) -> None:
    """Whenever the daemon dies: the next one goes on from the newest slot that has one."""
    schedule = "*/3 * * * * *" if overlap == "often" else "*/7 * * * * *"
    store = MemoryStore()
    async with bottle(job(schedule=schedule), store=store) as b:
        for _ in range(40):
            b.store.broken = "" if b.store.broken else "disk full"
            await trio.sleep(4.3)
    slots = [event.slot for event in store.events if isinstance(event, (RunStarted, SlotPassed))]
    every = Schedule(Fields.parse(schedule)).fire_times(NOON)
    assert slots == [next(every) for _ in slots]
    assert len(slots) > 15


async def test_while_the_store_is_known_to_fail_no_run_starts(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the ledger could be written, for the output cannot; and that is said once."""
    caplog.set_level(logging.INFO)
    async with bottle(job(schedule="*/10 * * * * *")) as b:
        fares = telling_of_the_store(b.board, now)
        fares("the output cannot be written: disk full")
        with pytest.raises(CommandRefused, match="disk full"):
            await b.runs.run("backup", "test")
        await trio.sleep(25)
        assert (b.of(RunStarted), [each.reason for each in b.of(SlotPassed)]) == ([], [Reason.HELD])
        fares(None)
        await trio.sleep(3)
        assert [run.slot for run in b.of(RunStarted)] == [NOON + timedelta(seconds=20)]
        told = [record.event for record in caplog.records if "store" in getattr(record, "event", "")]  # type: ignore[attr-defined]
        assert told == ["store.failed", "store.recovered"]
