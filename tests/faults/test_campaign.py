"""The daemon, its wrappers and the network fail at random; afterwards every promise must have been kept."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import trio

from tests.faults.campaign import WORKS, Campaign
from tests.faults.checker import examined, figures, violations
from tests.faults.fleet import SETTLE_S, fleet

SECONDS = float(os.environ.get("FAULTS_SECONDS", "0"))  # rounds are begun for so long; one at least
ROUND_S = 60.0 if SECONDS else 15.0  # of faults, between two checks
BOUND_S = ROUND_S + 2 * SETTLE_S + 60
SEED = os.environ.get("FAULTS_SEED") or str(random.SystemRandom().randrange(10**9))


async def test_random_faults_break_no_promise(wrapper_file: Path, tmp_path: Path) -> None:
    ends_at, number, broken = time.monotonic() + SECONDS, 0, list[str]()
    while number == 0 or time.monotonic() < ends_at:
        seed = SEED if number == 0 else f"{SEED}.{number}"
        directory = tmp_path / str(number)
        directory.mkdir()
        broken += [f"seed {seed}: {wrong}" for wrong in await _round(directory, wrapper_file, seed)]
        number += 1
    assert not broken, "\n".join(broken)


async def _round(directory: Path, wrapper_file: Path, seed: str) -> list[str]:
    chance = random.Random(seed)  # noqa: S311
    with trio.fail_after(BOUND_S), fleet(directory, wrapper_file, WORKS, chance) as whole:
        campaign = Campaign(whole, chance)
        async with trio.open_nursery() as nursery:
            await nursery.start(whole.network.serve)
            await whole.start()
            await campaign.run(ROUND_S)
            unsettled = await whole.settle()
            await whole.stop()
            nursery.cancel_scope.cancel()
        case = examined(whole, campaign.noted)
        wrong = [*unsettled, *violations(case)]
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(campaign.noted.counts.items()))
        print(f"\nseed {seed}: {figures(case)}; faults: {counts}; {len(wrong)} wrong")  # noqa: T201
        return wrong
