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
