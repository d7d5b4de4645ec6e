"""One wrapper's connection, once it has been let in: what it says is made durable, in order, and then acked.

A task reads, and while there is something to be made durable, one does that. The reader does not wait for it, so many
messages are on their way at once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime

import attrs
import trio
from typing_extensions import assert_never

from saltpeter.endpoints import intake
from saltpeter.endpoints.channel import Channel
from saltpeter.endpoints.intake import Accepted, Intake, Merged, Pace, Repeat, merged
from saltpeter.engine.execution import Watch
from saltpeter.logs import fields
from sp_wrapper import frames, wire

SILENCE_S = 60.0  # four leases: whoever lives has said something, or connects anew
SILENCE_SLACK_S = 15.0  # so much longer at most: to move a deadline with each heartbeat costs
# For what an older connection of the same execution had accepted. While a disk is full that takes for ever, and a
# wrapper whose connect is not acked within 10 seconds hangs up; unheard for a lease (15), it would count as lost.
DRAIN_S = 5.0
BACKLOG_MESSAGES = 64
BACKLOG_BYTES = 4 * 1024 * 1024
MESSAGES_PER_S, BURST = 1000.0, 5000.0  # a wrapper of ours sends some; long messages count for several

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Backlog:
    """Messages on their way to the store, bounded by number and bytes. One task puts, one takes."""

    _waiting: deque[Accepted] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _room: trio.Event | None = attrs.field(default=None, init=False)  # while somebody waits for it

    async def put(self, message: Accepted) -> None:
        """Add `message`, when there is room for it."""
        while len(self._waiting) >= BACKLOG_MESSAGES or self._bytes >= BACKLOG_BYTES:
            self._room = trio.Event()
            await self._room.wait()
        self._waiting.append(message)
        self._bytes += _size(message)

    def take(self) -> list[Accepted]:
        """Everything that waits."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        if self._room is not None:
            self._room.set()
            self._room = None
        return taken


def _size(message: Accepted) -> int:
    match message:
        case wire.Output():
            return len(message.data)
        case wire.Log():
            return len(message.text)
        case wire.Complete() | wire.Failure():
            return len(message.error)
        case _:
            return 0


