"""The daemon's end of the wrapper's connection, small: holds output durably, acknowledges, can be told to misbehave."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar

import attrs
import trio
import trio_websocket

from sp_wrapper import wire
from sp_wrapper.frames import Frame, decode_from_wrapper, encode

Message = TypeVar("Message")

WAIT_S = 15.0  # for anything that a test waits for


@attrs.define
class Daemon:
    """`frames` are all messages of all wrappers in order of arrival, `output` what is durable, by run."""

    _home: trio.Nursery
    port: int = 0
    frames: list[Frame] = attrs.field(factory=list)
    output: dict[str, bytearray] = attrs.field(factory=dict)
    cuts: dict[str, int] = attrs.field(factory=dict)
    at: list[float] = attrs.field(factory=list)  # trio's time of each frame
    connections: int = 0
    tls: ssl.SSLContext | None = None
    refuse: str = ""  # answer each connect with this error code
    killing: bool = False  # as the daemon does: a kill is forwarded again to every wrapper that comes back
    deaf: bool = False  # acknowledge no output
    secrets: wire.Secrets | None = None  # what wrappers are told that want them; None: they wait
    hang_up_after: int | None = None  # cut each connection after so many messages of output
    _links: dict[str, trio_websocket.WebSocketConnection] = attrs.field(factory=dict)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _serving: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._serving = trio.CancelScope()
        with self._serving:
            async with trio.open_nursery() as nursery:
                handler = partial(trio_websocket.serve_websocket, self._handle, "127.0.0.1", self.port, self.tls)
                server = await nursery.start(partial(handler, message_queue_size=64))
                self.port = server.port
                task_status.started()
                await trio.sleep_forever()

    def vanish(self) -> None:
        """Go away without a word, as a crash does."""
        self._serving.cancel()

    async def come_back(self) -> None:
        """On the same port, with all that was durable."""
        await self._home.start(self.serve)

    def of(self, run: str, kind: type[Message]) -> list[Message]:
        return [f.message for f in self.frames if f.about.job_instance == run and isinstance(f.message, kind)]

    async def wait(self, holds: Callable[[], object]) -> None:
        with trio.fail_after(WAIT_S):
            while not holds():
                await self._changed.wait()
                self._changed = trio.Event()

    async def end_of(self, run: str) -> wire.Complete:
        await self.wait(lambda: self.of(run, wire.Complete))
        return self.of(run, wire.Complete)[-1]

    async def said(self, run: str, text: bytes) -> None:
        await self.wait(lambda: text in self.output.get(run, b""))

    async def send(self, run: str, message: wire.FromDaemon) -> None:
        about = next(f.about for f in self.frames if f.about.job_instance == run)
        await self._links[run].send_message(encode(about, message, datetime.now(timezone.utc)))

    async def _handle(self, request: trio_websocket.WebSocketRequest) -> None:
        link = await request.accept()
        self.connections += 1
        outputs = 0
        try:
            while True:
                frame = decode_from_wrapper(await link.get_message())
                run = frame.about.job_instance
                self._links[run] = link
                self.frames.append(frame)
                self.at.append(trio.current_time())
                for answer in self._answers(run, frame.message):
                    await self.send(run, answer)
                self._changed.set()
                outputs += isinstance(frame.message, wire.Output)
                if outputs == self.hang_up_after:
                    return
        except trio_websocket.ConnectionClosed:
            pass

    def _answers(self, run: str, message: object) -> list[wire.FromDaemon]:
        held = self.output.setdefault(run, bytearray())
        match message:
            case wire.Connect() if self.refuse:
                return [wire.Refusal(code=self.refuse, message="not here")]
            case wire.Connect():
                ack = wire.Ack(ack_type="connect", offset=len(held) + self.cuts.get(run, 0))
                return [ack, self.secrets] if message.wants_secrets and self.secrets is not None else [ack]
            case wire.Start():
                return [wire.Ack(ack_type="start"), *([wire.Kill(grace=1)] if self.killing else [])]
            case wire.Output():
                self._keep(run, message)
                return [] if self.deaf else [wire.Ack(ack_type="output", seq=message.seq)]
            case wire.Complete():
                return [wire.Ack(ack_type="complete")]
        return []

    def _keep(self, run: str, message: wire.Output) -> None:
        """Append what is new; a gap that was not announced as a cut is a failure of the test."""
        held = self.output[run]
        durable = len(held) + self.cuts.get(run, 0)
        assert message.offset is not None
        if message.offset > durable:
            assert message.offset - durable <= message.cut, "output is missing"
            self.cuts[run] = self.cuts.get(run, 0) + message.offset - durable
            durable = message.offset
        held += message.data[durable - message.offset :]


@asynccontextmanager
async def running_daemon(tls: ssl.SSLContext | None = None) -> AsyncIterator[Daemon]:
    async with trio.open_nursery() as nursery:
        daemon = Daemon(nursery, tls=tls)
        await nursery.start(daemon.serve)
        yield daemon
        nursery.cancel_scope.cancel()
