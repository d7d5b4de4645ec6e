"""How the daemon fares, as people are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol

import attrs

from saltpeter.endpoints import pulse, readiness
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.readiness import Check, Finding
from saltpeter.endpoints.records import Result
from saltpeter.engine.storage import StoreHealth


class Vitals(Protocol):
    async def readiness(self) -> Result:
        """Whether the daemon is ready for its work, and what has been checked."""

    async def health(self) -> Result:
        """The same; how late slots were of late, and what the store keeps."""


@attrs.frozen
class AllVitals:
    checks: Mapping[str, Check]
    pulse: Pulse
    of_store: Callable[[], Awaitable[StoreHealth]]
    now: Callable[[], datetime]

    async def readiness(self) -> Result:
        return readiness.as_result(await readiness.look(self.checks))

    async def health(self) -> Result:
        found = await self.readiness()
        store = pulse.of_store(await self.of_store())
        return {**found, **self.pulse.told(self.now()), "store": store}


@attrs.frozen
class SignsOfLife:
    """No more than whether all is well: figures are of everybody's jobs, and texts may name them."""

    checks: Mapping[str, Check]
    pulse: Pulse

    async def readiness(self) -> Result:
        found = await readiness.look(self.checks)
        return readiness.as_result({name: _in_short(finding) for name, finding in found.items()})

    async def health(self) -> Result:
        figures = dict.fromkeys(("slots", "late", "lag", "store"))
        return {**await self.readiness(), "since": self.pulse.began_at, **figures}


def _in_short(finding: Finding) -> Finding:
    return Finding(finding.ok, "well" if finding.ok else "not well: the daemon's log says why")
