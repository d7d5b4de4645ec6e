"""The way out to one peer: what its network takes at once is gone at once, and a task waits with the rest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import attrs
import trio

from saltpeter.endpoints.transport import BROKEN, cut, send_now
from saltpeter.logs import fields

BATCH_BYTES = 64 * 1024  # of messages that go out together

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Outbox:
    """Bytes for one peer, in order. At most `most` pieces wait; each batch of them is to be gone within `deadline_s`.

    A peer that does not keep to that is cut off. Everything but `drain` and `room` returns at once.
    """

    _peer: str  # for people
    _stream: trio.abc.Stream
    _beside: Callable[..., None]  # starts a task, as a nursery's start_soon does
    _most: int
    _deadline_s: float
    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    _writing: bool = attrs.field(default=False, init=False)  # a task does
    _closed: bool = attrs.field(default=False, init=False)  # nothing more is taken
    _moved: trio.Event = attrs.field(factory=trio.Event, init=False)  # some of it has gone, or never will

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def empty(self) -> bool:
        """Nothing is on its way."""
        return not self._writing

    def put(self, data: bytes) -> None:
        """Send `data`. A peer that lets too much of it wait is cut off; one that has gone is let go."""
        if self._closed:
            return
        if len(self._waiting) >= self._most:
            self._give_up("it does not read what it is sent")
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
        self._beside(cut, self._stream)
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
                self._beside(self._write)

    def _try(self, data: bytes) -> int:
        """How many bytes the network has taken."""
        try:
            return send_now(self._stream, data)
        except OSError:  # gone: who reads will find the end
            self._closed = True
            return len(data)

    async def _write(self) -> None:
        try:
            while self._waiting:
                with trio.move_on_after(self._deadline_s) as deadline:
                    await self._stream.send_all(self._batch())
                if deadline.cancelled_caught:  # half a frame may have gone: nothing may follow it
                    self._give_up("it takes too long to read")
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

    def _give_up(self, why: str) -> None:
        log.warning("Dropping %s: %s", self._peer, why, extra=fields("connection.dropped", peer=self._peer))
        self.drop()

    def _stir(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
