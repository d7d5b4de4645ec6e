"""From slots to runs: a day of many jobs, changes while it goes on, and a clock that steps."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import attrs
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Configured, RunStarted, SlotPassed
from saltpeter.domain.job import Config, Job
from saltpeter.domain.state import State
from saltpeter.engine.board import Board
from saltpeter.engine.scheduler import Scheduler
from tests.helpers.bottle import NOON, SETTINGS, bottle, fleet, job, now
from tests.helpers.memory_store import MemoryStore


async def test_a_day_of_many_jobs(autojump_clock: MockClock) -> None:
    jobs = [job(f"every{n}m", schedule=f"*/{n} * * * *") for n in (5, 15, 30)]
    jobs += [
        job("hourly", schedule="@hourly"),
        job("daily", schedule="@daily"),
        job("seconds", schedule="15,45 */10 * * * *"),
    ]
    async with bottle(*jobs, machines=fleet("m1", "m2")) as b:
        await trio.sleep(24 * 3600 + 30)
        runs = Counter(started.job for started in b.of(RunStarted))
        assert runs == {
            **{f"every{n}m": 24 * 60 // n for n in (5, 15, 30)},
            **{"hourly": 24, "daily": 1, "seconds": 24 * 12 + 1},
        }
        assert not b.of(SlotPassed)
        late = [(started.at - started.slot).total_seconds() for started in b.of(RunStarted)]
        assert max(late) < 0.001
        assert len({(s.job, s.slot) for s in b.of(RunStarted)}) == sum(runs.values())


async def test_a_change_keeps_the_place_of_jobs_it_does_not_concern(autojump_clock: MockClock) -> None:
    steady, changing = job("steady", schedule="*/2 * * * *"), job("changing", schedule="@daily")
    async with bottle(steady, changing) as b:
        await trio.sleep(60)
        b.configure(steady, job("changing", schedule="* * * * *"))
        await trio.sleep(125)
        ran = {(s.job, (s.slot - NOON).total_seconds()) for s in b.of(RunStarted)}
        assert ran == {("changing", 120.0), ("steady", 120.0), ("changing", 180.0)}


async def test_removed_and_disabled_jobs_are_not_due(autojump_clock: MockClock) -> None:
    minutely = job(schedule="* * * * *")
    async with bottle(minutely) as b:
        await trio.sleep(65)
        b.configure(attrs.evolve(minutely, enabled=False))
        await trio.sleep(120)
        assert len(b.of(RunStarted)) == 1
        assert b.board.state.next_slots["backup"] is None
        b.configure()
        await trio.sleep(120)
        b.configure(minutely)
        await trio.sleep(60)
        assert len(b.of(RunStarted)) == 2


async def test_a_job_that_comes_back_owes_nothing_for_the_time_without_it(autojump_clock: MockClock) -> None:
    minutely, store = job(schedule="* * * * *"), MemoryStore()
    async with bottle(minutely, store=store) as b:
        await trio.sleep(65)
    async with bottle(minutely, store=store) as b:
        await trio.sleep(60)
        b.configure()
        await trio.sleep(180)
        b.configure(minutely)  # at 12:05:05
        await trio.sleep(10)
    async with bottle(minutely, store=store) as b:
        await trio.sleep(60)
        assert [(s.slot - NOON).total_seconds() for s in b.of(RunStarted)] == [60, 120, 360]
        assert not b.of(SlotPassed)


@attrs.define
class SteppedClock:
    """Wall time that can be set."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=trio.current_time()) + self.ahead


async def fired_around_a_step(step: timedelta) -> list[float]:
    """Slots of a minutely job, in seconds after noon, when the clock is set by `step` at 12:02:30, until 12:05:30."""
    clock, fired = SteppedClock(), list[float]()
    board = Board(State(Config(jobs={}, settings=SETTINGS)))

    def due(job: Job, slot: datetime) -> None:
        fired.append((slot - NOON).total_seconds())

    scheduler = Scheduler(board, clock.now, due, lambda facts: None, {})
    board.post(Configured(config=Config(jobs={"j": job("j", schedule="* * * * *")}, settings=SETTINGS), at=NOON))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.serve)
        await trio.sleep(150)
        clock.ahead = step
        scheduler.stir()
        await trio.sleep((NOON + timedelta(seconds=330) - clock.now()).total_seconds())
        nursery.cancel_scope.cancel()
    return fired


async def test_a_clock_that_is_put_forward_skips_no_slot_within_its_grace(autojump_clock: MockClock) -> None:
    assert await fired_around_a_step(timedelta(seconds=40)) == [60, 120, 180, 240, 300]


async def test_a_clock_that_is_put_back_repeats_no_slot(autojump_clock: MockClock) -> None:
    assert await fired_around_a_step(timedelta(seconds=-100)) == [60, 120, 180, 240, 300]


async def test_who_can_wake_it_better_is_told_of_each_next_slot(autojump_clock: MockClock) -> None:
    board, asked = Board(State(Config(jobs={}, settings=SETTINGS))), list[datetime | None]()
    scheduler = Scheduler(board, now, lambda job, slot: None, lambda facts: None, {}, wake_me_at=asked.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.serve)
        await trio.sleep(1)
        jobs = {"j": job("j", schedule="* * * * *")}
        board.post(Configured(config=Config(jobs=jobs, settings=SETTINGS), at=NOON))
        scheduler.stir()
        await trio.sleep(120)
        nursery.cancel_scope.cancel()
    assert asked == [None, *(NOON + timedelta(minutes=minute) for minute in (1, 2, 3))]


async def test_nothing_is_looked_at_that_is_not_due(autojump_clock: MockClock) -> None:
    """The cost is per slot: a job among a thousand others wakes the scheduler for itself alone."""
    idle = [job(f"idle{n}", schedule="@yearly") for n in range(1000)]
    board = Board(State(Config(jobs={}, settings=SETTINGS)))
    scheduler = Scheduler(board, now, lambda job, slot: None, lambda facts: None, {})
    jobs = {each.name: each for each in [*idle, job("busy", schedule="* * * * *")]}
    board.post(Configured(config=Config(jobs=jobs, settings=SETTINGS), at=NOON))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.serve)
        await trio.sleep(30)
        serial = board.state.serial
        await trio.sleep(600)
        touched = board.state.touched_since(serial)
        nursery.cancel_scope.cancel()
    assert touched == ["busy"]
    assert board.state.serial == serial + 10
