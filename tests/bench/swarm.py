"""Very many wrappers in one process: they say on real connections what real ones say, and cost next to nothing.

What is measured is the other side; so the frames are made, masked and all, before they are needed, and one loop
over epoll serves all connections.
"""

from __future__ import annotations

import base64
import itertools
import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timezone
from typing import Any, TypeAlias

import attrs

from sp_wrapper import frames, wire

MASK = 0x37FA213D
MASK_BYTES = MASK.to_bytes(4, "big")
SOURCES = tuple(f"127.0.{i}.1" for i in range(1, 5))  # so that ports do not run out
AT_ONCE = 200  # handshakes: fewer than wait in the server's queue
REQUEST = (
    "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n"
).encode()

# Yields what to send next, and is then given the next message. It begins once the handshake is over.
Life: TypeAlias = Generator[bytes, "Message", None]
Tick: TypeAlias = Callable[[], bytes]  # what to say now and then


@attrs.frozen
class Message:
    """One frame from the daemon, and when it was here (monotonic seconds)."""

    text: bytes
    at: float

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


def masked(text: str) -> bytes:
    """A client's text frame."""
    data = text.encode()
    size = len(data)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65536:
        head = bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x81, 0xFF)) + size.to_bytes(8, "big")
    key = (MASK_BYTES * (size // 4 + 1))[:size]
    body = int.from_bytes(data, "big") ^ int.from_bytes(key, "big")
    return head + MASK_BYTES + body.to_bytes(size, "big")


@attrs.frozen
class Speaker:
    """Makes the frames of one execution's wrapper."""

    about: wire.About
    token: str

    def says(self, message: wire.FromWrapper) -> bytes:
        return masked(frames.encode(self.about, message, datetime.now(timezone.utc)))

    def connect(self) -> bytes:
        return self.says(wire.Connect(version="bench", token=self.token, secret="s" * 32, sent=0))

    def start(self) -> bytes:
        return self.says(wire.Start(pid=4711, version="bench", started=datetime.now(timezone.utc)))

    def output(self, seq: int, data: bytes, offset: int) -> bytes:
        return self.says(wire.Output(seq=seq, data=data, offset=offset))

    def heartbeat(self) -> bytes:
        return self.says(wire.Heartbeat(rss=12_345_678, cpu=1.25))

    def complete(self, seq: int, length: int) -> bytes:
        return self.says(wire.Complete(retcode=0, seq=seq, length=length))


def idle(speaker: Speaker) -> Life:
    """Connected and started; what it sends then is its tick's business."""
    yield speaker.connect()
    yield speaker.start()
    while True:
        yield b""


@attrs.define(eq=False)
class Peer:
    """One connection, and what is to happen on it."""

    life: Life
    sock: socket.socket
    _unread: bytearray = attrs.field(factory=bytearray)
    _unsent: deque[memoryview] = attrs.field(factory=deque)
    open: bool = False  # the handshake is over
    tick: Tick | None = None

    def send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent.append(memoryview(data))
            return
        try:
            size = self.sock.send(data)
        except BlockingIOError:
            size = 0
        if size < len(data):
            self._unsent.append(memoryview(data)[size:])

    def flush(self) -> None:
        """Go on with what could not be sent; `is_stuck` says whether it all could now."""
        while self._unsent:
            try:
                size = self.sock.send(self._unsent[0])
            except BlockingIOError:
                return
            rest = self._unsent.popleft()[size:]
            if rest:
                return self._unsent.appendleft(rest)

    @property
    def is_stuck(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> bool:
        """Read what there is; False when the connection has ended."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._unread += data
        return bool(data)

    def messages(self) -> Iterator[Message | None]:
        """What has come since; None is the end of the handshake."""
        if not self.open:
            head, found, rest = bytes(self._unread).partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self.open, self._unread = True, bytearray(rest)
            yield None
        at = time.perf_counter()
        while (frame := self._frame()) is not None:
            if frame[0] == 0x81:
                yield Message(frame[1], at)

    def _frame(self) -> tuple[int, bytes] | None:
        unread = self._unread
        if len(unread) < 2:
            return None
        size, begin = unread[1], 2
        if size == 126:
            size, begin = int.from_bytes(unread[2:4], "big"), 4
        elif size == 127:
            size, begin = int.from_bytes(unread[2:10], "big"), 10
        if len(unread) < begin + size:
            return None
        frame = unread[0], bytes(unread[begin : begin + size])
        del unread[: begin + size]
        return frame


@attrs.define(eq=False)
class Swarm:
    """Lives, each on a connection of its own to the same port. For one thread at a time."""

    port: int
    peers: list[Peer] = attrs.field(factory=list, init=False)
    _ticking: list[Peer] = attrs.field(factory=list, init=False)
    ended: int = attrs.field(default=0, init=False)
    lost: int = attrs.field(default=0, init=False)  # connections that the daemon ended before their lives did
    _waiting: deque[tuple[Life, Tick | None]] = attrs.field(factory=deque, init=False)
    _shaking: int = attrs.field(default=0, init=False)
    _by_fd: dict[int, Peer] = attrs.field(factory=dict, init=False)
    _epoll: select.epoll = attrs.field(factory=select.epoll, init=False)
    _sources: Iterator[str] = attrs.field(factory=lambda: itertools.cycle(SOURCES), init=False)
    _stopped: threading.Event = attrs.field(factory=threading.Event, init=False)
    _beat_s: float | None = attrs.field(default=None, init=False)
    _next_beat: int = attrs.field(default=0, init=False)
    _beats_from: float | None = attrs.field(default=None, init=False)  # None: since the thread sees that it is to

    def add(self, life: Life, tick: Tick | None = None) -> None:
        self._waiting.append((life, tick))

    @property
    def connecting(self) -> int:
        """Lives whose connections do not stand yet."""
        return len(self._waiting) + self._shaking

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._stopped.set()

    def beat_every(self, seconds: float | None) -> None:
        """From now on each peer's tick comes so often, or never; all of them are evenly spread."""
        self._beats_from, self._next_beat = None, 0
        self._beat_s = seconds  # last, for another thread may be looking

    def run(self, for_s: float | None = None) -> None:
        """Serve all connections until `stop`, until `for_s` have passed, or until all lives have ended."""
        until = None if for_s is None else time.perf_counter() + for_s
        while not self._stopped.is_set():
            while self._waiting and self._shaking < AT_ONCE:
                self._dial(*self._waiting.popleft())
            for fd, _ in self._epoll.poll(self._patience()):
                if (peer := self._by_fd.get(fd)) is not None:
                    self._serve(peer)
            self._beat()
            if until is not None and time.perf_counter() >= until:
                return
            if not self._by_fd and not self._waiting:
                return

    def close(self) -> None:
        for peer in list(self._by_fd.values()):
            self._end(peer)
        self._epoll.close()

    def _patience(self) -> float:
        return 0.2 if self._beat_s is None else 0.002

    def _dial(self, life: Life, tick: Tick | None) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), source_address=(next(self._sources), 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        peer = Peer(life, sock, tick=tick)
        self._shaking += 1
        self._by_fd[sock.fileno()] = peer
        self._epoll.register(sock, select.EPOLLIN)
        peer.send(REQUEST)

    def _serve(self, peer: Peer) -> None:
        if peer.is_stuck:
            peer.flush()
        alive = peer.receive()
        was_open = peer.open
        for message in peer.messages():
            if not was_open:
                was_open = True
                self._shaking -= 1
                self.peers.append(peer)
                if peer.tick is not None:
                    self._ticking.append(peer)
            if not self._live(peer, message):
                return
        if not alive:
            self.lost += 1
            self._shaking -= not was_open
            self._end(peer)
        else:
            self._watch(peer)

    def _watch(self, peer: Peer) -> None:
        self._epoll.modify(peer.sock, select.EPOLLIN | (select.EPOLLOUT if peer.is_stuck else 0))

    def _live(self, peer: Peer, message: Message | None) -> bool:
        try:
            data = peer.life.send(message) if message is not None else next(peer.life)
        except StopIteration:
            self.ended += 1
            self._end(peer)
            return False
        if data:
            peer.send(data)
        return True

    def _end(self, peer: Peer) -> None:
        del self._by_fd[peer.sock.fileno()]
        self._epoll.unregister(peer.sock)
        peer.sock.close()

    def _beat(self) -> None:
        ticking = self._ticking
        if self._beat_s is None or not ticking:
            return
        now = time.perf_counter()
        if self._beats_from is None:  # not before, or all that was due while it slept would come in one burst
            self._beats_from = now
        due = int((now - self._beats_from) / self._beat_s * len(ticking))
        for number in range(self._next_beat, due):
            peer = ticking[number % len(ticking)]
            if peer.tick is not None and peer.sock.fileno() >= 0:
                peer.send(peer.tick())
                if peer.is_stuck:
                    self._watch(peer)
        self._next_beat = max(due, self._next_beat)
