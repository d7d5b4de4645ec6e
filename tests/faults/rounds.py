"""Rounds of a campaign: harm, quiet, and then the questions."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

from tests.faults.campaign import Campaign
from tests.faults.checker import examined, figures, violations
from tests.faults.fleet import SETTLE_S

SECONDS = float(os.environ.get("FAULTS_SECONDS", "0"))  # rounds are begun for so long; one at least
SEED = os.environ.get("FAULTS_SEED") or str(random.SystemRandom().randrange(10**9))
ROUND_S = 60.0 if SECONDS else 15.0  # of faults, between two checks


@attrs.frozen
class Round:
    seed: str
    directory: Path
    chance: random.Random

    async def play(self, campaign: Campaign) -> list[str]:
        """Do harm, print what there was, and return what was wrong."""
        whole = campaign.fleet
        with trio.fail_after(ROUND_S + 2 * SETTLE_S + 60):
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
        print(f"\nseed {self.seed}: {figures(case)}; faults: {counts}; {len(wrong)} wrong")  # noqa: T201
        return [f"seed {self.seed}: {each}" for each in wrong]


def rounds(directory: Path, share: float = 1.0) -> Iterator[Round]:
    """A first one, and more as long as `share` of the time is not over; each has a directory of its own."""
    ends_at, number = time.monotonic() + share * SECONDS, 0
    while number == 0 or time.monotonic() < ends_at:
        own = directory / str(number)
        own.mkdir()
        seed = SEED if number == 0 else f"{SEED}.{number}"
        yield Round(seed, own, random.Random(seed))  # noqa: S311  hides nothing
        number += 1
