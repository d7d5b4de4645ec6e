"""One connection's worth of reporting: greet, beat, deliver, obey."""

from __future__ import annotations

import os
from math import inf

import attrs
import trio
from typing_extensions import assert_never

from sp_wrapper import __version__, channel, order, tree, wire
from sp_wrapper.account import Account
from sp_wrapper.ending import instant
from sp_wrapper.link import Link, RefusedByDaemon, Timing


@attrs.define
class Conversation:
    """`heard`: the daemon has acknowledged the end, there is nothing left to do. `fruitful`: it acknowledged some
    output, so that this connection was worth making."""

    account: Account
    timing: Timing
    heard: bool = attrs.field(default=False, init=False)
    fruitful: bool = attrs.field(default=False, init=False)
    _link: Link = attrs.field(init=False)
    _greeted: trio.Event = attrs.field(factory=trio.Event, init=False)
    _owed: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)  # until when an ack is due
    _start_sent: bool = attrs.field(default=False, init=False)
    _complete_sent: bool = attrs.field(default=False, init=False)
    _send_at: float = attrs.field(default=-inf, init=False)  # not before; by trio's clock
    _fruitless_at: int = attrs.field(default=-1, init=False)  # the length at which nothing could be sent

    async def run(self, link: Link) -> None:
        """Talk until the end is heard, or until the daemon owes an ack for too long. Raises link.ERRORS."""
        self._link = link
        with self._owed:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                await self._greet()
                nursery.start_soon(self._beat)
                nursery.start_soon(self._probe)
                await self._deliver()
                nursery.cancel_scope.cancel()
        if self._owed.cancelled_caught:
            raise trio.TooSlowError(f"no ack for {self.timing.ack_s:g} seconds")

    # --- what comes ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            await self._handle(await self._link.receive())

    async def _handle(self, message: wire.FromDaemon) -> None:
        match message:
            case wire.Ack():
                await self._handle_ack(message)
            case wire.Nack():
                self.account.outbox.nack(message.expected_seq)
                self.account.ring()
            case wire.Kill():
                await self._handle_kill(message)
            case wire.Signal():
                signum = order.signal_number(message.signal)
                if signum is not None:
                    await self.account.request(channel.Signal(signum))
            case wire.Secrets():
                await self._handle_secrets(message)
            case wire.Refusal():
                raise RefusedByDaemon(f"{message.code}: {message.message}")
            case wire.SyncResponse():
                pass  # an answer to a question that wrappers with offsets need not ask
            case _:
                assert_never(message)

    async def _handle_ack(self, ack: wire.Ack) -> None:
        match ack.ack_type:
            case "connect":
                known = self.account.outbox.acked if ack.offset is None else ack.offset
                self.account.outbox.connected(known, self.account.length)
                self._greeted.set()
            case "output" if ack.seq is not None:
                await self.account.acked(ack.seq)
                self.fruitful = True
                self._owed.deadline = inf
                self._expect_ack()
            case "complete" if self._complete_sent:
                self.heard = True
                self.account.ring()

    async def _handle_kill(self, kill: wire.Kill) -> None:
        self.account.debug("[WRAPPER] Received kill signal")
        signum = order.signal_number(kill.signal) or self.account.job.order.kill_signal
        await self.account.request(channel.Kill(signum, max(0.0, kill.grace)))

    async def _handle_secrets(self, secrets: wire.Secrets) -> None:
        await self.account.request(channel.Secrets(secrets.env, secrets.error))

    # --- what goes -----------------------------------------------------------------------------------

    async def _greet(self) -> None:
        wanted = self.account.job.order
        greeting = wire.Connect(
            version=__version__,
            token=wanted.token,
            secret=wanted.secret,
            proof=self.account.proof,
            sent=self.account.length,
            attempt=wanted.attempt,
            wants_secrets=self.account.job.waiting,
        )
        with trio.fail_after(self.timing.connect_s):
            await self._link.send(greeting)
            await self._greeted.wait()
        await self._send_start()

    async def _send_start(self) -> None:
        """Tell of the command's start, once, as soon as it has been started."""
        job = self.account.job
        if job.pid and not self._start_sent:
            self._start_sent = True
            await self._link.send(wire.Start(pid=job.pid, version=__version__, started=instant(job.started)))

    async def _beat(self) -> None:
        """Sign of life: also while killing, while output flows, while acks are slow."""
        next_at = trio.current_time()
        while True:
            await self._link.send(self._heartbeat())
            next_at = max(next_at + wire.HEARTBEAT_S, trio.current_time())
            await trio.sleep_until(next_at)

    async def _probe(self) -> None:
        while True:
            await self._link.probe()
            await trio.sleep(wire.HEARTBEAT_S)

    def _heartbeat(self) -> wire.Heartbeat:
        job = self.account.job
        procs = tree.below(job.supervisor, tree.everything(), os.getsid(0)) if job.supervisor else []
        return wire.Heartbeat(
            rss=sum(proc.rss for proc in procs), cpu=sum(proc.cpu_s for proc in procs), paused=self.account.paused
        )

    async def _deliver(self) -> None:
        while not self.heard:
            await self._send_start()
            await self._send_logs()
            if await self._send_output():
                continue
            if self.account.all_acked and not self._complete_sent:
                await self._send_complete()
            with trio.move_on_at(self._look_again_at()):
                await self.account.changed()

    async def _send_logs(self) -> None:
        while self.account.logs:
            await self._link.send(wire.Log(text=self.account.logs[0], level="debug"))
            self.account.logs.popleft()

    async def _send_output(self) -> bool:
        """Send one message of output if one is due. Answers whether it did."""
        if trio.current_time() < self._look_again_at():
            return False
        output = self.account.next_output()
        if output is None:
            self._fruitless_at = self.account.length
            return False
        self._send_at = trio.current_time() + self.account.job.order.interval_s
        self._expect_ack()
        await self._link.send(output)
        return True

    def _look_again_at(self) -> float:
        """When output should next be looked for; inf: when something has changed."""
        account = self.account
        if account.backlog <= 0 or not account.outbox.has_room:
            return inf
        if account.ending is not None or account.backlog >= wire.MAX_CHUNK:
            return -inf
        return inf if account.length == self._fruitless_at else self._send_at

    async def _send_complete(self) -> None:
        ending, account = self.account.ending, self.account
        assert ending is not None  # noqa: S101 - for the type checker
        if ending.receipt is not None:
            await self._link.send(wire.Killed(receipt=ending.receipt))
        account.debug(f"[WRAPPER] About to send completion message, retcode={ending.retcode}")
        await self._send_logs()
        self._complete_sent = True
        self._expect_ack()
        await self._link.send(attrs.evolve(ending, seq=account.outbox.next_seq))
        account.debug("[WRAPPER] Completion message sent successfully")
        await self._send_logs()

    def _expect_ack(self) -> None:
        """The daemon owes an ack from now on, unless it did before."""
        if self.account.outbox.is_waiting or self._complete_sent:
            self._owed.deadline = min(self._owed.deadline, trio.current_time() + self.timing.ack_s)
