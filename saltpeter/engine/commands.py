"""What a person may ask of the engine, whichever way the request came."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.outcome import Outcome
from saltpeter.engine.execution import AS_THE_JOB_SAYS, Manner


@attrs.frozen
class HandedOver:
    """A kill on its way: the executions it concerns, and those among them whose wrapper was told at once."""

    run: str
    executions: tuple[ExecutionId, ...]
    told: tuple[ExecutionId, ...]


class Commands(Protocol):
    """Raises CommandRefused with a stable code throughout: unknown_job, not_running, overlap...."""

    async def run(self, job: str, by: str, machines: Collection[str] | None = None) -> str:
        """Start `job` now; returns the run's id as soon as it is in the ledger. `machines` narrows its targets."""

    async def kill(
        self,
        job: str,
        by: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
        manner: Manner = AS_THE_JOB_SAYS,
    ) -> Sequence[HandedOver]:
        """End the job's runs (`instance`: that one only), on all machines or on `machines`.

        Those where it has ended are left out. Where one of them has no part in it, nothing is done on any.
        """

    async def signal(
        self,
        job: str,
        by: str,
        signal: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
    ) -> Sequence[HandedOver]:
        """Send a signal (a name, without SIG) to the commands' trees. STOP pauses, CONT goes on.

        Raises CommandRefused also as not_connected, where no wrapper could be told.
        """

    async def hold(self, machine: str, by: str, reason: str, until: datetime | None = None) -> None:
        """Put `machine` ("": every machine) under maintenance, until `until` or until it is released."""

    async def release(self, machine: str, by: str) -> None:
        """End the maintenance that was set by hand."""

    async def ended(self, handed: HandedOver) -> Sequence[tuple[ExecutionId, Outcome]]:
        """Wait until every execution of `handed` has ended; their outcomes carry the receipts."""

    async def reload(self, by: str) -> None:
        """Read conf.d again; returns once that is done."""
