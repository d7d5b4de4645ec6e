"""All living runs: which slots become one, and what people ask of them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from itertools import islice

import attrs
import trio

from saltpeter.domain.admission import Pass, Queue, Replace, Start, admit
from saltpeter.domain.events import (
    Awaited,
    ExecutionId,
    HoldEnded,
    HoldSet,
    KillRequested,
    LedgerEvent,
    Reason,
    RunStarted,
    SlotPassed,
)
from saltpeter.domain.job import Hold, Job, Overlap
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.schedule import PROMPT_S
from saltpeter.domain.state import RunState
from saltpeter.engine.commands import HandedOver
from saltpeter.engine.execution import AS_THE_JOB_SAYS, Manner
from saltpeter.engine.means import Means
from saltpeter.engine.record import persistently
from saltpeter.engine.run import Run
from saltpeter.engine.turns import Turn, Turns
from saltpeter.errors import CommandRefused, RunTaken, SlotTaken, StoreError
from saltpeter.logs import fields

_NAMED = 5  # machines in a sentence

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Entry:
    """Whether a run that somebody asked for has come to be; the first word counts."""

    decided: trio.Event = attrs.field(factory=trio.Event)
    refusal: CommandRefused | None = None

    def decide(self, refusal: CommandRefused | None = None) -> None:
        if not self.decided.is_set():
            self.refusal = refusal
            self.decided.set()


@attrs.define(eq=False)
class Runs:
    """Implements `Commands`. Each run is a task of `nursery`."""

    means: Means
    nursery: trio.Nursery
    reread: Callable[[], Awaitable[None]]  # reads conf.d again, and returns when that is done
    _living: dict[str, list[Run]] = attrs.field(factory=dict, init=False)  # by job, oldest first
    _turns: Turns = attrs.field(factory=Turns, init=False)
    _waiting: dict[str, datetime] = attrs.field(factory=dict, init=False)  # a slot for when the job's runs have ended

    # --- slots -----------------------------------------------------------------------------------

    def due(self, job: Job, slot: datetime) -> None:
        """A slot has come; returns at once."""
        living = [run.id for run in self._living.get(job.name, ())]
        maintenance = self.means.maintenance()
        match admit(job, living=living, queued=job.name in self._waiting, maintenance=maintenance):
            case Start():
                self._start(job, slot)
            case Queue(text):
                self._wait(job, slot, text)
            case Replace(text):
                self._wait(job, slot, text)
                for run in self._living[job.name]:
                    run.kill()
            case Pass(reason, text):
                self.pass_over(SlotPassed(job=job.name, slot=slot, reason=reason, text=text, at=self.means.now()))

    def note(self, facts: Sequence[SlotPassed | Awaited]) -> None:
        """Record what the scheduler has decided; returns at once."""
        if facts:
            turn = self._turns.take(fact.job for fact in facts)
            self.nursery.start_soon(self._record_in, turn, facts, name=f"note of {facts[0].job}")

    async def _record_in(self, turn: Turn, facts: Sequence[SlotPassed | Awaited]) -> None:
        await turn.come()
        await self.means.record.surely(*facts)
        turn.end()

    def pass_over(self, passed: SlotPassed) -> None:
        """Record a slot that does not run; returns at once."""
        self._tell(passed)
        self.note([passed])

    def _tell(self, passed: SlotPassed) -> None:
        log.info(
            "%s does not run at %s: %s",
            *(passed.job, passed.slot, passed.text),
            extra=fields("run.skipped", job=passed.job, reason=passed.reason.value),
        )

    def _wait(self, job: Job, slot: datetime, text: str) -> None:
        at = self.means.now()
        if (older := self._waiting.get(job.name)) is not None:
            newer = f"the slot of {slot.isoformat()} took its place"
            self.pass_over(SlotPassed(job=job.name, slot=older, reason=Reason.OVERLAP, text=newer, at=at))
        self._waiting[job.name] = slot
        self.pass_over(SlotPassed(job=job.name, slot=slot, reason=Reason.WAITING, text=text, at=at))

    def _start(self, job: Job, slot: datetime) -> None:
        run = self._new(job, slot)
        self.nursery.start_soon(self._run_slot, run, slot, self._turns.take([job.name]), name=run.id)

    async def _run_slot(self, run: Run, slot: datetime, turn: Turn) -> None:
        await run.conduct(partial(self._enter_slot, run, slot, turn))
        self._over(run)

    async def _enter_slot(self, run: Run, slot: datetime, turn: Turn) -> bool:
        """Put it into the ledger; False when that cannot be, which is then recorded."""
        try:
            await self._enter_in_time(run, slot, turn)
        except SlotTaken:
            log.warning("%s ran already for %s", run.job.name, slot, extra=fields("run.taken", job=run.job.name))
            turn.end()
            return False
        except StoreError as error:
            text = f"the store could not record the run: {error}"
            held = SlotPassed(job=run.job.name, slot=slot, reason=Reason.HELD, text=text, at=self.means.now())
            self._tell(held)
            self.nursery.start_soon(self._record_in, turn, [held], name=f"note of {run.job.name}")
            return False
        turn.end()
        return True

    async def _enter_in_time(self, run: Run, slot: datetime, turn: Turn) -> None:
        """Put it into the ledger. Raises SlotTaken, and StoreError when that cannot be while the slot may start."""

        def patience_s() -> float:
            return max((run.job.schedule.latest_start(slot) - self.means.now()).total_seconds(), PROMPT_S)

        if not turn.has_come:
            with trio.move_on_after(patience_s()) as patience:
                await turn.come()
            if patience.cancelled_caught:
                known = self.means.record.board.state.store_problem
                raise StoreError(known or "older slots of the job wait to be recorded")
        await persistently(lambda: self._enter(run, slot, "schedule"), patience_s)

    # --- runs ------------------------------------------------------------------------------------

    def resume(self, state: RunState, job: Job) -> None:
        """Take up a run that an earlier daemon began; returns at once."""
        run = Run(id=state.id, job=job, token=state.token, means=self.means)
        self._living.setdefault(job.name, []).append(run)
        self.nursery.start_soon(self._resume, run, state, name=run.id)

    async def _resume(self, run: Run, state: RunState) -> None:
        await run.resume(state)
        self._over(run)

    def _new(self, job: Job, at: datetime, only: frozenset[str] | None = None) -> Run:
        """A run that counts as living from now on; its id may still change until it is in the ledger."""
        run_id = f"{job.name}_{int(at.timestamp())}"
        run = Run(id=run_id, job=job, token="", means=self.means, only=only)
        self._living.setdefault(job.name, []).append(run)
        return run

    async def _enter(self, run: Run, slot: datetime | None, by: str) -> None:
        """Put it into the ledger; nothing is launched before. Raises StoreError, SlotTaken for a slot that ran."""
        if (problem := self.means.record.board.state.store_problem) is not None:  # be it of the output alone
            raise StoreError(problem)
        name = run.id
        while True:
            run.call_it(name)
            started = RunStarted(run=run.id, job=run.job.name, slot=slot, by=by, token=run.token, at=self.means.now())
            try:
                await self.means.record.once(started, *run.beginning())
            except RunTaken:  # by a run by hand in the same second
                run.forget_beginning()
                job, _, second = name.rpartition("_")
                name = f"{job}_{int(second) + 1}"
            except StoreError:
                run.forget_beginning()
                raise
            else:
                log.info("Firing %s!", run.id, extra=fields("run.started", run=run.id, job=run.job.name, by=by))
                return

    def _over(self, run: Run) -> None:
        """It lives no longer: a slot that waited for that may start."""
        name = run.job.name
        self._living[name].remove(run)
        if self._living[name]:
            return
        del self._living[name]
        if (slot := self._waiting.pop(name, None)) is not None:
            self.due_again(name, slot)

    def due_again(self, name: str, slot: datetime) -> None:
        """A slot of that job has waited, and need not wait any more, or an earlier daemon left it; returns at once."""
        if (job := self.means.record.board.state.config.jobs.get(name)) is not None:
            self.due(job, slot)
        else:
            gone = "the job was removed while the slot waited"
            self.pass_over(SlotPassed(job=name, slot=slot, reason=Reason.HELD, text=gone, at=self.means.now()))

    # --- what people ask -------------------------------------------------------------------------

    async def run(self, job: str, by: str, machines: Collection[str] | None = None) -> str:
        """Start `job` now. Raises CommandRefused: unknown_job, maintenance, overlap, stopping or store_failed."""
        definition = self._defined(job)
        if self.nursery.cancel_scope.cancel_called:
            raise _stopping()
        if self.means.maintenance().everything:
            raise CommandRefused("maintenance", "global maintenance is on: no new runs are started")
        if (living := self._living.get(job)) and definition.overlap is not Overlap.ALLOW:
            raise CommandRefused("overlap", f"{living[-1].id} is still running; kill it first")
        run = self._new(definition, self.means.now(), None if machines is None else frozenset(machines))
        entry = _Entry()
        self.nursery.start_soon(self._run_by_hand, run, by, entry, name=run.id)
        await entry.decided.wait()
        if entry.refusal is not None:
            raise entry.refusal
        return run.id

    async def _run_by_hand(self, run: Run, by: str, entry: _Entry) -> None:
        """Whoever asked for it may have gone meanwhile; it runs all the same."""
        refusal = _stopping()

        async def enter() -> bool:
            nonlocal refusal
            try:
                await self._enter(run, None, by)
            except StoreError as error:
                text = f"the run could not be recorded, so it was not started: {error}"
                refusal = CommandRefused("store_failed", text)
                return False
            entry.decide()
            return True

        try:
            await run.conduct(enter)
            self._over(run)
        finally:
            entry.decide(refusal)  # now that it may be tried again

    async def kill(
        self,
        job: str,
        by: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
        manner: Manner = AS_THE_JOB_SAYS,
    ) -> Sequence[HandedOver]:
        """End the job's runs. Raises CommandRefused: unknown_job or not_running."""
        runs = self._concerned(job, machines, instance)
        log.info("WebSocket: Kill command received for job %s", job, extra=fields("kill.requested", job=job, by=by))
        handed = [self._kill(run, machines, manner) for run in runs]
        for run in runs:
            asked = KillRequested(
                run=run.id,
                machines=() if machines is None else run.known(machines),
                by=by,
                at=self.means.now(),
                signal=manner.signal,
                grace_s=manner.grace_s,
            )
            self.nursery.start_soon(self._note_kill, run, asked, name=f"{run.id} kill noted")
        return handed

    async def _note_kill(self, run: Run, asked: KillRequested) -> None:
        """Not before the run is in the ledger, and by its name there: else nobody would know of the kill."""
        await run.placed.wait()
        if run.entered:
            await self.means.record.surely(attrs.evolve(asked, run=run.id))

    def _concerned(self, job: str, machines: Collection[str] | None, instance: str | None) -> list[Run]:
        living = self._living.get(job, [])
        if not living:
            self._defined(job)
        wanted = [run for run in living if instance in (None, run.id)]
        if machines is not None:
            return _running_on(machines, wanted, instance or job)
        runs = [run for run in wanted if not run.is_closing]
        if not runs and wanted:
            raise CommandRefused("not_running", f"{wanted[-1].id} has just ended on all its machines")
        if not runs:
            raise CommandRefused("not_running", f"{instance or job} is not running")
        return runs

    def _kill(self, run: Run, machines: Collection[str] | None, manner: Manner) -> HandedOver:
        concerned = run.kill(machines, manner)
        told = tuple(execution.id for execution in concerned if execution.link is not None)
        return HandedOver(run.id, tuple(execution.id for execution in concerned), told)

    async def signal(
        self,
        job: str,
        by: str,
        signal: str,
        machines: Collection[str] | None = None,
        instance: str | None = None,
    ) -> Sequence[HandedOver]:
        """Send a signal to the commands' trees; STOP pauses them and CONT lets them go on.

        Only wrappers that are connected can be told. Raises CommandRefused: unknown_job, not_running, or
        not_connected where nobody could be told.
        """
        handed = []
        for run in self._concerned(job, machines, instance):
            concerned = run.living(machines)
            told = tuple(execution.id for execution in concerned if execution.signal(signal))
            handed.append(HandedOver(run.id, tuple(execution.id for execution in concerned), told))
        if not any(each.told for each in handed):
            raise CommandRefused("not_connected", _why_nobody(job, handed, use_wrapper=run.job.use_wrapper))
        log.info("Signal %s for job %s by %s", signal, job, by, extra=fields("signal.requested", job=job, by=by))
        return handed

    async def hold(self, machine: str, by: str, reason: str, until: datetime | None = None) -> None:
        """Put `machine` ("": every machine) under maintenance. Raises CommandRefused: bad_time or store_failed."""
        at = self.means.now()
        if until is not None and until <= at:
            raise CommandRefused("bad_time", f"{until.isoformat()} has passed already")
        await self._record(HoldSet(hold=Hold(machine=machine, reason=reason, by=by, since=at, until=until), at=at))

    async def release(self, machine: str, by: str) -> None:
        """End the maintenance that was set by hand. Raises CommandRefused: not_held or store_failed."""
        if machine not in self.means.record.board.state.holds:
            raise CommandRefused("not_held", f"{machine or 'the fleet'} is not under maintenance by hand")
        await self._record(HoldEnded(machine=machine, by=by, at=self.means.now()))

    async def _record(self, event: LedgerEvent) -> None:
        try:
            await self.means.record.once(event)
        except StoreError as error:
            raise CommandRefused("store_failed", f"the store cannot record it: {error}") from error

    async def ended(self, handed: HandedOver) -> Sequence[tuple[ExecutionId, Outcome]]:
        """Wait for the ends of all that a kill concerned."""
        endings = []
        for execution_id in handed.executions:
            execution = self.means.executions.get(execution_id)
            await execution.ended.wait()
            assert execution.outcome is not None  # noqa: S101  set before the event
            endings.append((execution_id, execution.outcome))
        return endings

    async def reload(self, by: str) -> None:
        """Read conf.d again; returns once that is done."""
        log.info("Reload asked for by %s", by, extra=fields("config.reload", by=by))
        await self.reread()

    def _defined(self, job: str) -> Job:
        if (definition := self.means.record.board.state.config.jobs.get(job)) is not None:
            return definition
        near = difflib.get_close_matches(job, self.means.record.board.state.config.jobs, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise CommandRefused("unknown_job", f"there is no job {job!r}{hint}")


def _running_on(machines: Collection[str], runs: Sequence[Run], what: str) -> list[Run]:
    """Those of `runs` that live on some of `machines`. Raises CommandRefused where one of these has no part in any."""
    strangers = [machine for machine in machines if not any(run.known([machine]) for run in runs)]
    if strangers:
        others = "; nothing was done on the others" if len(strangers) < len(machines) else ""
        raise CommandRefused("not_running", f"{what} is not running on {_named(strangers)}{others}")
    if not (living := [run for run in runs if run.open(machines)]):
        raise CommandRefused("not_running", f"{what} is not running on {_named(machines)}: it has ended there")
    return living


def _why_nobody(job: str, handed: Sequence[HandedOver], *, use_wrapper: bool) -> str:
    """Why no signal could be sent to any of the executions of `handed`."""
    if not use_wrapper:
        return f"{job} runs without a wrapper, and only wrappers send signals; a kill reaches it all the same"
    machines = sorted({execution.machine for each in handed for execution in each.executions})
    if not machines:
        return f"{job} has not begun on any machine, or has just ended"
    where = _named(machines)
    return f"the wrapper of {job} is not connected now on {where}; a signal waits for nobody, a kill goes through Salt"


def _named(machines: Collection[str]) -> str:
    more = f" and {len(machines) - _NAMED} more" if len(machines) > _NAMED else ""
    return ", ".join(islice(machines, _NAMED)) + more


def _stopping() -> CommandRefused:
    return CommandRefused("stopping", "the daemon is stopping: no new runs are started")
