"""A client of the daemon's control socket, for the command line."""

from __future__ import annotations

import itertools
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, Union
from urllib.parse import urlsplit

import attrs
import trio
from exceptiongroup import BaseExceptionGroup, catch
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from saltpeter import jsontext
from saltpeter.errors import CommandRefused, SaltpeterError

CONNECT_S = 5.0
CLOSE_S = 2.0
MAX_MESSAGE = 64 * 1024 * 1024  # characters: the whole configuration of a large fleet is one message
RECEIVE_BYTES = 64 * 1024
PATH = "/ws"
CA_HINT = "say with --ca which certificate is to be trusted"
START_HINT = "start one with `saltpeter -c DIR`, or say with --socket where it is"

_Stream: TypeAlias = Union[trio.SocketStream, trio.SSLStream[trio.SocketStream]]


class DaemonUnreachable(SaltpeterError):
    """No daemon answers there."""


class NotLetIn(SaltpeterError):
    """The daemon wants a token, or another one."""


class ConnectionLost(SaltpeterError):
    """The daemon has gone, or ended the connection."""


@attrs.define(eq=False)
class Client(AsyncIterator[dict[str, Any]]):
    """A connection to the daemon, for one task at a time. Messages are JSON objects as dicts.

    Iterating gives what the daemon tells of itself (all but replies), without end. Raises ConnectionLost.
    """

    _ws: WebSocketConnection
    _ids: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _pushed: deque[dict[str, Any]] = attrs.field(factory=deque, init=False)  # while a reply was waited for

    async def request(self, verb: str, value: object) -> Any:
        """Ask for something and return its result. Raises CommandRefused or ConnectionLost."""
        id = next(self._ids)
        try:
            await self._ws.send_message(json.dumps({verb: value, "id": id}))
        except ConnectionClosed as exc:
            raise ConnectionLost(_why(exc)) from exc
        while True:
            message = await self._receive()
            if message.get("type") != "reply" or message.get("id") != id:
                self._pushed.append(message)
            elif message["ok"]:
                return message["result"]
            else:
                raise CommandRefused(message["error"]["code"], message["error"]["message"])

    async def hello(self, *, listen: bool = True) -> dict[str, Any]:
        """Speak protocol 2 from now on. Without `listen` only answers come, and what is subscribed to."""
        answer: dict[str, Any] = await self.request("hello", {"protocol": 2, "listen": listen})
        return answer

    async def __anext__(self) -> dict[str, Any]:
        return self._pushed.popleft() if self._pushed else await self._receive()

    async def _receive(self) -> dict[str, Any]:
        try:
            message: dict[str, Any] = jsontext.load(await self._ws.get_message())
        except ConnectionClosed as exc:
            raise ConnectionLost(_why(exc)) from exc
        return message


@attrs.frozen
class Access:
    """What opens a daemon's TCP port. `ca` is a file of certificates to trust in place of the host's own."""

    token: str = attrs.field(default="", repr=False)
    ca: Path | None = None


OPEN = Access()


@asynccontextmanager
async def connect(where: Path | str, access: Access = OPEN) -> AsyncIterator[Client]:
    """Connect to the Unix socket at the path `where`, or to the URL `where` (`ws://host:port`, or `wss:`).

    Raises DaemonUnreachable or NotLetIn, and ValueError for what is no such URL.
    """

    def reject(rejections: BaseExceptionGroup[ConnectionRejected]) -> None:
        raise _translated(_first(rejections), where)

    raised: BaseException | None = None
    with catch({ConnectionRejected: reject}):
        async with await _dial(where, access) as stream, trio.open_nursery() as nursery:
            try:
                async with _conversing(nursery, stream, where, access.token) as client:
                    yield client
            except (Exception, KeyboardInterrupt) as exc:
                raised = exc  # raised below: out of here it would come in a group
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


@asynccontextmanager
async def _conversing(nursery: trio.Nursery, stream: _Stream, where: Path | str, token: str) -> AsyncIterator[Client]:
    ws = await _shake_hands(nursery, stream, where, token)
    try:
        yield Client(ws)
    finally:
        with trio.move_on_after(CLOSE_S):
            await ws.aclose()


def _first(group: BaseExceptionGroup[ConnectionRejected]) -> ConnectionRejected:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _translated(rejection: ConnectionRejected, where: Path | str) -> SaltpeterError:
    """What a refused handshake means."""
    try:
        return NotLetIn(f"{where}: {json.loads(rejection.body or b'')['error']['message']}")
    except (ValueError, KeyError, TypeError):
        return DaemonUnreachable(f"what answers at {where} is no saltpeter daemon that lets us in ({rejection!r})")


async def _dial(where: Path | str, access: Access) -> _Stream:
    try:
        with trio.fail_after(CONNECT_S):
            if isinstance(where, Path):
                return await trio.open_unix_socket(where)
            return await _open_url(where, access.ca)
    except FileNotFoundError:
        why = "nothing is there"
    except trio.TooSlowError:
        why = f"not within {CONNECT_S:g} seconds"
    except trio.BrokenResourceError as exc:
        raise DaemonUnreachable(f"no trusted saltpeter daemon answers at {where} ({exc.__cause__}); {CA_HINT}") from exc
    except OSError as exc:
        why = exc.strerror or str(exc)
    raise DaemonUnreachable(f"no saltpeter daemon answers at {where} ({why}); {START_HINT}")


async def _shake_hands(nursery: trio.Nursery, stream: _Stream, where: Path | str, token: str) -> WebSocketConnection:
    headers = [(b"Authorization", f"Bearer {token}".encode())] if token and not isinstance(where, Path) else []
    host = "localhost" if isinstance(where, Path) else urlsplit(where).netloc
    with trio.move_on_after(CONNECT_S):
        return await wrap_client_stream(
            nursery,
            stream,
            host,
            PATH,
            extra_headers=headers,
            max_message_size=MAX_MESSAGE,
            receive_buffer_size=RECEIVE_BYTES,
        )
    raise DaemonUnreachable(f"what listens at {where} does not answer like a saltpeter daemon")


def host_and_port(url: str) -> tuple[str, int]:
    """What the URL of a control socket names. Raises ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or parts.hostname is None:
        raise ValueError(f"not the URL of a control socket (ws://host:port): {url!r}")
    return parts.hostname, parts.port or (80 if parts.scheme == "ws" else 443)


async def _open_url(url: str, ca: Path | None) -> _Stream:
    host, port = host_and_port(url)
    if urlsplit(url).scheme == "ws":
        return await trio.open_tcp_stream(host, port)
    trusted = ssl.create_default_context(cafile=ca)
    stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True, ssl_context=trusted)
    await stream.do_handshake()
    return stream


def _why(exc: ConnectionClosed) -> str:
    reason = exc.reason.reason if exc.reason else None
    return f"the daemon ended the connection: {reason}" if reason else "the connection to the daemon was lost"
