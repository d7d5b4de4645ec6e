"""Bytes to and from a peer. A plain socket is used as such: what trio's stream adds to it costs as much again."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, Union

import trio

RECEIVE_BYTES = 64 * 1024

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)  # there is no connection any more

Receive: TypeAlias = Callable[[], Awaitable[Union[bytes, bytearray]]]


def receiver(stream: trio.abc.Stream) -> Receive:
    """What gives the next of the peer's bytes, and nothing once it has ended. It raises one of BROKEN."""
    if isinstance(stream, trio.SocketStream):
        return partial(_receive, stream.socket)
    return partial(stream.receive_some, RECEIVE_BYTES)


async def _receive(sock: trio.socket.SocketType) -> bytes:
    """It waits before it looks, for in most cases nothing is there yet."""
    while True:
        if sock.fileno() < 0:
            raise trio.ClosedResourceError("closed here")
        await trio.lowlevel.wait_readable(sock)
        try:
            return os.read(sock.fileno(), RECEIVE_BYTES)
        except BlockingIOError:
            pass
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc


def send_now(stream: trio.abc.Stream, data: bytes) -> int:
    """How many bytes of `data` the network takes at once; only a plain socket can be asked. Raises OSError."""
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except BlockingIOError:
        return 0


async def cut(stream: trio.abc.Stream) -> None:
    """Close it now, whatever is under way."""
    if isinstance(stream, trio.SocketStream):
        stream.socket.close()
    else:
        await trio.aclose_forcefully(stream)
