"""The way out to one peer: what its network takes at once is gone at once, and a task waits with the rest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import attrs
import trio

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
BATCH_BYTES = 64 * 1024  # of messages that go out together


@attrs.define(eq=False)
class Outbox:
    """Bytes for one peer, in order. At most `most` pieces wait; each batch of them is to be gone within `deadline_s`.

    `on_stuck` is called with the reason when the peer does not keep to that; the connection is cut off then.
    Everything but `drain` and `room` returns at once.
    """

    _stream: trio.abc.Stream
    _nursery: trio.Nursery
    _most: int
    _deadline_s: float
    _on_stuck: Callable[[str], None]
    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    _writing: bool = attrs.field(default=False, init=False)  # a task does
    _closed: bool = attrs.field(default=False, init=False)  # nothing more is taken
    _moved: trio.Event = attrs.field(factory=trio.Event, init=False)  # some of it has gone, or never will

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, data: bytes) -> None:
        """Send `data`. A peer that lets too much of it wait is cut off; one that has gone is let go."""
        if self._closed:
            return
        if len(self._waiting) >= self._most:
            self._on_stuck("it does not read what it is sent")
            self.drop()
        else:
            self._send(data)

    def close(self, last: bytes = b"") -> None:
        """Take nothing more after `last`, and send what waits."""
        if not self._closed:
            self._send(last)
            self._closed = True

    def drop(self) -> None:
        """Cut the connection off, now."""
        self._closed = True
        self._waiting.clear()
        self._nursery.start_soon(trio.aclose_forcefully, self._stream)
        self._stir()

    async def room(self) -> None:
        """Return when one piece more may wait, or nothing more is taken."""
        await trio.lowlevel.checkpoint()
        while len(self._waiting) >= self._most and not self._closed:
            await self._moved.wait()

    async def drain(self) -> None:
        """Return when nothing waits any more."""
        while self._writing:
            await self._moved.wait()

    def _send(self, data: bytes) -> None:
        rest = data if self._writing else data[self._try(data) :]
        if rest:
            self._waiting.append(rest)
            if not self._writing:
                self._writing = True
                self._nursery.start_soon(self._write)

    def _try(self, data: bytes) -> int:
        """How many bytes the network has taken. Only a plain socket can be asked."""
        if not isinstance(self._stream, trio.SocketStream):
            return 0
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:  # gone: who reads will find the end
            self._closed = True
            return len(data)

    async def _write(self) -> None:
        try:
            while self._waiting:
                with trio.move_on_after(self._deadline_s) as deadline:
                    await self._stream.send_all(self._batch())
                if deadline.cancelled_caught:  # half a frame may have gone: nothing may follow it
                    self._on_stuck("it takes too long to read")
                    self.drop()
                self._stir()
        except BROKEN:
            self.drop()
        finally:
            self._writing = False
            self._stir()

    def _batch(self) -> bytes:
        """What waits, as one: one send costs about as much as another."""
        data = self._waiting.popleft()
        while self._waiting and len(data) < BATCH_BYTES:
            data += self._waiting.popleft()
        return data

    def _stir(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
