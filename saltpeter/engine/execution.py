"""One machine's part of a run, from its launch to its end."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import attrs
import trio

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.events import (
    Bound,
    CameLate,
    Confirmed,
    Ended,
    ExecutionId,
    LedgerEvent,
    OutputGrew,
    Paused,
    Started,
)
from saltpeter.domain.job import Job
from saltpeter.domain.outcome import LEASE_S, Outcome
from saltpeter.domain.state import ExecutionState
from saltpeter.engine.leases import Leases
from saltpeter.engine.record import Recorder, persistently
from saltpeter.engine.secrets import Vault
from saltpeter.errors import SecretError
from saltpeter.logs import fields
from sp_wrapper import wire

log = logging.getLogger(__name__)

TOGETHER_S = 0.05  # a command that starts so soon after its wrapper is told of with it
REDIAL_S = 30.0  # a wrapper without a daemon waits at most so long before it dials again
_PAUSING = {"STOP": True, "CONT": False}
LOG_CHARS = 1024 * 1024  # of a wrapper's own events, in one life of the daemon
FORCE_S = 2.0  # past the grace: for KILL to work, and the wrapper's word to arrive


class Link(Protocol):
    """A wrapper's live connection, as the engine sees it."""

    def tell(self, message: wire.FromDaemon) -> None:
        """Queue `message`; returns at once, and does nothing when the connection is gone."""


class UnknownExecution(Exception):
    """No run, machine and attempt of that name is known (JOB_NOT_FOUND)."""


class BadToken(Exception):
    """The token is not that run's, or the secret not that of its wrapper on that machine (BAD_TOKEN)."""


class NotProven(BadToken):
    """Nothing shows that the wrapper is on that machine; the text may be told."""


class Watch(Protocol):
    """What the machines endpoint does with one execution. Found through `Roster.find`.

    `connected` and `beat` never await. The others return once the fact is durable, so that the endpoint
    may ack; and with it whose secret counts.
    """

    @property
    def id(self) -> ExecutionId: ...

    @property
    def job_name(self) -> str: ...

    def connected(self, link: Link, hello: wire.Connect) -> None:
        """A (new) connection speaks for this execution; the one before, if any, is forgotten. Renews the lease,
        counts as confirmation, and tells the link at once what is pending for it (a kill)."""

    def disconnected(self, link: Link) -> None: ...

    def beat(self, heartbeat: wire.Heartbeat) -> None: ...

    async def secrets(self) -> wire.Secrets:
        """What a wrapper is told that waits for its command's secrets; may take as long as reading them does."""

    async def started(self, start: wire.Start) -> None: ...

    async def length(self) -> int:
        """The durable length of the output."""

    async def output(self, *stretch: wire.Output) -> int:
        """Make it durable, each adjoining the one before; returns the durable length. The first `offset` must not lie
        past that, unless `cut` covers the gap; the endpoint checks that and nacks."""

    async def log(self, log: wire.Log) -> None: ...

    async def completed(self, complete: wire.Complete) -> None: ...


class Roster(Protocol):
    """All executions that a wrapper may speak for: watched, awaited, or ended."""

    async def find(
        self, instance: str, machine: str, attempt: int, token: str, secret: str = "", *, proof: str = ""
    ) -> Watch:
        """Raises UnknownExecution or BadToken. An empty token is only right where legacy wrappers are allowed, an
        empty secret only where none has been shown before."""


@attrs.frozen
class Manner:
    """How a person wants it ended, where not as its job says."""

    signal: str | None = None  # the first one, without SIG
    grace_s: float | None = None  # from there to KILL


AS_THE_JOB_SAYS = Manner()


