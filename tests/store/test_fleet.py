"""How each machine fares, as far as its executions tell."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest

from saltpeter.domain.events import CameLate, Ended, ExecutionId, RunEnded, RunStarted, Targeted
from saltpeter.domain.job import Retention as Policy
from saltpeter.domain.outcome import KILLED, LOST, MAINTENANCE, NO_RESPONSE, End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import MachineRecord
from saltpeter.store.retention import Retention
from saltpeter.store.schema import RING
from saltpeter.store.sqlite import SqliteStore, open_store
from tests.store.test_schema import FIRST_LEDGER, old_file
from tests.store.test_sqlite import NOON

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FINE = Outcome(end=End.EXITED, code=0)
WRONG = Outcome(end=End.EXITED, code=3)


@attrs.define
class Story:
    store: SqliteStore
    at: datetime = NOON

    async def ends(self, job: str = "backup", **outcomes: Outcome) -> str:
        """A minute later, another run ends like that."""
        self.at += MINUTE
        run = f"{job}_{int(self.at.timestamp())}"
        await self.store.commit(
            RunStarted(run=run, job=job, slot=self.at, by="schedule", token="t", at=self.at),
            Targeted(run=run, machines=tuple(outcomes), at=self.at),
            *(Ended(execution=ExecutionId(run, each), outcome=how, at=self.at) for each, how in outcomes.items()),
            RunEnded(run=run, verdict=Verdict.FAILED, at=self.at),
        )
        return run

    async def known(self, machine: str) -> MachineRecord:
        [found] = [each for each in await self.store.machines() if each.machine == machine]
        return found


@asynccontextmanager
async def a_story(path: Path) -> AsyncIterator[Story]:
    async with open_store(path) as store:
        yield Story(store)


async def test_failures_in_a_row_are_counted_and_the_latest_is_named(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        await story.ends(db01=WRONG, db02=FINE)
        second = await story.ends(db01=WRONG, db02=FINE)
        await story.ends(db01=KILLED, db02=MAINTENANCE)  # nobody's fault
        db01, db02 = await story.store.machines()
        assert (db01.failures, db02.failures, db02.failed) == (2, 0, None)
        assert db01.failed is not None
        assert (db01.failed.execution, db01.failed.code, db01.failed.job) == (ExecutionId(second, "db01"), 3, "backup")
        assert db01.last is not None
        assert (db01.last.end, db01.ended_at, db02.ended_at) == (End.KILLED, NOON + 3 * MINUTE, NOON + 2 * MINUTE)
        await story.ends(db01=FINE)
        db01 = await story.known("db01")
        assert db01.failures == 0
        assert db01.failed is not None  # it has failed once, and may again
        assert [each.machine for each in await story.store.machines(NOON + 4 * MINUTE)] == ["db01"]


async def test_a_machine_is_silent_from_its_first_silence_until_it_is_heard_of(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        await story.ends(db01=NO_RESPONSE)
        lost = await story.ends(db01=LOST)
        assert (await story.known("db01")).silent_since == NOON + MINUTE
        await story.store.commit(CameLate(execution=ExecutionId(lost, "db01"), outcome=FINE, at=story.at))
        assert (await story.known("db01")).silent_since is None
        await story.ends(db01=NO_RESPONSE)
        await story.ends(db01=KILLED)  # the machine itself has not said so
        assert (await story.known("db01")).silent_since == NOON + 3 * MINUTE
        await story.ends(db01=FINE)
        assert (await story.known("db01")).silent_since is None


async def test_the_latest_of_a_machine_are_kept_and_no_more(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        runs = [await story.ends(db01=FINE) for _ in range(RING + 3)]
        assert [each.execution.run for each in await story.store.done_on("db01")] == runs[: -RING - 1 : -1]
        assert await story.store.done_on("nobody") == []


async def test_what_is_forgotten_is_not_told_of_machines(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        await story.ends(db01=WRONG, old=WRONG)
        story.at += 10 * DAY
        newest = await story.ends(db01=FINE)
        await Retention(lambda: Policy(days=5), story.store, lambda: story.at).prune()
        [db01] = await story.store.machines()
        assert (db01.machine, db01.failed) == ("db01", None)
        assert [each.execution.run for each in await story.store.done_on("db01")] == [newest]


async def test_the_machines_of_an_older_ledger_are_known(tmp_path: Path) -> None:
    old_file(tmp_path / "ledger.sqlite", FIRST_LEDGER)
    async with open_store(tmp_path) as store:
        known = {each.machine: each for each in await store.machines()}
        assert known["db01"].last is not None
        assert known["db01"].last.code == 3
        assert [each.code for each in await store.done_on("db01")] == [3]


# --- as far as some jobs tell ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_what_the_only_job_tells_is_all_that_there_is(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311  so that it can be told again
    ends = [FINE, WRONG, KILLED, LOST, NO_RESPONSE, MAINTENANCE]
    async with a_story(tmp_path) as story:
        for _ in range(RING):
            await story.ends(db01=chance.choice(ends), db02=chance.choice(ends))
        assert await story.store.machines(among=["backup"]) == await story.store.machines()
        for machine in ("db01", "db02"):
            assert await story.store.done_on(machine, among=["backup"]) == await story.store.done_on(machine)
        assert await story.store.machines(story.at, among=["backup"]) == await story.store.machines(story.at)


async def test_what_other_jobs_did_on_a_machine_is_not_told(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        nightly = await story.ends("nightly", db01=FINE, db02=WRONG)
        for _ in range(RING + 1):  # so often that the ring holds nothing else
            await story.ends("often", db01=WRONG, db03=WRONG)
        found = {each.machine: each for each in await story.store.machines(among=["nightly"])}
        assert found.keys() == {"db01", "db02"}
        assert (found["db01"].failures, found["db01"].failed, found["db02"].failures) == (0, None, 1)
        assert found["db01"].ended_at == NOON + MINUTE
        assert [each.execution.run for each in await story.store.done_on("db01", among=["nightly"])] == [nightly]
        assert await story.store.done_on("db03", among=["nightly"]) == []
        assert await story.store.machines(among=[]) == []


async def test_a_machine_that_answers_somebody_is_not_silent(tmp_path: Path) -> None:
    async with a_story(tmp_path) as story:
        await story.ends("nightly", db01=NO_RESPONSE)
        await story.ends("nightly", db01=LOST)
        [told] = await story.store.machines(among=["nightly"])
        assert told.silent_since == NOON + MINUTE
        await story.ends("often", db01=FINE)
        [told] = await story.store.machines(among=["nightly"])
        assert (told.silent_since, told.failures) == (None, 2)
