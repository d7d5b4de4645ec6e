from __future__ import annotations

import attrs
import pytest
import trio

from saltpeter.engine.lag import LagWatch, watching


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
    assert max(lags) == pytest.approx(0.5)
    assert sum(lags) == pytest.approx(0.65)
    assert "The event loop did not turn for 0.50 seconds" in caplog.text
    before = len(lags)
    await trio.lowlevel.checkpoint()
    assert len(lags) == before


async def test_the_task_that_held_it_up_is_named(caplog: pytest.LogCaptureFixture) -> None:
    stopwatch = Stopwatch()

    async def step(seconds: float) -> None:
        stopwatch.at += seconds
        await trio.lowlevel.checkpoint()

    with watching(LagWatch(lambda _: None, stopwatch)):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(step, 0.05, name="run backup_1@db01")
            nursery.start_soon(step, 0.3, name="run backup_1@db02")
            nursery.start_soon(step, 0.1, name="run backup_1@db03")
    assert "for 0.45 seconds; the longest in it, 0.30, was run backup_1@db02" in caplog.text
    [record] = caplog.records
    assert record.__dict__["facts"] == {"seconds": 0.45, "task": "run backup_1@db02", "task_seconds": 0.3}
