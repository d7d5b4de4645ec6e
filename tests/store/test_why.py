"""Every slot has an answer: it ran, it did not and this is the reason, or nobody was there."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Reason, SlotPassed, Targeted
from saltpeter.engine.storage import Answer, Downtime
from saltpeter.errors import StoreError
from saltpeter.store.diary import MARK_EVERY_S, live
from saltpeter.store.sqlite import SqliteStore, open_store
from tests.store.test_sqlite import DB01, NOON, RUN, started

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def run_of(store: SqliteStore, at: datetime) -> str | None:
    found = (await store.why("backup", at)).run
    return None if found is None else found.id


async def test_the_run_at_an_instant_or_the_nearest(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        assert await store.why("backup", NOON) == Answer()
        await store.commit(started(), Targeted(run=RUN, machines=("db01",), at=NOON))
        await store.append(DB01, 0, b"four")
        by_hand = started("backup_9", slot=None)
        await store.commit(started("backup_2", slot=NOON + HOUR), started("other_1", "other", NOON + 2 * MINUTE))
        assert by_hand.at == NOON
        found = await store.why("backup", NOON + MINUTE)
        assert (found.slot, found.passed, found.down) == (NOON, None, None)
        assert found.run is not None
        assert (found.run.id, found.run.executions["db01"].output_length) == (RUN, 4)
        assert await run_of(store, NOON + 29 * MINUTE) == RUN
        assert await run_of(store, NOON + 31 * MINUTE) == "backup_2"
        assert await run_of(store, NOON - 1000 * HOUR) == RUN


async def test_a_run_by_hand_counts_where_it_started(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started("backup_1", slot=NOON - HOUR), started("backup_2", slot=None))
        found = await store.why("backup", NOON + HOUR)
        assert found.run is not None
        assert (found.slot, found.run.id, found.run.slot) == (NOON, "backup_2", None)
        assert await run_of(store, NOON - 2 * HOUR) == "backup_1"


async def test_slots_that_did_not_run_tell_why(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        gap = SlotPassed(
            job="backup", slot=NOON + HOUR, last=NOON + 3 * HOUR, reason=Reason.MISSED, text="late", at=NOON + 4 * HOUR
        )
        await store.commit(gap)
        for at, slot in ((2 * HOUR, 2 * HOUR), (50 * MINUTE, HOUR), (9 * HOUR, 3 * HOUR)):
            found = await store.why("backup", NOON + at)
            assert found.passed is not None
            assert (found.slot, found.run, found.passed.reason, found.passed.text) == (
                NOON + slot,
                None,
                Reason.MISSED,
                "late",
            )
        assert await run_of(store, NOON + 20 * MINUTE) == RUN
        await store.commit(started("backup_5", slot=NOON + 2 * HOUR))
        assert await run_of(store, NOON + 2 * HOUR) == "backup_5"  # the run itself, where both would do


async def test_of_a_slot_that_waited_first_the_last_word_counts(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for reason in (Reason.WAITING, Reason.OVERLAP):
            await store.commit(SlotPassed(job="backup", slot=NOON, reason=reason, text="", at=NOON))
        for at in (NOON, NOON + HOUR):
            found = (await store.why("backup", at)).passed
            assert found is not None
            assert found.reason is Reason.OVERLAP


@attrs.define
class Clock:
    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at


async def test_a_time_without_a_daemon_is_known(tmp_path: Path) -> None:
    """The first stops in order, the second dies without a word, the third is asked."""
    clock = Clock()
    async with open_store(tmp_path, now=clock) as store:
        await store.seen(NOON)
        clock.at = NOON + HOUR
        await store.seen(clock.at, ending=True)
    clock.at = NOON + 2 * HOUR
    async with open_store(tmp_path, now=clock) as store:
        await store.seen(clock.at)
        clock.at = NOON + 3 * HOUR
        await store.seen(clock.at)
        clock.at += MINUTE
        await store.commit(started(slot=clock.at))  # a commit is a sign of life, too
    clock.at = NOON + 5 * HOUR
    async with open_store(tmp_path, now=clock) as store:
        await store.seen(clock.at)
        downs = {
            -HOUR: Downtime(None, NOON),
            HOUR: None,
            HOUR + MINUTE: Downtime(NOON + HOUR, NOON + 2 * HOUR),
            3 * HOUR: None,
            4 * HOUR: Downtime(NOON + 3 * HOUR + MINUTE, NOON + 5 * HOUR),
            6 * HOUR: None,
        }
        for at, down in downs.items():
            assert (await store.why("nothing", NOON + at)).down == down
        assert (await store.why("backup", NOON + 4 * HOUR)).down == downs[4 * HOUR]
        await store.commit(started("early_1", "early", NOON - HOUR))
        assert (await store.why("early", NOON + HOUR)).down is None


class Notebook:
    """Takes down what `live` says, and fails from `broken_from` to `broken_to` seconds of virtual time."""

    def __init__(self, broken_from: float = 1e9, broken_to: float = 1e9) -> None:
        self.marks: list[tuple[float, bool]] = []
        self.broken = (broken_from, broken_to)

    async def seen(self, at: datetime, *, ending: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken[0] <= trio.current_time() < self.broken[1]:
            raise StoreError("no room")
        self.marks.append(((at - NOON).total_seconds(), ending))


@pytest.mark.parametrize(("notebook", "missing"), [(Notebook(), set()), (Notebook(0, 40), {0, 1})])
async def test_a_daemon_leaves_marks_until_its_last_word(
    notebook: Notebook, missing: set[int], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(live, notebook, lambda: NOON + timedelta(seconds=trio.current_time()))
        await trio.sleep(3.5 * MARK_EVERY_S)
        nursery.cancel_scope.cancel()
    expected = [(number * MARK_EVERY_S, False) for number in range(4)] + [(3.5 * MARK_EVERY_S, True)]
    assert notebook.marks == [mark for number, mark in enumerate(expected) if number not in missing]
