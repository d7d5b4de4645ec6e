"""Everything that a reporter has to tell: what the command wrote, how it goes, how it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from sp_wrapper import channel, chunks, wire
from sp_wrapper.journal import Journal
from sp_wrapper.outbox import Outbox
from sp_wrapper.spool import SpoolReader

MAX_LOGS = 1000  # of our own events, kept until there is a connection


@attrs.define
class Account:
    """Survives the connections. `request` hands something to the supervisor."""

    job: channel.Job
    journal: Journal
    request: Callable[[channel.Request], Awaitable[None]]
    reader: SpoolReader
    proof: str = attrs.field(default="", repr=False)  # of which machine this is
    outbox: Outbox = attrs.field(factory=Outbox)
    length: int = attrs.field(default=0, init=False)  # bytes that can be read from the spool
    paused: bool = attrs.field(default=False, init=False)
    ending: wire.Complete | None = attrs.field(default=None, init=False)
    logs: deque[str] = attrs.field(factory=lambda: deque(maxlen=MAX_LOGS), init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def about(self) -> wire.About:
        return wire.About(self.job.order.job, self.job.order.instance, self.job.order.machine)

    @property
    def backlog(self) -> int:
        return self.length - self.outbox.position

    @property
    def all_acked(self) -> bool:
        """Has the command ended, and does the daemon hold all that it wrote?"""
        return self.ending is not None and self.outbox.acked >= self.length and not self.outbox.is_waiting

    def learn(self, facts: channel.Facts) -> None:
        self.length, self.paused = facts.length, facts.paused
        self.job = self.job._replace(waiting=facts.waiting)
        if facts.pid:
            self.job = self.job._replace(pid=facts.pid, started=facts.started)
        self.ring()

    def end(self, ending: wire.Complete) -> None:
        self.ending, self.length = ending, ending.length or 0
        killed = ending.outcome == "killed"
        if killed:
            self.debug("[WRAPPER] Process terminated, preparing to send completion")
        self.debug(f"[WRAPPER] Exited main loop, killed={killed}, retcode={ending.retcode}")
        self.ring()

    def debug(self, text: str) -> None:
        """An event of ours: into the log file and, as a message of its own, to the daemon."""
        self.journal.debug(text)
        if self.journal.debugging:
            self.logs.append(text)
            self.ring()

    def next_output(self) -> wire.Output | None:
        """Take the next message of output from the spool; None when there is nothing to send yet."""
        if not self.outbox.has_room or self.backlog <= 0:
            return None
        at = self.outbox.position
        piece = self.reader.read(at, wire.MAX_CHUNK, self.length if self.ending else None)
        data = chunks.sendable(piece.data, final=piece.closed)
        if not data and piece.start == at:
            return None
        seq = self.outbox.sent(piece.start + len(data), trio.current_time())
        return wire.Output(seq=seq, data=data, offset=piece.start, cut=piece.start - at)

    async def acked(self, seq: int) -> None:
        """Raises RemoteProtocolError for an ack of what was never sent."""
        self.outbox.ack(seq, trio.current_time())
        self.reader.forget(self.outbox.acked)
        self.ring()
        await self.request(channel.Acked(self.outbox.acked))

    def ring(self) -> None:
        self._changed.set()

    async def changed(self) -> None:
        """Wait for anything that happened since the last time; one task may."""
        await self._changed.wait()
        self._changed = trio.Event()
