from __future__ import annotations

import threading
import time

import attrs
import pytest
import trio

from saltpeter.engine.lag import LagWatch, watching

PATIENCE_S = 30.0


@attrs.define
class Stopwatch:
    """Real time, as far as the test lets it pass."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


async def test_a_turn_that_takes_too_long_is_measured_and_said(caplog: pytest.LogCaptureFixture) -> None:
    stopwatch = Stopwatch()
    lags: list[float] = []
    with watching(LagWatch(lags.append, stopwatch)):
        await trio.lowlevel.checkpoint()
        stopwatch.at += 0.15
        await trio.lowlevel.checkpoint()
        assert "The event loop" not in caplog.text
        stopwatch.at += 0.5
        await trio.lowlevel.checkpoint()
    assert lags == pytest.approx([0.15, 0.5])  # and nothing of turns that take no time
    assert "The event loop did not turn for 0.50 seconds" in caplog.text
    before = len(lags)
    await trio.lowlevel.checkpoint()
    assert len(lags) == before


async def test_the_task_that_holds_it_up_is_named_and_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    stopwatch = Stopwatch()
    watch = LagWatch(lambda _: None, stopwatch)
    root, here = trio.lowlevel.current_root_task(), threading.get_ident()
    assert root is not None

    async def step(seconds: float) -> None:
        stopwatch.at += seconds
        looker = threading.Thread(target=watch.look, args=(root, here))
        looker.start()
        looker.join()
        await trio.lowlevel.checkpoint()

    trio.lowlevel.add_instrument(watch)
    await trio.lowlevel.checkpoint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(step, 0.3, name="run backup_1@db02")
    trio.lowlevel.remove_instrument(watch)
    assert "for 0.30 seconds; in the midst of them it was with run backup_1@db02, in threading." in caplog.text
    [record] = caplog.records
    facts = record.__dict__["facts"]
    assert (facts["seconds"], facts["task"]) == (0.3, "run backup_1@db02")


async def test_a_short_turn_is_not_looked_into(caplog: pytest.LogCaptureFixture) -> None:
    stopwatch = Stopwatch()
    watch = LagWatch(lambda _: None, stopwatch)
    root = trio.lowlevel.current_root_task()
    assert root is not None
    trio.lowlevel.add_instrument(watch)
    await trio.lowlevel.checkpoint()
    stopwatch.at += 0.09
    watch.look(root, threading.get_ident())
    stopwatch.at += 0.2
    await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(watch)
    assert "in the midst of them it was with no task, in code unknown" in caplog.text


async def test_it_is_looked_at_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    watch = LagWatch(lambda _: None)

    def hold_up() -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while watch._seen is None and time.monotonic() < give_up_at:
            time.sleep(0.01)
        time.sleep(0.2)

    async def work() -> None:
        hold_up()

    with watching(watch):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, name="the slow one")
        await trio.lowlevel.checkpoint()
    assert "it was with the slow one, in tests.engine.test_lag.hold_up, line " in caplog.text
