"""Who waits for the answers to which ticket. No IO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from saltpeter.engine.launcher import Answer, again


@attrs.define
class Inbox:
    """One waiter for one ticket: of each name that the ticket goes out by, it gets each machine's answer once."""

    ticket: str
    names: tuple[str, ...]
    receive: trio.MemoryReceiveChannel[Answer]
    _send: trio.MemorySendChannel[Answer]
    _seen: set[tuple[str, str]] = attrs.field(factory=set, init=False)

    def offer(self, name: str, answer: Answer) -> None:
        """However often the answer to `name` is reported, it counts once."""
        if (name, answer.machine) not in self._seen:
            self._seen.add((name, answer.machine))
            self._send.send_nowait(answer)

    def close(self) -> None:
        self._send.close()
        self.receive.close()


@attrs.define
class Desk:
    """All inboxes, by the names of what goes out."""

    _inboxes: dict[str, list[Inbox]] = attrs.field(factory=dict, init=False)

    def __contains__(self, name: object) -> bool:
        return name in self._inboxes

    @contextmanager
    def open(self, ticket: str, *names: str) -> Iterator[Inbox]:
        """An inbox for `ticket`, which goes out by those `names`; by its own, and once more, unless they are given."""
        # unbounded, because a machine answers once: it never holds more than there are machines
        send, receive = trio.open_memory_channel[Answer](math.inf)
        inbox = Inbox(ticket, names or (ticket, again(ticket)), receive, send)
        for name in inbox.names:
            self._inboxes.setdefault(name, []).append(inbox)
        try:
            yield inbox
        finally:
            self._close(inbox)

    def waiting(self, name: str) -> tuple[Inbox, ...]:
        """Who waits for answers to `name` now."""
        return tuple(self._inboxes.get(name, ()))

    def post(self, name: str, answer: Answer) -> None:
        """Hand `answer` to everybody who waits for `name` now."""
        for inbox in self.waiting(name):
            inbox.offer(name, answer)

    def _close(self, inbox: Inbox) -> None:
        inbox.close()
        for name in inbox.names:
            waiting = self._inboxes[name]
            waiting[:] = [other for other in waiting if other is not inbox]
            if not waiting:
                del self._inboxes[name]