@attrs.define(eq=False)
class Execution:
    """An execution as its watching task and its wrapper's connection both hold it.

    The task waits in `follow`, inside `kill`; the connection calls the methods of `Watch`. The three scopes
    stand in order of precedence: of those that fired, trio lets only the outermost report `cancelled_caught`.
    """

    id: ExecutionId
    job: Job
    token: str
    record: Recorder
    now: Callable[[], datetime]
    leases: Leases
    forward: Callable[[Execution, wire.Kill], None]  # takes an order that no connection can carry
    vault: Vault = attrs.field(factory=Vault)
    kill: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)  # phase 1 is over, one way or the other
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)  # its outcome is durable
    outcome: Outcome | None = attrs.field(default=None, init=False)
    manner: Manner = attrs.field(default=AS_THE_JOB_SAYS, init=False)  # in which it is to be ended
    launched: bool = attrs.field(default=False, init=False)
    link: Link | None = attrs.field(default=None, init=False)
    _timeout: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _lease: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _confirmed: bool = attrs.field(default=False, init=False)
    _left_s: float | None = attrs.field(default=None, init=False)  # until the timeout, while paused
    _report: Outcome | None = attrs.field(default=None, init=False)
    _reported: trio.Event = attrs.field(factory=trio.Event, init=False)
    _length: int | None = attrs.field(default=0, init=False)  # of its durable output; None: only the store knows
    _order: wire.Kill | None = attrs.field(default=None, init=False)
    _bound: str = attrs.field(default="", init=False)  # the digest of its wrapper's secret
    _untold: list[LedgerEvent] = attrs.field(factory=list, init=False)  # what the ledger is still to be told
    _telling: trio.Event | None = attrs.field(default=None, init=False)  # while it is
    _goes_on: trio.Event = attrs.field(factory=trio.Event, init=False)  # its command has started, or all has ended
    _heard: bool = attrs.field(default=False, init=False)  # the machine's own last word is durable
    _log_left: int = attrs.field(default=LOG_CHARS, init=False)
    _begun: bool = attrs.field(default=False, init=False)  # its command has been seen to start
    _patience: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)  # of who has it put down

    @property
    def job_name(self) -> str:
        return self.job.name

    @property
    def confirmed(self) -> bool:
        """It has been seen to start."""
        return self._confirmed

    @property
    def reported(self) -> bool:
        """The machine, or Salt for it, has said how it ended."""
        return self._report is not None

    # --- what the launch learns ------------------------------------------------------------------

    def confirm(self) -> None:
        """It has started on the machine: phase 2, and with it the timeout and the lease, begins."""
        if not self.settled.is_set():
            self._confirmed = True
            self._untold.append(Confirmed(execution=self.id, at=self.now()))
            self._enter_phase_2(self.job.timeout_s)
            self.renew()

    def resume(self, state: ExecutionState) -> None:
        """Take up what an earlier daemon knew of it. The lease allows for a wrapper that waits to dial again."""
        self.launched = state.launched_at is not None
        self._begun = state.started_at is not None
        self._length = None
        self.outcome = state.outcome
        self._bound = state.bound
        self._heard = state.late is not None or (state.outcome is not None and state.outcome.by_machine)
        if state.outcome is not None:
            self._report = state.late or (state.outcome if state.outcome.by_machine else None)
            self.settled.set()
            self.ended.set()
        elif state.confirmed_at is not None:
            spent_s = (self.now() - state.confirmed_at).total_seconds()
            self._enter_phase_2(self.job.timeout_s - spent_s)
            if self.job.use_wrapper:
                self._lease.deadline = trio.current_time() + REDIAL_S + LEASE_S

    def _enter_phase_2(self, timeout_s: float) -> None:
        self._timeout.deadline = trio.current_time() + timeout_s
        self.settled.set()

    def finish(self, report: Outcome) -> None:
        """This is how it ended; the first word counts."""
        if self._report is None:
            self._report = report
            self._reported.set()
            self.settled.set()
            self._goes_on.set()

    def renew(self) -> None:
        """It has given a sign of life."""
        if self.job.use_wrapper and not self.ended.is_set():
            if self._lease.deadline != math.inf:  # that of an earlier daemon's
                self._lease.deadline = math.inf
            self.leases.renew(self._lease)

    def end(self, manner: Manner = AS_THE_JOB_SAYS) -> None:
        """End it: its task has it put down. Asked again, the machine is told again; there the earlier KILL holds."""
        self.manner = manner
        if self.kill.cancel_called and self._order is not None:
            self._send(attrs.evolve(self._order, signal=self._signal, grace=self._grace_s))
            self._patience.deadline = min(self._patience.deadline, self._force_at)
        self.kill.cancel()

    # --- what its task does ----------------------------------------------------------------------

    async def follow(self) -> Outcome:
        """Wait for the end, through both phases. Outside cancellation (a kill) passes through."""
        await self.settled.wait()
        if self._untold:
            with trio.move_on_after(TOGETHER_S):
                await self._goes_on.wait()
        await self.tell_the_ledger()
        try:
            with self._timeout, self._lease:
                return await self._reported_outcome()
        finally:
            self.leases.release(self._lease)
        if self._timeout.cancelled_caught:
            return await self.put_down(outcomes.timed_out(self.job.timeout_s), reason="timeout")
        return outcomes.LOST

    async def put_down(self, otherwise: Outcome, reason: str) -> Outcome:
        """Have the machine end it. Its own word is the outcome; `otherwise` stands if none comes in time."""
        if not self.launched:
            return otherwise
        self._send(wire.Kill(signal=self._signal, grace=self._grace_s, reason=reason))
        self._patience = trio.CancelScope(deadline=self._force_at)
        with self._patience:
            report = await self._reported_outcome()
            return report if self.job.use_wrapper else otherwise  # Salt's answer knows a signal, not its reason
        return otherwise

    @property
    def _signal(self) -> str:
        return self.manner.signal or self.job.kill_signal

    @property
    def _grace_s(self) -> float:
        return self.job.kill_grace_s if self.manner.grace_s is None else self.manner.grace_s

    @property
    def _force_at(self) -> float:
        """When its end counts, whatever the machine says (trio's clock)."""
        return trio.current_time() + self._grace_s + FORCE_S

    def _send(self, order: wire.Kill) -> None:
        self._order = order
        if self.link is not None:
            self._tell(self.link, order)
        else:
            self.forward(self, order)

    async def conclude(self, outcome: Outcome) -> None:
        """Make `outcome` the end. What the machine says from now on is late."""
        self.outcome = outcome
        at = self.now()
        if outcome.text:
            await self.note(outcome.text)
        await self.tell_the_ledger()
        await self.record.surely(Ended(execution=self.id, outcome=outcome, at=at))
        log.info(
            "WebSocket: Updated state for %s[%s] with endtime=%s, retcode=%d",
            *(self.job.name, self.id.machine, at.isoformat(), outcome.code),
            extra=fields(
                "execution.ended", run=self.id.run, machine=self.id.machine, code=outcome.code, end=outcome.end.value
            ),
        )
        self.settled.set()
        self.ended.set()

    async def note(self, text: str) -> None:
        """Add a line of our own to the output."""
        store, limit = self.record.store, self.job.output_limit
        await persistently(lambda: store.note(self.id, text, limit=limit))

    def signal(self, signal: str) -> bool:
        """Have the machine send `signal` to the command's tree; False when nobody there can be told."""
        if self.link is None:
            return False
        self.link.tell(wire.Signal(signal=signal))
        if signal in _PAUSING:
            self._hold_the_timeout(_PAUSING[signal])
        return True

    def _hold_the_timeout(self, paused: bool) -> None:
        """Time that the command spends paused is not held against it."""
        if paused == (self._left_s is not None):
            return
        if self._left_s is None:
            self._left_s, self._timeout.deadline = self._timeout.deadline - trio.current_time(), math.inf
        else:
            self._timeout.deadline, self._left_s = trio.current_time() + self._left_s, None
        self.record.board.post(Paused(execution=self.id, paused=paused))

    async def _reported_outcome(self) -> Outcome:
        await self._reported.wait()
        assert self._report is not None  # noqa: S101  set together with the event
        return self._report

    def _tell(self, link: Link, order: wire.Kill) -> None:
        link.tell(order)
        if order.reason == "user":
            log.info("WebSocket: Sent kill signal to %s", self.id, extra=fields("kill.sent", run=self.id.run))

    # --- what its wrapper says -------------------------------------------------------------------

    @property
    def is_bound(self) -> bool:
        """Somebody has shown a secret, and speaks for it."""
        return bool(self._bound)

    def recognises(self, secret: str) -> bool:
        """Whether who shows `secret` may speak for it: the first secret that is shown is its own from then on.

        A wrapper that knows of none is heard as long as none has been shown.
        """
        shown = hashlib.sha256(secret.encode()).hexdigest() if secret else ""
        if shown and not self._bound:
            self._bound = shown
            self._untold.append(Bound(execution=self.id, digest=shown, at=self.now()))
        return hmac.compare_digest(self._bound, shown)

    async def tell_the_ledger(self) -> None:
        """Make durable that it is there, whose secret counts and that its command has started, where that is news."""
        while self._untold:  # again, for more may come to be known meanwhile
            if self._telling is not None:
                await self._telling.wait()
                continue
            self._telling = trio.Event()
            news = tuple(self._untold)
            try:
                await self.record.surely(*news)
                del self._untold[: len(news)]
            finally:
                self._telling.set()
                self._telling = None

    def connected(self, link: Link, hello: wire.Connect) -> None:
        self.link = link
        if self._heard:
            self._log_left = 0  # the word that it repeats is known; there is nothing to add
        self.confirm()
        self.renew()
        if self._order is not None:
            self._tell(link, self._order)

    def disconnected(self, link: Link) -> None:
        if self.link is link:
            self.link = None

    def beat(self, heartbeat: wire.Heartbeat) -> None:
        self.renew()
        self._hold_the_timeout(heartbeat.paused)
        self.record.board.beat(self.id, self.now(), heartbeat.rss, heartbeat.cpu)

    async def secrets(self) -> wire.Secrets:
        if (reason := self._why_no_secrets()) is not None:
            return wire.Secrets(error=reason)
        await self.tell_the_ledger()  # a daemon that dies now must know again who was given them
        try:
            values = await self.vault.open(self.id.attempt)
        except SecretError as error:
            if self._why_no_secrets() is None:
                log.error("%s cannot start: %s", self.id, error, extra=fields("secrets.failed", run=self.id.run))
                self.finish(outcomes.failed(str(error)))
            return wire.Secrets(error="the daemon could not read its secrets")
        reason = self._why_no_secrets()  # that may have changed meanwhile
        return wire.Secrets(env=values) if reason is None else wire.Secrets(error=reason)

    def _why_no_secrets(self) -> str | None:
        """Once only, and only to what is still to run: the token alone opens nothing later."""
        if self._begun:
            return "it was started before"
        if self._report is not None or self.outcome is not None or self.kill.cancel_called or self._order is not None:
            return "it has ended, or is being ended"
        return None

    async def started(self, start: wire.Start) -> None:
        if self._heard:
            return
        self.renew()
        self._begun = True
        at = start.started or self.now()
        self._untold.append(Started(execution=self.id, pid=start.pid, version=start.version, at=at))
        self._goes_on.set()
        await self.tell_the_ledger()

    async def length(self) -> int:
        if self._length is None:
            self._length = await self.record.store.length(self.id)
        return self._length

    async def output(self, *stretch: wire.Output) -> int:
        if self._heard:
            return await self.length()
        self.renew()
        await self.tell_the_ledger()
        first, data = stretch[0], [output.data for output in stretch]
        offset = first.offset if first.offset is not None else await self.length()
        store, limit = self.record.store, self.job.output_limit
        length = await persistently(lambda: store.append(self.id, offset, *data, cut=first.cut, limit=limit))
        fresh, self._length = length - max(offset, self._length or 0), length
        self.record.board.post(OutputGrew(execution=self.id, length=length, at=self.now()))
        if fresh > 0:
            self.record.observer.output(fresh)
        return length

    async def log(self, log: wire.Log) -> None:
        await self.tell_the_ledger()
        text = log.text[: self._log_left]
        self._log_left -= len(text)
        if text:
            store, at, limit = self.record.store, self.now(), self.job.output_limit
            await persistently(lambda: store.log(self.id, at, log.level, text, limit=limit))

    async def completed(self, complete: wire.Complete) -> None:
        """The first word that is heard counts; after it the execution's token opens nothing any more."""
        if self._heard:
            return
        await self.tell_the_ledger()
        report = outcomes.reported(complete)
        if self.outcome is None:
            self.finish(report)
            await self.ended.wait()
        if self.outcome is not None and outcomes.adds(report, self.outcome):
            await self.record.surely(CameLate(execution=self.id, outcome=report, at=self.now()))
        self._heard = True
