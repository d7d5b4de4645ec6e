"""The daemon's side of the process that writes the files."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio

from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store import worker
from saltpeter.store.scribe import Family, Group, Report

END_S = 10.0  # for what it is writing when it is told to end
_READ_BYTES = 64 * 1024
_SEND_BYTES = 2 * 1024 * 1024  # as far as the system lets us: else both sides wake each other up again and again
_MOST_PIECES = 1000  # in one call of the kernel
# For glibc: what it gives back while output streams, the kernel soon gives anew, cleared page by page; that took a
# third of the time that is spent on output.
_KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(32 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(16 * 1024**2)}
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what daemons are told, and often all that belongs to them
_ENDED = "the process that writes the store has ended: start the daemon again"

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Parts:
    """A pickle in pieces: long bytes are pieces of their own, as they are, and not copied."""

    pieces: list[bytes | memoryview] = attrs.field(factory=list)

    def write(self, data: bytes) -> int:
        self.pieces.append(data)
        return len(data)

    def drop(self, sent: int) -> None:
        """So many bytes are gone."""
        while self.pieces and sent >= len(self.pieces[0]):
            sent -= len(self.pieces.pop(0))
        if sent:
            self.pieces[0] = memoryview(self.pieces[0])[sent:]


@attrs.define(eq=False)
class Lane:
    """The way of one family's groups to the process. One task uses it. All of it raises StoreError when the process has
    ended: nobody knows then what it had written.
    """

    _socket: socket.socket  # that never blocks

    async def begin(self, family: Family) -> None:
        with _ended_otherwise():
            await self._send(family)

    async def write(self, group: Group) -> Report:
        """Returns when the group is written, as far as it can be. Who is cancelled does not know what was.

        Raises what ended it, too, where that is a bug.
        """
        with _ended_otherwise():
            await self._send(group)
            report = pickle.loads(await self._answer())  # noqa: S301  from the other half of this program
        if isinstance(report, Exception):
            raise report
        assert isinstance(report, Report)  # noqa: S101  nothing else is ever sent
        return report

    def close(self) -> None:
        """Nothing more comes."""
        self._socket.close()

    async def _send(self, message: object) -> None:
        parts = _Parts()
        pickle.Pickler(parts, pickle.HIGHEST_PROTOCOL).dump(message)
        while parts.pieces:
            try:
                parts.drop(os.writev(self._socket.fileno(), parts.pieces[:_MOST_PIECES]))
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def _answer(self) -> memoryview:
        """The next message, which is the only one under way."""
        head = worker.SIZE.size
        data, size = bytearray(), head
        while len(data) < size:
            await trio.lowlevel.wait_readable(self._socket)
            more = os.read(self._socket.fileno(), _READ_BYTES)
            if not more:
                raise BrokenPipeError("no more to come")
            data += more
            if len(data) >= head:
                size = head + worker.SIZE.unpack_from(data)[0]
        return memoryview(data)[head:]


@contextmanager
def _ended_otherwise() -> Iterator[None]:
    try:
        yield
    except ConnectionError as exc:
        raise StoreError(_ENDED) from exc


@asynccontextmanager
async def writing(families: Sequence[Family], logdir: Path | None, *, holding: int) -> AsyncIterator[list[Lane]]:
    """A process that writes, with a lane for each of `families`, and text logs in `logdir`; it holds the descriptor
    `holding` until its end, for which leaving waits. Raises StoreError when it cannot be started, or ends before.
    """
    pairs = [socket.socketpair() for _ in families]
    for ours, _ in pairs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    lanes = [Lane(ours) for ours, _ in pairs]
    with ExitStack() as open_lanes:
        for lane in lanes:
            open_lanes.callback(lane.close)
        process = await trio.to_thread.run_sync(_start, logdir, [theirs for _, theirs in pairs], holding)
        try:
            for lane, family in zip(lanes, families, strict=True):
                await lane.begin(family)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, process)
                yield lanes
                nursery.cancel_scope.cancel()
        finally:
            open_lanes.close()
            with trio.move_on_after(END_S, shield=True) as patience:
                await _end(process)
            if patience.cancelled_caught:
                process.kill()


async def _watch(process: subprocess.Popen[bytes]) -> None:
    code = await _end(process)
    log.critical("The process that writes the store has ended (%d)", code, extra=fields("store.lost", code=code))
    raise StoreError(_ENDED)


async def _end(process: subprocess.Popen[bytes]) -> int:
    return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


def _start(logdir: Path | None, lanes: Sequence[socket.socket], holding: int) -> subprocess.Popen[bytes]:
    """For a thread: it is this one's mask of signals that the process is born with, before it can do anything."""
    descriptors = [lane.fileno() for lane in lanes]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        # from a directory of root's, and with our paths: else Python looks for modules in whatever directory this is
        return subprocess.Popen(  # noqa: S603  a module of ours, with arguments of ours
            [sys.executable, "-m", worker.__name__, str(logdir.absolute()) if logdir else "", *map(str, descriptors)],
            cwd="/",
            env={**os.environ, **_KEEPING_MEMORY, "PYTHONPATH": os.pathsep.join(_paths())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[*descriptors, holding],
            start_new_session=True,
        )
    except OSError as exc:
        raise StoreError(f"the process that writes the store cannot be started: {exc}") from exc
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for lane in lanes:
            lane.close()


def _paths() -> list[str]:
    """Where our modules are found; relative ones count from here."""
    return [str(Path(path).absolute()) for path in sys.path if path]
