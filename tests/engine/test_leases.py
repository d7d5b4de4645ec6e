"""A lease ends when nobody has renewed it for its span, to the second, whatever the others do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from saltpeter.engine.leases import Leases


@asynccontextmanager
async def leases(span_s: float = 15.0) -> AsyncIterator[Leases]:
    made = Leases(span_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.serve)
        yield made
        nursery.cancel_scope.cancel()


async def lasts_s(made: Leases, *renewals_s: float) -> float:
    """When a lease ends that is renewed at these times."""
    with trio.CancelScope() as scope:
        for at in renewals_s:
            await trio.sleep_until(at)
            made.renew(scope)
        await trio.sleep(3600)
    return trio.current_time()


async def test_each_ends_a_span_after_its_last_renewal(autojump_clock: MockClock) -> None:
    ends: dict[int, float] = {}

    async def hold(number: int, *renewals_s: float) -> None:
        ends[number] = await lasts_s(made, *renewals_s)

    async with leases() as made, trio.open_nursery() as nursery:
        nursery.start_soon(hold, 1, 0.0, 5.0, 10.0)
        nursery.start_soon(hold, 2, 1.0)
        nursery.start_soon(hold, 3, 2.0, 7.0)
        nursery.start_soon(hold, 4, 40.0)
    assert ends == {1: 25.0, 2: 16.0, 3: 22.0, 4: 55.0}


async def test_what_was_released_lasts(autojump_clock: MockClock) -> None:
    async with leases() as made:
        with trio.CancelScope() as scope:
            made.renew(scope)
            made.release(scope)
            made.release(scope)
            await trio.sleep(100)
        assert not scope.cancelled_caught
        assert await lasts_s(made, 200.0) == 215.0


async def test_a_clock_that_is_not_whole_stalls_nobody(autojump_clock: MockClock) -> None:
    async with leases(0.1) as made:
        for _ in range(50):
            begun = trio.current_time()
            assert abs(await lasts_s(made, begun + 0.7) - begun - 0.8) < 1e-6
