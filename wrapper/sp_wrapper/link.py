"""One connection to the daemon: every step of it has a time limit, and it never outlives its block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from urllib.parse import SplitResult, urlsplit

import attrs
import trio

from sp_wrapper import frames, trust, wire
from sp_wrapper.order import Order
from sp_wrapper.websocket import trio_websocket

RECEIVE_BUFFER = 64 * 1024
MESSAGE_QUEUE = 64  # pings are answered only while the queue has room

ERRORS = (
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
    wire.RemoteProtocolError,
)


class RefusedByDaemon(wire.RemoteProtocolError):
    """The daemon wants nothing of this run, at least not now: it may be restarting."""


@attrs.frozen(kw_only=True)
class Timing:
    """Seconds."""

    connect_s: float = 10.0
    send_s: float = 10.0
    ack_s: float = 30.0
    pong_s: float = 10.0
    close_s: float = 2.0
    first_delay_s: float = 0.25
    quick_doublings: int = 3  # up to 2 s; it stays there for the first tries, so that
    quick_tries: int = 14  # a cut of some seconds ends before the daemon counts the machine as lost
    max_delay_s: float = 30.0
    sound_s: float = 5.0  # a connection that held this long was not refused

    def delay_s(self, failures: int, chance: float) -> float:
        """How long to wait after so many failures in a row; `chance` (0 to 1) spreads a fleet that lost its daemon."""
        doublings = min(failures, self.quick_doublings) + max(0, min(failures, 60) - self.quick_tries)
        longest = min(self.max_delay_s, self.first_delay_s * 2.0**doublings)
        return longest * (0.5 + chance / 2)


@attrs.frozen
class Link:
    _socket: trio_websocket.WebSocketConnection
    _about: wire.About
    _timing: Timing
    _now: Callable[[], datetime]

    async def send(self, message: wire.FromWrapper) -> None:
        """Raises TooSlowError; the connection is of no use after that, half a frame may be in it."""
        with trio.fail_after(self._timing.send_s):
            await self._socket.send_message(frames.encode(self._about, message, self._now()))

    async def receive(self) -> wire.FromDaemon:
        """The next message about our run. Raises RemoteProtocolError."""
        while True:
            frame = frames.decode_from_daemon(await self._socket.get_message())
            if frame.about == self._about:
                message: wire.FromDaemon = frame.message
                return message

    async def probe(self) -> None:
        """Returns when the other end has answered a ping: a cut cable closes no connection."""
        with trio.fail_after(self._timing.pong_s):
            await self._socket.ping()


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


@asynccontextmanager
async def _connected(
    order: Order, parts: SplitResult, timing: Timing
) -> AsyncIterator[trio.SocketStream | trio.SSLStream[trio.SocketStream]]:
    secure = parts.scheme == "wss"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    with trio.fail_after(timing.connect_s):
        plain = await trio.open_tcp_stream(host, port)
    try:
        with trio.fail_after(timing.connect_s):
            stream = await trust.secured(plain, host, order) if secure else plain
        yield stream
    finally:
        await trio.aclose_forcefully(plain)  # nobody waits for the other end's farewell


@asynccontextmanager
async def dial(order: Order, about: wire.About, timing: Timing) -> AsyncIterator[Link]:
    """Connect, and close politely when the block is left without an error. Raises one of ERRORS, perhaps in a group."""
    parts = urlsplit(order.url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with _connected(order, parts, timing) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(timing.connect_s):
            websocket = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                parts.netloc.rpartition("@")[2],
                resource,
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=wire.MAX_FRAME,
                receive_buffer_size=RECEIVE_BUFFER,
            )
        yield Link(websocket, about, timing, utc_now)
        with trio.move_on_after(timing.close_s):
            await websocket.aclose(1000)
        nursery.cancel_scope.cancel()
