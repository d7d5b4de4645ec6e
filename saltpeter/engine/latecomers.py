"""Machines that come back with what nobody is waiting for any more: late truth, and runs that the ledger has lost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.events import Ended, ExecutionId, Retrying, RunEnded, RunStarted
from saltpeter.domain.jobkeys import MOST_RETRIES
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict
from saltpeter.engine import identity
from saltpeter.engine.definition import definition
from saltpeter.engine.execution import BadToken, Execution, UnknownExecution
from saltpeter.engine.means import Means
from saltpeter.logs import fields

log = logging.getLogger(__name__)


class Remembered(Protocol):
    """The part of the store's `History` that is asked here."""

    async def run(self, run: str) -> RunState | None: ...

    async def attempts(self, run: str) -> Sequence[ExecutionState]: ...


ORPHAN_S = 8 * 24 * 3600.0  # a wrapper reports for a day after its command's end, and its claim is kept for seven
MOST_ORPHANS = 10_000  # machines of one run that nothing is recorded of
MOST_ATTEMPTS = MOST_RETRIES + 1

ORPHAN = "orphan"  # who started a run that the ledger does not know
_ORPHAN_OUTCOME = outcomes.failed("The daemon had no record of this run; what the machine reports follows")


@attrs.define
class Roster:
    """Everybody who may speak to us: who is awaited, who has ended, and who was forgotten.

    Implements `saltpeter.engine.execution.Roster`.
    """

    means: Means
    history: Remembered
    _one_by_one: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def find(
        self, instance: str, machine: str, attempt: int, token: str, secret: str = "", *, proof: str = ""
    ) -> Execution:
        """Raises UnknownExecution, or BadToken where the token is not the run's, the secret another wrapper's, or the
        first one of a machine that has to prove itself and does not."""
        wanted = ExecutionId(instance, machine, attempt)
        execution = self.means.executions.find(wanted)
        if execution is None:
            async with self._one_by_one:
                execution = self.means.executions.find(wanted) or await self._from_the_past(wanted, token)
        if not self.means.may_speak(execution.token, token):
            raise BadToken(f"the token is not that of {instance}")
        keys = self.means.machine_keys(execution.job)
        if keys is not None and not execution.is_bound:
            identity.check(keys, wanted, secret, proof)
        if not execution.recognises(secret):
            raise BadToken(f"another wrapper speaks for {wanted}")
        return execution

    async def _from_the_past(self, wanted: ExecutionId, token: str) -> Execution:
        run = await self.history.run(wanted.run)
        attempts = await self.history.attempts(wanted.run)
        state = next((known for known in attempts if known.id == wanted), None)
        if run is None or state is None:
            if not self.means.tokens.match(wanted.run, token) or not self._may_be_lost(wanted, run, attempts):
                raise UnknownExecution(f"no execution {wanted} is known")
            return await self._adopt(wanted, token, known_run=run is not None)
        if state.outcome is None:
            raise UnknownExecution(f"{wanted} is not being watched yet")
        return self._remembered(state, run.token)

    def _may_be_lost(self, wanted: ExecutionId, run: RunState | None, attempts: Sequence[ExecutionState]) -> bool:
        """Can a ledger that was sound have lost it? A token must not open more, nor for ever."""
        _, _, began = wanted.run.rpartition("_")
        if not began.isdecimal() or len(began) > len("1762346049") + 2:
            return False
        if self.means.now().timestamp() - int(began) > ORPHAN_S or len(attempts) >= MOST_ORPHANS:
            return False
        others = {known.id.machine for known in attempts}
        known_well = run is not None and run.by != ORPHAN and bool(others)  # its machines were written down together
        return wanted.attempt <= MOST_ATTEMPTS and (wanted.machine in others or not known_well)

    async def _adopt(self, wanted: ExecutionId, token: str, *, known_run: bool) -> Execution:
        """Record what only its token proves: it counts as ended at once, and all that it says comes late."""
        at = self.means.now()
        job, _, _ = wanted.run.rpartition("_")
        log.error(
            "%s reports %s, of which nothing is recorded: it is recorded as an orphan",
            *(wanted.machine, wanted.run),
            extra=fields("execution.orphaned", run=wanted.run, machine=wanted.machine),
        )
        began = Retrying(execution=wanted, at=at)
        ended = Ended(execution=wanted, outcome=_ORPHAN_OUTCOME, at=at)
        if known_run:
            await self.means.record.surely(began, ended)
        else:
            started = RunStarted(run=wanted.run, job=job, slot=None, by=ORPHAN, token=token, at=at)
            closed = RunEnded(run=wanted.run, verdict=Verdict.FAILED, at=at, text=_ORPHAN_OUTCOME.text)
            await self.means.record.surely(started, began, ended, closed)
        state = ExecutionState(wanted, at, ended_at=at, outcome=_ORPHAN_OUTCOME, launched_at=at)
        execution = self._remembered(state, token)
        await execution.note(_ORPHAN_OUTCOME.text)
        return execution

    def _remembered(self, state: ExecutionState, token: str) -> Execution:
        job, _, _ = state.id.run.rpartition("_")
        execution = Execution(
            id=state.id,
            job=definition(self.means.record.board.state.config, job),
            token=token,
            record=self.means.record,
            now=self.means.now,
            leases=self.means.leases,
            forward=lambda execution, order: None,
        )
        execution.resume(state)
        self.means.executions.remember(execution)
        return execution
