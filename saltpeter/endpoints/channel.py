"""One WebSocket connection, guarded: nothing that one peer does reaches another, or stops the server."""

from __future__ import annotations

import logging
import math
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, Union

import attrs
import trio
from exceptiongroup import BaseExceptionGroup, catch
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from saltpeter.domain.access import NOBODY, Person
from saltpeter.logs import fields

HANDSHAKE_S = 5.0
CLOSE_S = 2.0  # for what is queued, and the peer's half of the closing handshake
RECEIVE_BYTES = 64 * 1024
MESSAGES_AHEAD = 64  # read before their turn, so that pings are answered while a handler is busy

UNIX = "unix:"  # begins the name of a peer that came by the Unix socket, and of no other

NORMAL, GOING_AWAY, UNWELCOME = 1000, 1001, 1008  # close codes of RFC 6455

log = logging.getLogger(__name__)


class Gone(Exception):
    """The peer is no longer there to be told anything."""


@attrs.frozen(kw_only=True)
class Limits:
    """What one peer may make us hold. `queue` counts messages that wait to be sent, `ahead` those that are read before
    their turn; `message` is in characters. Of a peer that is not admitted, `unknown` bytes are read and no more.
    """

    message: int = 64 * 1024
    ahead: int = MESSAGES_AHEAD
    unknown: float = math.inf
    queue: int = 64
    send_deadline_s: float = 30.0  # for one message, once it is its turn


@attrs.define(eq=False)
class _Gate(trio.abc.Stream):
    """A stream that ends where a peer that nobody knows has said enough. `left` counts the bytes until then."""

    _stream: trio.abc.Stream
    left: float

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.left <= 0:
            return b""
        data = await self._stream.receive_some(max_bytes)
        self.left -= len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@attrs.define(eq=False)
class Channel(AsyncIterator[Union[str, bytes]]):
    """Text messages to and from one peer. One task of its own writes; any task may `tell` or `send`.

    Iterating gives what the peer says, and ends when it has gone.
    """

    peer: str  # for people: who and from where
    _ws: WebSocketConnection
    _stream: _Gate
    _limits: Limits
    person: Person = NOBODY
    _queue: trio.MemorySendChannel[str] = attrs.field(init=False)
    _outgoing: trio.MemoryReceiveChannel[str] = attrs.field(init=False)
    _writing: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _written: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._queue, self._outgoing = trio.open_memory_channel[str](self._limits.queue)

    def admit(self) -> None:
        """The peer is known now: from here on only the limits on each message hold."""
        self._stream.left = math.inf

    def tell(self, text: str) -> None:
        """Queue `text` and return at once. A peer that lets its queue fill up is dropped; one that left is let go."""
        try:
            self._queue.send_nowait(text)
        except trio.WouldBlock:
            log.warning("Dropping %s: it does not read what it is sent", self.peer, extra=_dropped(self.peer))
            self.drop()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def send(self, text: str) -> None:
        """Queue `text` as soon as there is room: the caller goes at the peer's pace. Raises Gone."""
        try:
            await self._queue.send(text)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise Gone(self.peer) from exc

    async def receive(self) -> str | bytes:
        """The peer's next message. Raises Gone."""
        try:
            return await self._ws.get_message()
        except ConnectionClosed as exc:
            raise Gone(self.peer) from exc

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self._ws.get_message()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def drop(self) -> None:
        """Give up on the peer now, without a farewell."""
        self._writing.cancel()

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """Send what is queued, then say farewell. Takes at most CLOSE_S; may be called more than once."""
        self._queue.close()
        with trio.move_on_after(CLOSE_S):
            await self._written.wait()
            await self._ws.aclose(code, reason or None)
        await trio.aclose_forcefully(self._stream)

    async def write(self) -> None:
        """Send what is queued, until the queue is closed or the peer has gone."""
        drained = False
        try:
            with self._writing:
                await self._send_all()
                drained = True
        finally:
            self._written.set()
            self._outgoing.close()
            if not drained:  # a send that was broken off may have left half a frame: nothing may follow it
                await trio.aclose_forcefully(self._stream)

    async def _send_all(self) -> None:
        async for text in self._outgoing:
            with trio.move_on_after(self._limits.send_deadline_s) as deadline:
                try:
                    await self._ws.send_message(text)
                except ConnectionClosed:
                    self.drop()
            if deadline.cancelled_caught:
                log.warning("Dropping %s: it takes too long to read", self.peer, extra=_dropped(self.peer))
                self.drop()
            await trio.lowlevel.checkpoint_if_cancelled()


Handler: TypeAlias = Callable[[Channel], Awaitable[None]]


async def serve_channel(
    stream: trio.abc.Stream,
    peer: str,
    limits: Limits,
    handler: Handler,
    registry: set[Channel],
    *,
    person: Person = NOBODY,
) -> None:
    """Shake hands on `stream`, which has the upgrade request to read, and let `handler` talk to the peer.

    The channel stands in `registry` while it is open, for the farewell at the end of the daemon.
    """
    async with trio.open_nursery() as nursery:
        gate = _Gate(stream, limits.unknown)
        ws = await _accept(nursery, gate, limits)
        if ws is None:
            nursery.cancel_scope.cancel()
            return
        channel = Channel(peer, ws, gate, limits, person)
        registry.add(channel)
        try:
            nursery.start_soon(channel.write)
            await handler(channel)
            await channel.aclose()
        finally:
            registry.discard(channel)
            nursery.cancel_scope.cancel()


async def _accept(nursery: trio.Nursery, stream: trio.abc.Stream, limits: Limits) -> WebSocketConnection | None:
    with trio.move_on_after(HANDSHAKE_S):
        request = await wrap_server_stream(
            nursery,
            stream,
            message_queue_size=limits.ahead,
            max_message_size=limits.message,
            receive_buffer_size=RECEIVE_BYTES,
        )
        return await request.accept()
    return None


@contextmanager
def guard(peer: str) -> Iterator[None]:
    """Let no error of one connection out: logged, and the rest goes on. Cancellation passes through."""

    def report(bugs: BaseExceptionGroup[Exception]) -> None:
        log.error("Connection of %s failed", peer, exc_info=bugs, extra=fields("connection.crashed", peer=peer))

    def let_go(_left: BaseExceptionGroup[Exception]) -> None:
        log.debug("%s has gone", peer)

    with catch({(Gone, ConnectionClosed, trio.BrokenResourceError, ConnectionError): let_go, Exception: report}):
        yield


def peer_of(stream: trio.abc.Stream) -> str:
    """Who is at the other end: `unix:<user>` for a Unix socket, else `<address>:<port>`, for logs and the audit."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(transport, trio.SocketStream):
        return "unknown"
    sock = transport.socket
    try:
        if sock.family == socket.AF_UNIX:
            return f"{UNIX}{_user_of(sock)}"
        host, port, *_ = sock.getpeername()
    except OSError:  # it has gone already
        return "unknown"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _user_of(sock: trio.socket.SocketType) -> str:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _dropped(peer: str) -> dict[str, object]:
    return fields("connection.dropped", peer=peer)
