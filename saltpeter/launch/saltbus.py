"""The master's event bus, read from its socket: the one place that knows Salt's private format of it.

Salt's own client reconnects silently, so whoever reads through it cannot tell that events were lost. Here
the end of the stream is visible, and each new connection is a gap that the job cache must fill.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgpack
import trio

log = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024  # bytes
_READ = 64 * 1024  # bytes
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0


@attrs.frozen
class Return:
    """A minion's answer as the bus carries it; `data` has the keys `return`, `retcode` and `success`."""

    jid: str
    minion: str
    data: Mapping[str, Any]


class BadStreamError(Exception):
    """What came is not what the bus of a Salt master sends."""


@attrs.define
class Decoder:
    """Finds the returns of the jobs that are `wanted` in the bytes of the bus, however they are cut."""

    wanted: Callable[[str], bool]
    _frames: msgpack.Unpacker = attrs.field(
        factory=lambda: msgpack.Unpacker(raw=True, max_buffer_size=MAX_FRAME, strict_map_key=False), init=False
    )

    def feed(self, data: bytes) -> Iterator[Return]:
        """Raises BadStreamError; after that the stream is worth nothing."""
        try:
            self._frames.feed(data)
            for frame in self._frames:
                found = self._return(frame)
                if found is not None:
                    yield found
        except (ValueError, TypeError, msgpack.UnpackException) as exc:  # TypeError: a map as the key of a map
            raise BadStreamError(str(exc) or type(exc).__name__) from exc

    def _return(self, frame: object) -> Return | None:
        body = frame.get(b"body") if isinstance(frame, dict) else None
        if not isinstance(body, bytes):
            raise BadStreamError("a frame without a body")
        tag, _, packed = body.partition(b"\n\n")
        match tag.decode(errors="replace").split("/", 4):
            case ["salt", "job", jid, "ret", minion] if self.wanted(jid):
                data = msgpack.unpackb(packed, raw=False, strict_map_key=False, unicode_errors="replace")
                return Return(jid, minion, data) if _is_return(data, minion) else None
        return None


def _is_return(data: object, minion: str) -> bool:
    """Is it what a minion has returned? Any of them may put an event of its own under any tag, with its own id."""
    return isinstance(data, dict) and "return" in data and data.get("id", minion) == minion


def address(opts: Mapping[str, Any]) -> Path | tuple[str, int]:
    """Where the master of those options publishes its events: a unix socket's path, or a host and port."""
    if opts.get("ipc_mode") == "tcp":
        return "127.0.0.1", int(opts["tcp_master_pub_port"])
    return Path(opts["sock_dir"]) / "master_event_pub.ipc"


async def listen(
    where: Path | tuple[str, int],
    wanted: Callable[[str], bool],
    on_connection: Callable[[bool], None],
    on_return: Callable[[Return], None],
) -> None:
    """Read the bus for ever, over any number of master's lives.

    `on_connection` hears True when a connection is made (whatever happened before it was missed) and False when it
    is lost.
    """
    retry_s = _FIRST_RETRY_S
    said = ""
    while True:
        try:
            stream = await _connect(where)
        except OSError as exc:  # the master is down, or it does not let this user read
            if isinstance(exc, PermissionError) and said != str(exc):
                said = str(exc)
                log.warning("Salt's event bus may not be read (%s): answers are looked up in the job cache", exc)
            await trio.sleep(retry_s)
            retry_s = min(retry_s * 2, _LAST_RETRY_S)
            continue
        retry_s = _FIRST_RETRY_S
        on_connection(True)
        try:
            await _read(stream, Decoder(wanted), on_return)
        finally:
            on_connection(False)


async def _connect(where: Path | tuple[str, int]) -> trio.SocketStream:
    if isinstance(where, Path):
        return await trio.open_unix_socket(where)
    return await trio.open_tcp_stream(*where)


async def _read(stream: trio.SocketStream, decoder: Decoder, on_return: Callable[[Return], None]) -> None:
    """Returns at the end of the stream."""
    async with stream:
        try:
            while data := await stream.receive_some(_READ):
                for found in decoder.feed(data):
                    on_return(found)
        except trio.BrokenResourceError:
            pass
        except BadStreamError as exc:
            log.warning("Salt's event bus cannot be understood (%s): connecting to it anew", exc)
            await trio.sleep(_LAST_RETRY_S)
