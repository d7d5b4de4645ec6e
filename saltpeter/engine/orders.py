"""What a run sends out: launches, and kills that no connection can carry. What comes at once goes together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby

import attrs
import trio

from saltpeter.domain.events import Launched
from saltpeter.domain.job import Job
from saltpeter.domain.order import wrapper_env
from saltpeter.domain.patience import Patience
from saltpeter.engine.departures import Passage
from saltpeter.engine.execution import Execution
from saltpeter.engine.gather import Pile
from saltpeter.engine.launcher import Call, KillPlain, KillThroughWrapper, Launcher, StartPlain, StartWrapper
from saltpeter.engine.launching import Launch, PlainLaunch, WrapperLaunch, always, hand_out
from saltpeter.engine.means import Means
from saltpeter.engine.signing import signed
from saltpeter.engine.trust import handed_over
from saltpeter.errors import LaunchError
from saltpeter.logs import fields
from sp_wrapper import wire

log = logging.getLogger(__name__)

_KILL_AGAIN_S = 2.0
_SALT_AFTER_US_S = 30.0  # Salt's own limit on a plain command lies behind ours: it holds while we are down


@attrs.define(eq=False)
class Orders:
    """The outgoing side of one run. What is under way is a task of `nursery`, and ends with it."""

    run: str
    job: Job
    token: str
    means: Means
    nursery: trio.Nursery
    _launches: Pile[Execution] = attrs.field(init=False)
    _kills: Pile[tuple[Execution, wire.Kill]] = attrs.field(init=False)
    _passages: dict[str, Passage] = attrs.field(factory=dict, init=False)  # by ticket, of launches that are to come

    def __attrs_post_init__(self) -> None:
        self._launches = Pile(f"{self.run} launches")
        self._kills = Pile(f"{self.run} kills")

    def launch(self, execution: Execution) -> None:
        """Start it on its machine; its phase 1 is followed here."""
        self._launches.put(execution, self.nursery, self._launch_all)

    def forward(self, execution: Execution, order: wire.Kill) -> None:
        """Take a kill to a machine whose wrapper is not connected."""
        self._kills.put((execution, order), self.nursery, self._send_kills)

    def close(self) -> None:
        """Nothing more goes out: whoever is behind us must not wait for us."""
        for ticket in tuple(self._passages):
            self.call_off(ticket)
        self.nursery.cancel_scope.cancel()

    def launched(self, attempt: int, machines: Collection[str]) -> Launched:
        """The fact of a launch that is to come; once that is durable, `begin` may follow, or else `call_off` must."""
        if self.job.use_wrapper:
            passage = self.means.departures.board(self._launcher, self.job.wrapper.path, machines)
            self._passages[passage.ticket] = passage
            ticket = passage.ticket
        else:
            ticket = self._launcher.ticket()
        return Launched(run=self.run, ticket=ticket, attempt=attempt, machines=tuple(machines), at=self.means.now())

    def begin(self, ticket: str, executions: Sequence[Execution]) -> None:
        """Publish a launch, and follow its phase 1; returns at once."""
        self.nursery.start_soon(self._begin, ticket, executions, name=f"{self.run} {ticket}")

    async def _begin(self, ticket: str, executions: Sequence[Execution]) -> None:
        phase = self._first_phase(ticket, executions)
        if ticket not in self._passages:
            return await phase.begin(partial(hand_out, self._launcher, ticket, phase.issue, tuple(phase.executions)))
        try:
            await phase.begin(partial(self._passages[ticket].depart, self._order_of(executions), executions))
        finally:
            self.call_off(ticket)

    def call_off(self, ticket: str) -> None:
        """Nobody waits for that launch, or not any more."""
        if passage := self._passages.pop(ticket, None):
            passage.release()

    def take_up(self, ticket: str, executions: Sequence[Execution]) -> None:
        """Follow the phase 1 of a launch that an earlier daemon made; returns at once."""
        self.nursery.start_soon(self._first_phase(ticket, executions).resume, name=f"{self.run} {ticket}")

    async def _launch_all(self, asked: Collection[Execution]) -> None:
        wanted = [execution for execution in asked if not execution.kill.cancel_called]
        for execution in wanted:
            execution.launched = True  # from here on a kill goes to the machine
        for attempt, together in groupby(sorted(wanted, key=_attempt), _attempt):
            self.nursery.start_soon(self._launch, attempt, list(together), name=f"{self.run} launch")

    async def _launch(self, attempt: int, executions: Sequence[Execution]) -> None:
        launched = self.launched(attempt, [execution.id.machine for execution in executions])
        await self.means.record.surely(launched)
        await self._begin(launched.ticket, executions)

    def _first_phase(self, ticket: str, executions: Sequence[Execution]) -> Launch:
        by_machine = {execution.id.machine: execution for execution in executions}
        patience = Patience(self.means.settings().respond_within_s)
        if self.job.use_wrapper:
            path, only_singly = self.job.wrapper.path, self.means.departures.only_singly
            issue = self._order_of(executions)
            return WrapperLaunch(self._launcher, ticket, by_machine, patience, issue, path, only_singly)
        return PlainLaunch(self._launcher, ticket, by_machine, patience, always(self._plain_order()))

    def _order_of(self, executions: Sequence[Execution]) -> Callable[[Collection[str]], Awaitable[StartWrapper]]:
        return partial(self._wrapper_order, executions[0].id.attempt)

    async def _wrapper_order(self, attempt: int, machines: Collection[str]) -> StartWrapper:
        """An order as of now: each time that it is handed out it is made anew. Raises LaunchError."""
        settings = self.means.settings()
        env = wrapper_env(
            self.job,
            run=self.run,
            attempt=attempt,
            token=self.token,
            url=self.means.machines_url,
            expires_at=self.means.now() + timedelta(seconds=settings.order_valid_for_s),
        )
        if settings.tls_certificate is not None:
            known_by = await trio.to_thread.run_sync(handed_over, settings.tls_certificate, settings.tls_ca)
            env = {**env, **known_by}
        if self.means.machine_keys(self.job) is not None:
            env = {**env, "SP_PROVE_MACHINE": "1"}
        if settings.order_key is not None:
            env = await signed(env, self.run, machines, settings.order_key)
        return StartWrapper(path=self.job.wrapper.path, env=env)

    def _plain_order(self) -> StartPlain:
        return StartPlain(
            command=self.job.command,
            run=self.run,
            job=self.job.name,
            user=self.job.user,
            cwd=self.job.cwd,
            env=self.job.env,
            timeout_s=self.job.timeout_s + self.job.kill_grace_s + _SALT_AFTER_US_S,
        )

    @property
    def _launcher(self) -> Launcher:
        return self.means.launcher(self.job)

    async def _send_kills(self, asked: Collection[tuple[Execution, wire.Kill]]) -> None:
        kills: dict[Call, list[Execution]] = {}
        for execution, order in asked:
            kills.setdefault(self._kill(execution, order), []).append(execution)
        for call, executions in kills.items():
            self.nursery.start_soon(self._send_kill, call, executions, name=f"{self.run} kill")

    def _kill(self, execution: Execution, order: wire.Kill) -> Call:
        if self.job.use_wrapper:
            return KillThroughWrapper(
                path=self.job.wrapper.path,
                run=self.run,
                attempt=execution.id.attempt,
                signal=execution.manner.signal,
                grace_s=execution.manner.grace_s,
            )
        return KillPlain(run=self.run, signal=order.signal, grace_s=order.grace)

    async def _send_kill(self, call: Call, executions: Collection[Execution]) -> None:
        """Without a wrapper it is sent until it has worked: it may come before the command has even started."""
        while machines := [execution.id.machine for execution in executions if not execution.reported]:
            try:
                await hand_out(self._launcher, self._launcher.ticket(), always(call), machines)
            except LaunchError as error:
                text = "The kill of %s did not go out: %s"
                return log.error(text, self.run, error, extra=fields("kill.failed", run=self.run))
            if self.job.use_wrapper:
                return
            await trio.sleep(_KILL_AGAIN_S)


def _attempt(execution: Execution) -> int:
    return execution.id.attempt
