"""Who waits for the answers to which ticket. No IO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from saltpeter.engine.launcher import Answer


@attrs.define
class Inbox:
    """One waiter for one ticket: it gets each machine's answer once, however often that is reported."""

    ticket: str
    receive: trio.MemoryReceiveChannel[Answer]
    _send: trio.MemorySendChannel[Answer]
    _seen: set[str] = attrs.field(factory=set, init=False)

    def offer(self, answer: Answer) -> None:
        if answer.machine not in self._seen:
            self._seen.add(answer.machine)
            self._send.send_nowait(answer)

    def close(self) -> None:
        self._send.close()
        self.receive.close()


@attrs.define
class Desk:
    """All inboxes, by ticket."""

    _inboxes: dict[str, list[Inbox]] = attrs.field(factory=dict, init=False)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._inboxes

    @contextmanager
    def open(self, ticket: str) -> Iterator[Inbox]:
        # unbounded, because a machine answers once: it never holds more than there are machines
        send, receive = trio.open_memory_channel[Answer](math.inf)
        inbox = Inbox(ticket, receive, send)
        self._inboxes.setdefault(ticket, []).append(inbox)
        try:
            yield inbox
        finally:
            self._close(inbox)

    def post(self, ticket: str, answer: Answer) -> None:
        """Hand `answer` to everybody who waits for `ticket` now."""
        for inbox in self._inboxes.get(ticket, ()):
            inbox.offer(answer)

    def _close(self, inbox: Inbox) -> None:
        inbox.close()
        waiting = self._inboxes[inbox.ticket]
        waiting[:] = [other for other in waiting if other is not inbox]
        if not waiting:
            del self._inboxes[inbox.ticket]