@attrs.define(eq=False)
class Session:
    """One wrapper's connection, once it has shown its token. Also the engine's Link to that wrapper."""

    _channel: Channel
    _about: wire.About
    _watch: Watch
    _now: Callable[[], datetime]
    _intake: Intake
    _durable_seq: int | None  # the newest number whose output is durable, over all connections
    _wants_secrets: bool = False
    _name: str = attrs.field(init=False)
    _backlog: Backlog = attrs.field(factory=Backlog, init=False)
    _nursery: trio.Nursery = attrs.field(init=False)
    _persisting: bool = attrs.field(default=False, init=False)  # a task does
    _pace: Pace = attrs.field(factory=lambda: Pace(MESSAGES_PER_S, BURST), init=False)
    _finished: trio.Event = attrs.field(factory=trio.Event, init=False)
    _fetching: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _owed: list[wire.Ack] = attrs.field(factory=list, init=False)  # of what is durable

    def __attrs_post_init__(self) -> None:
        self._name = f"{self._about.job_instance}:{self._about.machine}"

    @property
    def durable_seq(self) -> int | None:
        return self._durable_seq

    def tell(self, message: wire.FromDaemon) -> None:
        self._channel.tell(intake.written(self._about, message, self._now()))

    async def run(self, first: frames.Frame | None) -> None:
        """Serve until the wrapper goes; what was accepted from it is made durable all the same.

        Raises RemoteProtocolError.
        """
        broken = None
        try:
            async with trio.open_nursery() as self._nursery:
                if self._wants_secrets:
                    self._nursery.start_soon(self._fetch_secrets)
                try:
                    await self._read(first)
                except wire.RemoteProtocolError as exc:
                    broken = exc  # raised below: in here it would cancel what is being made durable
                self._fetching.cancel()
        finally:
            self._finished.set()
        if broken is not None:
            raise broken

    async def give_way(self) -> None:
        """End, because the wrapper has connected anew; return when all that was accepted is durable."""
        self._channel.drop()
        with trio.move_on_after(DRAIN_S):
            await self._finished.wait()

    async def _read(self, first: frames.Frame | None) -> None:
        with trio.move_on_after(SILENCE_S) as silence:
            if first is not None:
                await self._receive(first)
            async for text in self._channel:
                if wait_s := self._pace.spend(1 + len(text) // wire.MAX_CHUNK, trio.current_time()):
                    await trio.sleep(wait_s)  # who talks too fast is read at our pace
                await self._receive(intake.read(text))
                if silence.deadline < trio.current_time() + SILENCE_S:
                    silence.deadline = trio.current_time() + SILENCE_S + SILENCE_SLACK_S

    async def _fetch_secrets(self) -> None:
        with self._fetching:
            self.tell(await self._watch.secrets())

    async def _receive(self, frame: frames.Frame) -> None:
        if frame.about != self._about:
            raise wire.RemoteProtocolError("a message about another execution")
        match frame.message:
            case wire.Heartbeat() as heartbeat:  # the most frequent by far: nothing here awaits
                self._watch.beat(heartbeat)
                if log.isEnabledFor(logging.DEBUG):
                    self._note("Heartbeat from %s at %s", frame.at.isoformat(), event="heartbeat", level=logging.DEBUG)
            case wire.Output() as output:
                await self._receive_output(output)
            case wire.Connect():
                raise wire.RemoteProtocolError("a second connect")
            case wire.Start(pid=pid) as start:  # said at once, for heartbeats follow that wait for nothing
                self._note("Job started - %s (PID: %d)", pid, event="started", pid=pid)
                await self._accept(start)
            case message:
                await self._accept(message)

    async def _receive_output(self, output: wire.Output) -> None:
        verdict = self._intake.judge(output)
        if isinstance(verdict, wire.Nack):
            self.tell(verdict)
        else:
            await self._accept(verdict)

    async def _accept(self, message: Accepted) -> None:
        """Have it made durable."""
        await self._backlog.put(message)
        if not self._persisting:
            self._persisting = True
            self._nursery.start_soon(self._persist)

    async def _persist(self) -> None:
        while messages := self._backlog.take():
            for message in merged(messages):
                await self._act(message)
            self._settle()
        self._persisting = False

    async def _act(self, message: Merged) -> None:
        match message:
            case tuple():
                await self._watch.output(*message)
                self._durable_seq = message[-1].seq
                self._ack("output", self._durable_seq)
            case Repeat():
                self._ack("output", message.seq)
            case wire.Start():
                await self._watch.started(message)
                self._owed.append(wire.Ack(ack_type="start"))  # goes out with the next: each send costs
            case wire.Complete():
                await self._complete(message)
            case wire.SyncRequest():
                self._answer_sync()
            case wire.Log():
                await self._watch.log(message)
            case wire.Killed():
                left = len(message.receipt.survived)
                self._note("Killed the processes of %s, %d left", left, event="killed", left=left)
            case wire.Failure():
                self._note("Error from %s: %s", message.error, event="complained", level=logging.WARNING)
                await self._watch.log(wire.Log(text=message.error, level="error"))
            case _:
                assert_never(message)

    async def _complete(self, complete: wire.Complete) -> None:
        code = complete.retcode
        self._note("Received complete message from %s, retcode=%d", code, event="reported", code=code)
        if complete.length is not None and complete.length != self._intake.length:
            lengths = f"{self._intake.length} of {complete.length}"
            self._note("Output of %s is incomplete: %s bytes", lengths, event="cut", level=logging.WARNING)
        await self._watch.completed(complete)
        self._ack("complete", complete.seq)
        self._note("Job completed - %s (exit code: %d)", code, event="completed", code=code)

    def _answer_sync(self) -> None:
        # a 0.9.x wrapper reads -1 as "nobody wants your output", and throws it away
        if self._durable_seq is not None:
            self.tell(wire.SyncResponse(last_seq=self._durable_seq))

    def _ack(self, ack_type: str, seq: int | None) -> None:
        self._owed.append(wire.Ack(ack_type=ack_type, seq=seq))
        self._settle()

    def _settle(self) -> None:
        """Send the acks that are owed, together."""
        if self._owed:
            self._channel.tell(*(intake.written(self._about, ack, self._now()) for ack in self._owed))
            self._owed.clear()

    def _note(self, text: str, *args: object, event: str, level: int = logging.INFO, **facts: object) -> None:
        about = {"run": self._about.job_instance, "machine": self._about.machine}
        log.log(level, f"WebSocket: {text}", self._name, *args, extra=fields(f"wrapper.{event}", **about, **facts))
