"""The network between the machines and the daemon: a TCP proxy that can be made to misbehave."""

from __future__ import annotations

import math
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

READ_SIZE = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, and forget what was not sent
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define(eq=False)
class Line:
    """One connection. What passes is held back until `held_until` (trio's clock)."""

    machine: trio.SocketStream
    daemon: trio.SocketStream
    delay: Callable[[], float]  # seconds, asked for each piece
    held_until: float = -math.inf
    torn: bool = False  # the next piece will come through in half, and nothing after it
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def carry(self) -> None:
        """Both ways, until one end closes or the line is cut."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, self.machine, self.daemon)
                    nursery.start_soon(self._carry, self.daemon, self.machine)
        finally:
            self.machine.socket.close()
            self.daemon.socket.close()

    def cut(self) -> None:
        """Both ends learn of it at once; what was under way is lost."""
        reset(self.machine)
        reset(self.daemon)
        self.scope.cancel()

    def straggle(self, seconds: float) -> None:
        """The machine's end is cut now; what it has sent reaches the daemon in `seconds`, and then the end."""
        self.held_until = trio.current_time() + seconds
        reset(self.machine)

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, receive, target)
            with send, suppress(*GONE):
                while data := await source.receive_some(READ_SIZE):
                    send.send_nowait((trio.current_time() + self.delay(), data))

    async def _deliver(self, pieces: trio.MemoryReceiveChannel[tuple[float, bytes]], target: trio.SocketStream) -> None:
        """Until the source has ended, and with it the line."""
        try:
            async for due, data in pieces:
                await trio.sleep_until(due)
                while self.held_until > trio.current_time():  # noqa: ASYNC110  it may be moved meanwhile
                    await trio.sleep_until(self.held_until)
                await target.send_all(data[: len(data) // 2] if self.torn else data)
                if self.torn:
                    return self.cut()
        except GONE:
            if target is self.machine:  # the daemon may yet hear what the machine has said
                return
        self.scope.cancel()


def reset(stream: trio.SocketStream) -> None:
    if stream.socket.fileno() >= 0:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        stream.socket.close()


@attrs.define(eq=False)
class Network:
    """Stands at `here` and passes everything on to `there`; (host, port) each."""

    here: tuple[str, int]
    there: tuple[str, int]
    chance: random.Random
    slowest_s: float = 0.0  # pieces are delayed by up to so much, in order
    closed_until: float = -math.inf  # connections are refused (trio's clock)
    _lines: list[Line] = attrs.field(factory=list, init=False)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service; until cancelled."""
        host, port = self.here
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._accept, listeners)
            task_status.started()

    @property
    def lines(self) -> list[Line]:
        """The connections that are open."""
        return list(self._lines)

    def cut(self) -> None:
        for line in self._lines:
            line.cut()

    def stall(self, seconds: float) -> None:
        """Nothing passes for `seconds`, and nobody is told."""
        for line in self._lines:
            line.held_until = trio.current_time() + seconds

    def close(self, seconds: float) -> None:
        """Cut everything, and refuse what comes in the next `seconds`."""
        self.closed_until = trio.current_time() + seconds
        self.cut()

    def heal(self) -> None:
        """From now on it is a good network."""
        self.slowest_s, self.closed_until = 0.0, -math.inf
        for line in self._lines:
            line.held_until, line.torn = -math.inf, False

    async def _accept(self, machine: trio.SocketStream) -> None:
        if trio.current_time() < self.closed_until:
            return reset(machine)
        try:
            daemon = await trio.open_tcp_stream(*self.there)
        except OSError:  # it is down
            return reset(machine)
        line = Line(machine, daemon, lambda: self.chance.uniform(0, self.slowest_s))
        self._lines.append(line)
        try:
            await line.carry()
        finally:
            self._lines.remove(line)
