"""The past is forgotten as far as was asked for, and nothing that is still needed with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.events import ExecutionId, LedgerEvent, Reason, RunEnded, SlotPassed, Targeted
from saltpeter.domain.job import Retention as Policy
from saltpeter.domain.verdict import Verdict
from saltpeter.store import forgetting, retention
from saltpeter.store.places import Partition
from saltpeter.store.retention import Pruned, Retention, choose, look
from saltpeter.store.schema import connect_for_reading
from saltpeter.store.sqlite import SqliteStore, open_store
from tests.store.test_sqlite import NOON, started

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NO_LIMIT = Policy(None, None, None)


def run_id(job: str, at: datetime) -> str:
    return f"{job}_{at.timestamp():.0f}"


async def play(store: SqliteStore, job: str, slots: Sequence[datetime], output: int = 0, *, ends: bool = True) -> None:
    """A run of `job` on one machine at each of `slots`, with so many bytes of output."""
    events: list[LedgerEvent] = []
    for at in slots:
        run = run_id(job, at)
        events += [started(run, job, at), Targeted(run=run, machines=("m",), at=at)]
        events += [RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=at)] if ends else []
    await store.commit(*events)
    for at in slots if output else ():
        await store.append(ExecutionId(run_id(job, at), "m"), 0, bytes(output))


async def prune(store: SqliteStore, policy: Policy, at: datetime) -> Pruned:
    return await Retention(lambda: policy, store, lambda: at).prune()


async def slots(store: SqliteStore, job: str) -> list[datetime]:
    return sorted(run.slot for run in await store.runs(job, limit=100_000) if run.slot)


async def test_what_is_too_old_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    days = [NOON + number * DAY for number in range(10)]
    async with open_store(tmp_path) as store:
        await play(store, "daily", days, output=1000)
        for day in days:
            passed = SlotPassed(job="daily", slot=day + HOUR, reason=Reason.OVERLAP, text="", at=day + HOUR)
            await store.commit(passed)
        _, before = look(store.places, Policy(days=3), days[9])
        done = await prune(store, Policy(days=3), days[9])
        assert (before.runs, before.passed, before.days) == (done.runs, done.passed, done.days) == (6, 6, 6)
        assert await slots(store, "daily") == days[6:]
        assert len(await store.passed("daily")) == 4
        assert [partition.day for partition in store.places.partitions()] == [
            f"202511{day:02}" for day in range(11, 15)
        ]
        assert await store.length(ExecutionId(run_id("daily", days[6]), "m")) == 1000
        assert await store.pieces(ExecutionId(run_id("daily", days[5]), "m"), 0) == []
        assert await prune(store, Policy(days=3), days[9]) == Pruned()
        assert [getattr(record, "event", "") for record in caplog.records] == ["store.pruned"]


async def test_what_lives_and_what_counts_stays(tmp_path: Path) -> None:
    """A run that has not ended keeps its output, a yearly job its result, and every job the place it had come to."""
    async with open_store(tmp_path) as store:
        await play(store, "endless", [NOON], output=10, ends=False)
        await play(store, "other", [NOON, NOON + HOUR], output=10)
        done = await prune(store, Policy(days=1), NOON + 400 * DAY)
        assert (done.runs, done.days) == (1, 0)
        [run] = await store.unfinished()
        assert run.executions["m"].output_length == 10
        assert [run.id for run in await store.last_runs()] == [run_id("other", NOON + HOUR)]
        assert await store.last_slots() == {"endless": NOON, "other": NOON + HOUR}
        assert await store.append(ExecutionId(run.id, "m"), 10, b"on and on") == 19


async def test_a_job_that_runs_often_costs_others_nothing(tmp_path: Path) -> None:
    often = [NOON + number * timedelta(seconds=1) for number in range(500)]
    async with open_store(tmp_path) as store:
        await play(store, "often", often)
        await play(store, "rare", [NOON, NOON + HOUR])
        for slot in (often[1], often[-1], NOON):
            run = run_id("rare" if slot == NOON else "often", slot)
            await store.append(ExecutionId(run, "m"), 0, bytes(1_000_000))
        size = store.places.partitions()[0].size
        done = await prune(store, Policy(None, 20, None), NOON + HOUR)
        assert (done.runs, done.days) == (480, 0)
        assert await slots(store, "often") == often[-20:]
        assert await slots(store, "rare") == [NOON, NOON + HOUR]
        assert [run.id for run in await store.last_runs()] == [run_id("often", often[-1]), run_id("rare", NOON + HOUR)]
        assert await store.pieces(ExecutionId(run_id("often", often[1]), "m"), 0) == []
        assert await store.length(ExecutionId(run_id("often", often[-1]), "m")) == 1_000_000
    assert store.places.partitions()[0].size < size - 900_000  # the day's file has shrunk


async def test_too_many_bytes_cost_the_oldest_days_and_then_the_oldest_runs(tmp_path: Path) -> None:
    days = [NOON, NOON + DAY, NOON + 2 * DAY]
    async with open_store(tmp_path) as store:
        for day in days:
            await play(store, "daily", [day + number * HOUR for number in range(4)], output=1_000_000)
        ledger = used(store)
        await prune(store, Policy(None, None, ledger + 9_000_000), days[2])
        assert [partition.day for partition in store.places.partitions()] == ["20251106", "20251107"]
        await prune(store, Policy(None, None, ledger + 3_500_000), days[2])
        assert [partition.day for partition in store.places.partitions()] == ["20251107"]
        lengths = [
            await store.length(ExecutionId(run_id("daily", days[2] + number * HOUR), "m")) for number in range(4)
        ]
        assert lengths == [0, 1_000_000, 1_000_000, 1_000_000]
        assert len(await store.runs("daily")) == 12  # what became of them is still known


def used(store: SqliteStore) -> int:
    """Bytes of the ledger."""
    with closing(connect_for_reading(store.places.ledger)) as connection:
        return forgetting.used(connection)


async def test_a_ledger_that_takes_more_than_half_loses_its_oldest(tmp_path: Path) -> None:
    minutes = [NOON + number * timedelta(minutes=1) for number in range(4000)]
    async with open_store(tmp_path) as store:
        await play(store, "often", minutes)
        policy = Policy(None, None, 600_000)
        while (await prune(store, policy, minutes[-1])).runs:  # each time nearer, for not all of it is runs
            assert used(store) < 450_000
        kept = await slots(store, "often")
        assert 300 < len(kept) < 3000
        assert kept == minutes[-len(kept) :]
        assert used(store) <= 300_000


async def test_others_write_while_much_is_forgotten(tmp_path: Path) -> None:
    seconds = [NOON + number * timedelta(seconds=1) for number in range(10_000)]
    async with open_store(tmp_path) as store:
        await play(store, "often", seconds)
        waited_s: list[float] = []
        async with trio.open_nursery() as nursery:

            async def commit() -> None:
                for number in range(10_000):
                    began = trio.current_time()
                    await store.commit(started(f"by_hand_{number}", "by_hand", None))
                    await trio.lowlevel.checkpoint_if_cancelled()
                    waited_s.append(trio.current_time() - began)

            nursery.start_soon(commit)
            done = await prune(store, Policy(None, 10, None), NOON)
            nursery.cancel_scope.cancel()
        assert done.runs == 9990
        assert len(waited_s) > 20
        assert max(waited_s) < 3.0  # seconds; a step takes some tens of milliseconds


async def test_the_service_obeys_the_policy_of_the_moment(tmp_path: Path) -> None:
    policy = NO_LIMIT
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        await play(store, "daily", [NOON, NOON + HOUR, NOON + 9 * DAY])
        service = Retention(lambda: policy, store, lambda: NOON + 9 * DAY)
        await nursery.start(service.serve)
        await trio.sleep(0.2)
        assert len(await slots(store, "daily")) == 3
        policy = Policy(days=5)
        service.stir()
        with trio.fail_after(5):
            while len(await slots(store, "daily")) > 1:  # noqa: ASYNC110  the store has no events for what is forgotten
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert retention.LOOK_EVERY_S > 60
    assert forgetting.first_day(policy, NOON + HOUR) == datetime.fromisoformat("2025-10-31T00:00:00+00:00")


sizes = st.lists(st.integers(0, 100), max_size=12)


@given(sizes, st.integers(0, 12), st.integers(0, 500), st.sets(st.integers(0, 11)))
def test_whole_days_go_oldest_first_and_no_more_than_needed(
    sizes: list[int], old: int, budget: int, needed: set[int]
) -> None:
    partitions = [Partition(f"{number:02}", Path(), size) for number, size in enumerate(sizes)]
    names = {f"{number:02}" for number in needed}
    drop = choose(partitions, oldest_day=f"{old:02}", budget=budget, needed=names)
    assert not names & {partition.day for partition in drop}
    may_go = [partition for partition in partitions if partition.day not in names]
    assert list(drop) == may_go[: len(drop)]
    left = sum(sizes) - sum(partition.size for partition in drop)
    assert left <= budget or len(drop) == len(may_go)
    assert all(partition in drop for partition in may_go if partition.day < f"{old:02}")
    if drop and drop[-1].day >= f"{old:02}":
        assert left + drop[-1].size > budget
