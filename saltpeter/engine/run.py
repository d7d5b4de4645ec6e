"""One run: its targets, a task for each machine, and its verdict."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice

import attrs
import trio
from exceptiongroup import BaseExceptionGroup, catch

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.admission import splay, too_many_failures, worth_a_retry
from saltpeter.domain.events import ExecutionId, Launched, LedgerEvent, Retrying, RunEnded, Targeted
from saltpeter.domain.job import Job
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict, verdict
from saltpeter.engine.execution import AS_THE_JOB_SAYS, Execution, Manner
from saltpeter.engine.means import Means
from saltpeter.engine.orders import Orders
from saltpeter.engine.secrets import Vault
from saltpeter.engine.targets import choose
from saltpeter.errors import LaunchError
from saltpeter.logs import fields

log = logging.getLogger(__name__)

AT_ONCE = 200  # machines that begin in one turn of the loop: ten thousand would hold everybody up
TOGETHER_S = 0.05  # a run whose machines are known so soon begins with them, in one commit

_REMOVED = "Not launched: conf.d has the job no more"
_TOO_MANY = "Not launched: too many machines had failed (max_failures)"


def _tickets(executions: Iterable[ExecutionState]) -> dict[str, list[str]]:
    """The machines of each launch that is still in phase 1."""
    tickets: dict[str, list[str]] = {}
    for execution in executions:
        if execution.ticket and execution.ended_at is None and execution.confirmed_at is None:
            tickets.setdefault(execution.ticket, []).append(execution.id.machine)
    return tickets


@attrs.define(eq=False)
class Run:
    """A living run. `kill` may be called at any time, by any task."""

    id: str
    job: Job
    token: str
    means: Means
    only: frozenset[str] | None = None  # the targets, narrowed by who asked for the run
    placed: trio.Event = attrs.field(factory=trio.Event, init=False)  # whether it comes to be is decided
    entered: bool = attrs.field(default=False, init=False)  # it has come to be: it is in the ledger
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    executions: dict[str, Execution] = attrs.field(factory=dict, init=False)  # the latest attempt on each machine
    outcomes: dict[str, Outcome] = attrs.field(factory=dict, init=False)  # the last one of each machine
    _given_up: set[str] = attrs.field(factory=set, init=False)  # machines on which somebody wants no more of it
    _targeting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _targeted: trio.Event = attrs.field(factory=trio.Event, init=False)  # its machines are known, or never will be
    _machines: tuple[str, ...] = attrs.field(default=(), init=False)
    _untargetable: LaunchError | None = attrs.field(default=None, init=False)
    _first: Launched | None = attrs.field(default=None, init=False)
    _written: bool = attrs.field(default=False, init=False)  # its machines and first launch are, unless called off
    _orders: Orders = attrs.field(init=False)
    _slots: trio.Semaphore = attrs.field(init=False)  # machines at a time
    _vault: Vault = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._vault = Vault(self.job.secret_env, self.means.read_secrets)

    async def conduct(self, enter: Callable[[], Awaitable[bool]] | None = None) -> None:
        """See it through to its verdict, which is durable on return.

        If it is not in the ledger yet, `enter` puts it there, together with its `beginning`, or says that it cannot.
        """
        async with self._ordering():
            self._orders.nursery.start_soon(self._target, name=f"{self.id} targets")
            if enter is not None:
                with trio.move_on_after(TOGETHER_S):
                    await self._targeted.wait()
                self._place(entered=await enter())
                if not self.entered:
                    return
            if not self._written:
                await self._targeted.wait()
                if (error := self._untargetable) is not None:
                    log.error("%s cannot be launched: %s", self.id, error, extra=fields("run.failed", run=self.id))
                    return await self._end(Verdict.FAILED, str(error))
                await self.means.record.surely(*self.beginning())
            await self._launch_first()
            await self._see_through(self._machines)
        await self._end_by_verdict()

    def _place(self, *, entered: bool) -> None:
        self.entered = entered
        self.placed.set()

    def call_it(self, run: str) -> None:
        """Its name, for good once it is in the ledger."""
        self.id, self.token = run, self.means.tokens.of(run)
        self._orders.run, self._orders.token = self.id, self.token

    def beginning(self) -> Sequence[LedgerEvent]:
        """Its machines, and the launch of those that begin at once; nothing while they are not known.

        To be made durable in one commit with its start, or else called off with `forget_beginning`.
        """
        if not self._targeted.is_set() or self._untargetable is not None:
            return ()
        self._written = True
        targeted = Targeted(run=self.id, machines=self._machines, at=self.means.now())
        if not (first := self._first_of(self._machines)):
            return (targeted,)
        self._first = self._orders.launched(1, first)
        return (targeted, self._first)

    def forget_beginning(self) -> None:
        """The `beginning` has not come to be."""
        self._written = False
        if self._first is not None:
            self._orders.call_off(self._first.ticket)
            self._first = None

    async def resume(self, state: RunState) -> None:
        """Take up a run that an earlier daemon began, wherever it stood."""
        self._place(entered=True)
        if state.executions:
            async with self._ordering():
                self._take_up(state)
                await self._see_through(state.executions)
            return await self._end_by_verdict()
        if state.kills:
            self.kill()
        await self.conduct()

    @asynccontextmanager
    async def _ordering(self) -> AsyncIterator[None]:
        """Orders can be given inside; what is still on its way out at the end is called off."""
        async with trio.open_nursery() as nursery:
            self._orders = Orders(self.id, self.job, self.token, self.means, nursery)
            try:
                yield
            finally:
                self._orders.close()

    def _take_up(self, state: RunState) -> None:
        for known in state.executions.values():
            if known.outcome is not None:
                self.outcomes[known.id.machine] = known.outcome
            self._begin(known.id).resume(known)
        if self._targeting.cancel_called:  # somebody asked before there was anything to end here
            self.kill()
        for asked in state.kills:  # told again, for nobody knows what came of it
            self.kill(asked.machines or None, Manner(asked.signal, asked.grace_s))
        for ticket, machines in _tickets(state.executions.values()).items():
            self._orders.take_up(ticket, [self.executions[machine] for machine in machines])

    def kill(self, machines: Collection[str] | None = None, manner: Manner = AS_THE_JOB_SAYS) -> tuple[Execution, ...]:
        """End it on `machines`, None for all. Returns the executions that this concerns."""
        if machines is None:
            self._targeting.cancel()
        self._given_up |= self.executions.keys() if machines is None else set(machines)
        concerned = self.open(machines)
        for execution in concerned:
            if execution.outcome is None:
                execution.end(manner)
        return concerned

    def living(self, machines: Collection[str] | None = None) -> tuple[Execution, ...]:
        """The executions that have not ended, of all machines or of those named."""
        return tuple(execution for execution in self.open(machines) if execution.outcome is None)

    def open(self, machines: Collection[str] | None = None) -> tuple[Execution, ...]:
        """Those, and the ones whose end is just being written down: a further attempt may follow it."""
        chosen = self.executions if machines is None else self.known(machines)
        return tuple(self.executions[machine] for machine in chosen if not self.executions[machine].ended.is_set())

    def known(self, machines: Iterable[str]) -> tuple[str, ...]:
        """Those of `machines` that have a part in it, each once."""
        return tuple(machine for machine in dict.fromkeys(machines) if machine in self.executions)

    @property
    def is_closing(self) -> bool:
        """It has ended on all its machines; only its verdict is still to be written down."""
        return bool(self.executions) and not self.open()

    # --- the machines ----------------------------------------------------------------------------

    async def _target(self) -> None:
        """Decide on the machines. None are left when a kill comes first."""
        machines: tuple[str, ...] = ()
        try:
            with self._targeting:
                machines = await choose(
                    self.job,
                    self.means.launcher(self.job),
                    respond_within_s=self.means.settings().respond_within_s,
                    chance=self.means.chance,
                )
        except LaunchError as error:
            self._untargetable = error
        self._machines = tuple(each for each in machines if self.only is None or each in self.only)
        self._targeted.set()

    async def _launch_first(self) -> None:
        """Its beginning is durable: now it begins."""
        for number, machine in enumerate(self._machines, start=1):
            self._begin(ExecutionId(self.id, machine))
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if self._targeting.cancel_called:  # just when that was being written down
            self.kill()
            self.forget_beginning()
        elif self._first is not None:
            executions = [self.executions[machine] for machine in self._first.machines]
            for execution in executions:
                execution.launched = True  # from here on a kill goes to the machine
            self._orders.begin(self._first.ticket, executions)

    def _first_of(self, machines: Collection[str]) -> tuple[str, ...]:
        """Those of `machines` that begin without delay, as many as may run at a time."""
        held, within_s = self.means.maintenance().machines, self.job.splay_s
        prompt = (each for each in machines if each not in held and not splay(self.job.name, each, within_s))
        return tuple(islice(prompt, self._at_once(machines))) if self.job.command else ()

    def _at_once(self, machines: Collection[str]) -> int:
        return self.job.batch_size.of(len(machines)) if self.job.batch_size else max(len(machines), 1)

    async def _see_through(self, machines: Collection[str]) -> None:
        """Watch every machine to its end."""
        self._slots = trio.Semaphore(self._at_once(machines))
        async with trio.open_nursery() as nursery:
            for number, machine in enumerate(machines, start=1):
                nursery.start_soon(self._guarded, machine, name=f"{self.id}@{machine}")
                if number % AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    async def _end_by_verdict(self) -> None:
        killed = self._targeting.cancelled_caught
        await self._end(Verdict.KILLED if killed else verdict(self.outcomes.values(), self.job.success))

    async def _end(self, ending: Verdict, text: str = "") -> None:
        self._vault.forget()
        await self.means.record.surely(RunEnded(run=self.id, verdict=ending, at=self.means.now(), text=text))
        log.info(
            "WebSocket: All targets completed for %s, exiting monitor loop",
            self.job.name,
            extra=fields("run.ended", run=self.id, verdict=ending.value),
        )
        self.ended.set()

    # --- one machine -----------------------------------------------------------------------------

    async def _guarded(self, machine: str) -> None:
        """A bug about one machine ends its execution, and leaves the others watched."""
        bugs: list[BaseExceptionGroup[Exception]] = []
        with catch({Exception: bugs.append}):
            await self._attempts(machine)
        for bug in bugs:
            log.error("A bug ended %s on %s", self.id, machine, exc_info=bug, extra=fields("execution.crashed"))
            await self._conclude(self.executions[machine], outcomes.failed(f"saltpeter failed: {bug.exceptions[0]!r}"))

    async def _attempts(self, machine: str) -> None:
        """One attempt after the other, until one decides the matter."""
        delay_s = splay(self.job.name, machine, self.job.splay_s)
        first = self.executions[machine]
        has_begun = first.launched or first.outcome is not None
        if machine in self.means.maintenance().machines and not has_begun:
            return await self._conclude(first, outcomes.MAINTENANCE)
        for attempt in count(first.id.attempt):
            outcome = await self._attempt(machine, delay_s)
            if attempt > self.job.retry.limit or machine in self._given_up or not worth_a_retry(outcome):
                return
            delay_s = self.job.retry.delay_s * self.job.retry.backoff ** (attempt - 1)
            again = ExecutionId(self.id, machine, attempt + 1)
            self._begin(again)
            await self.means.record.surely(Retrying(execution=again, at=self.means.now()))

    async def _attempt(self, machine: str, delay_s: float) -> Outcome:
        execution = self.executions[machine]
        if execution.outcome is not None:  # an earlier daemon saw its end
            return execution.outcome
        outcome = outcomes.KILLED
        with execution.kill:
            outcome = await self._launch_and_follow(execution, delay_s)
        if execution.kill.cancelled_caught:
            outcome = await execution.put_down(outcomes.KILLED, "user")
        await self._conclude(execution, outcome)
        return outcome

    async def _launch_and_follow(self, execution: Execution, delay_s: float) -> Outcome:
        if not execution.launched:
            await trio.sleep(delay_s)
        async with self._slots:
            if execution.launched:
                return await execution.follow()
            if not self.job.command:
                return outcomes.failed(_REMOVED)
            if too_many_failures(self.outcomes.values(), self.job.max_failures, len(self.executions)):
                return outcomes.failed(_TOO_MANY)
            self._orders.launch(execution)
            return await execution.follow()

    def _begin(self, execution_id: ExecutionId) -> Execution:
        execution = Execution(
            id=execution_id,
            job=self.job,
            token=self.token,
            record=self.means.record,
            now=self.means.now,
            leases=self.means.leases,
            forward=self._orders.forward,
            vault=self._vault,
        )
        self.executions[execution_id.machine] = execution
        self.means.executions.add(execution)
        return execution

    async def _conclude(self, execution: Execution, outcome: Outcome) -> None:
        self.outcomes[execution.id.machine] = outcome
        await execution.conclude(outcome)
        self.means.executions.retire(execution)
        log.info(
            "WebSocket: Target %s completed, removing from pending (retcode: %d)",
            *(execution.id.machine, outcome.code),
            extra=fields("target.completed", run=self.id, machine=execution.id.machine, code=outcome.code),
        )
