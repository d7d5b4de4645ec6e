"""What jobs have in a span of time, for the timeline."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from saltpeter.domain.events import LedgerEvent, Reason, RunEnded, RunStarted, SlotPassed
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Active, Bar
from saltpeter.store.sqlite import open_store
from tests.store.test_sqlite import NOON

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def name(job: str, at: datetime) -> str:
    return f"{job}_{int(at.timestamp())}"


def ran(job: str, at: datetime, took: timedelta | None, verdict: Verdict = Verdict.SUCCEEDED) -> list[LedgerEvent]:
    """A run by schedule that took so long; None: it lives."""
    run = name(job, at)
    began = RunStarted(run=run, job=job, slot=at, by="schedule", token="t", at=at)
    return [began] if took is None else [began, RunEnded(run=run, verdict=verdict, at=at + took)]


def missed(job: str, first: datetime, last: datetime) -> SlotPassed:
    return SlotPassed(job=job, slot=first, last=last, reason=Reason.OVERLAP, text="busy", at=first)


async def test_each_run_is_a_bar_and_a_run_that_reaches_in_is_one_too(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(
            *ran("backup", NOON - 2 * HOUR, 90 * MINUTE),
            *ran("backup", NOON - HOUR, 2 * HOUR, Verdict.FAILED),
            *ran("backup", NOON + MINUTE, 10 * SECOND),
            *ran("backup", NOON + 2 * MINUTE, None),
            *ran("backup", NOON + HOUR, 10 * SECOND),
            *ran("other", NOON, MINUTE),
            missed("backup", NOON - HOUR, NOON + 5 * MINUTE),
            missed("backup", NOON + 6 * MINUTE, NOON + 7 * MINUTE),
            missed("backup", NOON + 2 * HOUR, NOON + 2 * HOUR),
        )
        found = await store.bars(["backup", "nobody"], NOON, NOON + HOUR, timedelta())
        assert [(bar.began_at, bar.ended_at, bar.failed, bar.verdict) for bar in found.bars] == [
            (NOON - HOUR, NOON + HOUR, 1, Verdict.FAILED),
            (NOON + MINUTE, NOON + MINUTE + 10 * SECOND, 0, Verdict.SUCCEEDED),
            (NOON + 2 * MINUTE, None, 0, None),
        ]
        assert [(each.first, each.last, each.reason, each.text) for each in found.passed] == [
            (NOON - HOUR, NOON + 5 * MINUTE, Reason.OVERLAP, "busy"),
            (NOON + 6 * MINUTE, NOON + 7 * MINUTE, Reason.OVERLAP, "busy"),
        ]
        assert found.complete


async def test_runs_of_one_grain_are_one_bar_that_leads_to_what_failed(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for minute in range(10):
            verdict = Verdict.FAILED if minute in (1, 2) else Verdict.SUCCEEDED
            await store.commit(*ran("often", NOON + minute * MINUTE, 30 * SECOND, verdict))
        await store.commit(*ran("often", NOON + 10 * MINUTE, None))
        found = await store.bars(["often"], NOON, NOON + HOUR, 5 * MINUTE)
        whole, second_half, living = found.bars
        assert whole == Bar(
            "often",
            NOON,
            NOON + 4 * MINUTE + 30 * SECOND,
            runs=5,
            failed=2,
            run=name("often", NOON + 2 * MINUTE),
            verdict=Verdict.FAILED,
        )
        assert (second_half.runs, second_half.failed, second_half.run) == (5, 0, name("often", NOON + 9 * MINUTE))
        assert (living.runs, living.ended_at) == (1, None)


async def test_the_jobs_that_have_anything_are_found(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(
            *ran("early", NOON - HOUR, MINUTE),
            *ran("reaching", NOON - HOUR, 2 * HOUR),
            *ran("failing", NOON + MINUTE, SECOND, Verdict.FAILED),
            *ran("failing", NOON + 2 * MINUTE, SECOND),
            *ran("living", NOON - HOUR, None),
            *ran("late", NOON + HOUR, SECOND, Verdict.FAILED),
            missed("passed", NOON - HOUR, NOON + SECOND),
            missed("gone", NOON - HOUR, NOON - SECOND),
        )
        assert await store.active(NOON, NOON + HOUR) == {
            "reaching": Active(NOON),
            "failing": Active(NOON + MINUTE, failed=True),
            "living": Active(NOON),
            "passed": Active(passed=True),
        }
