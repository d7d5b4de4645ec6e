"""Which output to send next, given what the daemon has acknowledged. No IO: it deals in places, not in bytes."""

from __future__ import annotations

from collections import deque

import attrs

from sp_wrapper.wire import RemoteProtocolError

WINDOW = 8  # output messages in flight, at first
LARGEST_WINDOW = 32  # where acks come quickly
QUICK_S = 0.5  # what is in flight is in front of heartbeats and pings too, so on a slow network it must stay little


@attrs.frozen
class Sent:
    """A message on its way: the bytes from `start` to `end` of the whole output."""

    seq: int
    start: int
    end: int
    at: float


@attrs.define
class Outbox:
    """Offsets count bytes of the whole output. What is not acknowledged can always be read again from the spool.

    Times are seconds of one clock.
    """

    window: int = WINDOW  # so many messages may be in flight
    acked: int = attrs.field(default=0, init=False)  # the daemon holds everything below
    position: int = attrs.field(default=0, init=False)  # the next byte to send
    next_seq: int = attrs.field(default=0, init=False)
    _flying: deque[Sent] = attrs.field(factory=deque, init=False)

    @property
    def has_room(self) -> bool:
        return len(self._flying) < self.window

    @property
    def is_waiting(self) -> bool:
        """Is there anything that the daemon owes an answer for?"""
        return bool(self._flying)

    def connected(self, offset: int, length: int) -> None:
        """A new connection: the daemon holds everything below `offset`, whatever was in flight on the old one.

        `length` is that of the output so far. Raises RemoteProtocolError if the daemon claims more.
        """
        if offset > length:
            raise RemoteProtocolError(f"the daemon holds {offset} bytes, but only {length} were written")
        self._flying.clear()
        self.acked = self.position = offset

    def sent(self, end: int, at: float) -> int:
        """The bytes from `position` to `end` go out now, `at`. Answers the message's sequence number."""
        message = Sent(self.next_seq, self.position, end, at)
        self._flying.append(message)
        self.next_seq += 1
        self.position = end
        return message.seq

    def ack(self, seq: int, at: float) -> None:
        """The daemon holds everything up to the message `seq`. Raises RemoteProtocolError if we never made it."""
        if seq >= self.next_seq:
            raise RemoteProtocolError(f"ack of {seq}, but only {self.next_seq} were made")
        while self._flying and self._flying[0].seq <= seq:
            message = self._flying.popleft()
            self.acked = message.end
            self.window = min(self.window + 1, LARGEST_WINDOW) if at - message.at < QUICK_S else WINDOW

    def nack(self, expected_seq: int) -> None:
        """The daemon wants to go on with `expected_seq`: send again from there, numbered as it counts."""
        while self._flying and self._flying[-1].seq >= expected_seq:
            self.position = self._flying.pop().start
        if self._flying and self._flying[-1].seq + 1 < expected_seq:  # it counts otherwise: all again
            self._flying.clear()
        if not self._flying:
            self.position = self.acked
        self.next_seq = expected_seq
