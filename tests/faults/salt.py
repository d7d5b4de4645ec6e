"""A campaign on a real master with minions: what harms saltpeter elsewhere, and a master that dies or hangs."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from tests.faults.campaign import AGAIN, LIMIT, QUEUE, STEADY, SWEEP, Campaign, Fault
from tests.helpers.salt_lab import LabHandle

MASTER_AWAY_S = (0.0, 3.0)
MASTER_HANGS_S = (0.5, 5.0)

MINIONS = ("m1", "m2", "m3")

# A minion starts five commands a second at most: what cannot be launched in time is passed over and tells nothing.
WORKS_ON_SALT = (
    attrs.evolve(STEADY, schedule="*/5 * * * * *", machines=MINIONS),
    attrs.evolve(AGAIN, schedule="*/9 * * * * *", machines=MINIONS[:2], more={**AGAIN.more, "retries": 1}),
    attrs.evolve(QUEUE, schedule="*/6 * * * * *", machines=("m3",), seconds=8),
    attrs.evolve(LIMIT, schedule="*/11 * * * * *", machines=("m2",)),
    attrs.evolve(SWEEP, machines=MINIONS),
)


@attrs.define(eq=False)
class SaltCampaign(Campaign):
    handle: LabHandle

    def faults(self) -> list[Fault]:
        return [*super().faults(), (3, self.kill_master), (2, self.hang_master)]

    def launching(self) -> Callable[[], bool]:
        """Whether there is a new run: its order is about to be published, or has just been."""
        before = set(self.fleet.living())
        return lambda: not before.issuperset(self.fleet.living())

    async def kill_master(self) -> None:
        lab = self.handle.lab
        await self.handle.call(lab.stop_master)
        await trio.sleep(self.chance.uniform(*MASTER_AWAY_S))
        await self.handle.call(lab.start_master)

    async def hang_master(self) -> None:
        self.handle.lab.freeze_master()
        await trio.sleep(self.chance.uniform(*MASTER_HANGS_S))
        self.handle.lab.thaw_master()
