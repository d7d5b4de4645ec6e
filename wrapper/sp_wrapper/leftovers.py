"""Runs that nobody reports any more: their wrapper was killed, or gave up, or the machine restarted."""

from __future__ import annotations

import os

import trio

from sp_wrapper import channel, claim, state
from sp_wrapper.link import Timing
from sp_wrapper.order import OrderError
from sp_wrapper.reporter import DEFAULT_TIMING, report_leftover

AT_ONCE = 10


def deliver(home: state.StateDir, for_s: float, timing: Timing = DEFAULT_TIMING) -> tuple[int, int]:
    """Report every run whose supervisor is gone, for at most `for_s` seconds. Answers (delivered, left)."""

    async def run() -> int:
        delivered = 0
        limit = trio.CapacityLimiter(AT_ONCE)

        async def deliver_one(own: claim.Claim) -> None:
            nonlocal delivered
            async with limit:
                delivered += await _deliver_one(own, timing)

        with trio.move_on_after(for_s):
            async with trio.open_nursery() as nursery:
                for name in home.pending():
                    nursery.start_soon(deliver_one, claim.Claim(home, name))
        return delivered

    return trio.run(run), len(home.pending())


async def _deliver_one(own: claim.Claim, timing: Timing) -> bool:
    try:
        lock = own.lock()
    except FileNotFoundError:  # claimed this very moment, or half of a crash
        return False
    if lock is None:
        return False  # its own wrapper is at work
    try:
        wanted, processes = own.order(), own.processes()
        if wanted is None:
            return False
        job = channel.Job(own, wanted, 0, processes.pid if processes else 0, processes.started if processes else 0.0)
        return await report_leftover(job, timing)
    except OrderError:
        return False
    finally:
        os.close(lock)
