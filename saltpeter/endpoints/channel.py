"""One WebSocket connection, guarded: nothing that one peer does reaches another, or stops the server."""

from __future__ import annotations

import logging
import math
import pwd
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TypeAlias, Union

import attrs
import trio
from exceptiongroup import BaseExceptionGroup, catch

from saltpeter.domain.access import NOBODY, Person
from saltpeter.endpoints.frames import Frames, Owed
from saltpeter.endpoints.outbox import Outbox
from saltpeter.endpoints.transport import BROKEN, Receive, receiver
from saltpeter.logs import fields

CLOSE_S = 2.0  # for what is queued, and the peer's half of the closing handshake

UNIX = "unix:"  # begins the name of a peer that came by the Unix socket, and of no other

NORMAL, GOING_AWAY, UNWELCOME = 1000, 1001, 1008  # close codes of RFC 6455

log = logging.getLogger(__name__)


class Gone(Exception):
    """The peer is no longer there to be told anything."""


@attrs.frozen(kw_only=True)
class Limits:
    """What one peer may make us hold. `queue` counts messages that wait to be sent; `message` is in bytes. Of a
    peer that is not admitted, `unknown` bytes are read and no more.
    """

    message: int = 64 * 1024
    unknown: float = math.inf
    queue: int = 64
    send_deadline_s: float = 30.0  # for what goes out together, once it is its turn


@attrs.define(eq=False)
class Channel(AsyncIterator[Union[str, bytes]]):
    """Text messages to and from one peer. One task reads; any task may `tell` or `send`.

    Iterating gives what the peer says, and ends when it has gone. Nothing is read but for who asks for the next
    message: a peer that says more than is listened to is held up by its own network.
    """

    peer: str  # for people: who and from where
    _stream: trio.abc.Stream
    _limits: Limits
    _nursery: trio.Nursery  # for what cannot be sent at once; it may be many channels'
    person: Person = NOBODY
    _on_admitted: Callable[[], None] = lambda: None
    _frames: Frames = attrs.field(init=False)
    _heard: deque[str | bytes] = attrs.field(factory=deque, init=False)
    _unknown: float = attrs.field(init=False)  # bytes that may still be read
    _reading: bool = attrs.field(default=False, init=False)
    _left: bool = attrs.field(default=False, init=False)  # the peer has closed its side, or is lost
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)  # nothing more will come
    _outbox: Outbox = attrs.field(init=False)
    _incoming: Receive = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = self._limits
        self._incoming = receiver(self._stream)
        self._frames, self._unknown = Frames(limits.message), limits.unknown
        beside = partial(_start_beside, self._nursery, self.peer)
        self._outbox = Outbox(self.peer, self._stream, beside, limits.queue, limits.send_deadline_s)

    def admit(self) -> None:
        """The peer is known now: from here on only the limits on each message hold."""
        self._unknown = math.inf
        self._on_admitted()

    # --- what it is told ---

    def greet(self, data: bytes) -> None:
        """Send the end of the handshake, before anything else."""
        self._outbox.put(data)

    def tell(self, *texts: str) -> None:
        """Send `texts` and return at once. A peer that lets too much wait is dropped; one that left is let go."""
        self._outbox.put(b"".join(map(self._frames.text, texts)))

    async def send(self, text: str) -> None:
        """Send `text` as soon as there is room: the caller goes at the peer's pace. Raises Gone."""
        await self._outbox.room()
        if self._outbox.closed:
            raise Gone(self.peer)
        self.tell(text)

    # --- what it says ---

    async def receive(self) -> str | bytes:
        """The peer's next message. Raises Gone."""
        while not self._heard:
            if self._ended.is_set():
                raise Gone(self.peer)
            await self._read()
        return self._heard.popleft()

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except Gone:
            raise StopAsyncIteration from None

    async def _read(self) -> None:
        """Hear what has come by now, or comes next."""
        self._reading = True
        data: bytes | bytearray = b""
        try:
            if self._unknown > 0:
                data = await self._incoming()
                self._left = not data
        except BROKEN:
            self._left = True
        finally:
            self._reading = False
        self._unknown -= len(data)
        for heard in self._frames.feed(data) if data else ():
            if isinstance(heard, Owed):
                self._outbox.put(heard.data)
            else:
                self._heard.append(heard)
        if not data or self._frames.ended:
            self._ended.set()

    # --- its end ---

    def drop(self) -> None:
        """Give up on the peer now, without a farewell."""
        self._outbox.drop()

    def end(self) -> None:
        """Nothing more is told, though there may be who still knows the channel."""
        self._outbox.close()

    async def aclose(self, code: int = NORMAL, reason: str = "") -> None:
        """Send what waits, then say farewell. Takes at most CLOSE_S; may be called more than once."""
        self._outbox.close(self._frames.farewell(code, reason))
        if self._left and self._outbox.empty:
            return
        with trio.move_on_after(CLOSE_S) as patience:
            await self._outbox.drain()
            await self._hear_it_end()
        if patience.cancelled_caught:
            self._outbox.drop()

    async def _hear_it_end(self) -> None:
        while not self._ended.is_set():
            if self._reading:
                await self._ended.wait()
            else:
                await self._read()
        if not self._left and not self._frames.closed and self._unknown > 0:
            # closing on unread bytes would reset the connection, and our farewell be lost
            with suppress(*BROKEN):
                while await self._incoming():
                    pass


def _start_beside(nursery: trio.Nursery, peer: str, do: Callable[..., Awaitable[None]], *args: object) -> None:
    """A task of one channel in a nursery of many."""
    nursery.start_soon(_beside, peer, do, *args)


async def _beside(peer: str, do: Callable[..., Awaitable[None]], *args: object) -> None:
    # the nursery may be stopping: what is being sent is still sent, until the stream is closed
    with guard(peer), trio.CancelScope(shield=True):
        await do(*args)


Handler: TypeAlias = Callable[[Channel], Awaitable[None]]


async def serve_channel(
    stream: trio.abc.Stream,
    peer: str,
    limits: Limits,
    handler: Handler,
    registry: set[Channel],
    *,
    nursery: trio.Nursery,
    greeting: bytes,
    person: Person = NOBODY,
    on_admitted: Callable[[], None] = lambda: None,
) -> None:
    """Let `handler` talk to the peer over `stream`, where `greeting` is all that the handshake still wants.

    The channel stands in `registry` while it is open, for the farewell at the end of the daemon. What it cannot send at
    once is a task in `nursery`, which ends when it is sent, or the stream is closed.
    """
    channel = Channel(peer, stream, limits, nursery, person, on_admitted)
    channel.greet(greeting)
    registry.add(channel)
    try:
        await handler(channel)
        await channel.aclose()
    finally:
        registry.discard(channel)
        channel.end()


def guard(peer: str) -> AbstractContextManager[None]:
    """Let no error of one connection out: logged, and the rest goes on. Cancellation passes through."""

    def report(bugs: BaseExceptionGroup[Exception]) -> None:
        log.error("Connection of %s failed", peer, exc_info=bugs, extra=fields("connection.crashed", peer=peer))

    def let_go(_left: BaseExceptionGroup[Exception]) -> None:
        log.debug("%s has gone", peer)

    return catch({(Gone, trio.BrokenResourceError, ConnectionError): let_go, Exception: report})


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
