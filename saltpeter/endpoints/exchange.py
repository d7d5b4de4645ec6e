"""One connection's requests and responses: HTTP/1.1 by h11 over a stream, where every wait has a deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import attrs
import h11
import trio
from websockets.utils import accept_key

from saltpeter import jsontext
from saltpeter.domain.access import NOBODY, Person
from saltpeter.endpoints.transport import Receive, receiver

BODY_S = 10.0  # for a request's body
WRITE_S = 30.0
LINGER_S = 1.0
LINGER_BYTES = 256 * 1024
MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024

_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)

# What every answer tells a browser, where it does not say otherwise: to keep it, show it, and take it for nothing else.
GUARDING = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@attrs.frozen(kw_only=True)
class Request:
    """`headers` has lower-case names; of a repeated one the last counts. `secure`: it came over TLS."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str
    secure: bool = False
    person: Person = NOBODY  # who sent it, once that has been found out


@attrs.frozen
class Response:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()


def as_json(value: object, status: int = 200) -> Response:
    return Response(status, jsontext.dump(value) + b"\n", "application/json")


def plainly(status: int, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A response that says no more than its status."""
    return Response(status, f"{status} {HTTPStatus(status).phrase}\n".encode(), headers=headers)


class Refused(Exception):
    """A request that is answered with `response`, after which the connection ends."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@attrs.define(eq=False)
class Conversation:
    """What one connection's peer asks, and is answered."""

    stream: trio.abc.Stream
    _peer: str
    _incoming: Receive = attrs.field(init=False)
    _h11: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD), init=False
    )
    _head: h11.Request | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._incoming = receiver(self.stream)

    async def next_request(self, patience_s: float) -> Request | None:
        """The next request with its body; None if the peer has nothing more to say. Raises Refused."""
        if self._head is not None:
            self._h11.start_next_cycle()
            self._head = None
        try:
            with trio.move_on_after(patience_s) as patience:
                head = await self._next_event()
                if not isinstance(head, h11.Request):
                    return None
                self._head = head
                if _has_body(head):
                    patience.deadline = trio.current_time() + BODY_S
                secure = isinstance(self.stream, trio.SSLStream)
                return _as_request(head, await self._body(), self._peer, secure=secure)
        except h11.RemoteProtocolError as exc:
            raise Refused(plainly(exc.error_status_hint)) from exc
        if self._head is not None:
            raise Refused(plainly(408))
        return None

    async def respond(self, response: Response, *, last: bool = False) -> None:
        """Send `response`; `last` says that no further one will follow. Raises trio.BrokenResourceError."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # it was being answered already when things went wrong
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *(GUARDING | dict(response.headers)).items(),
            *([("Connection", "close")] if last else []),
        ]
        status = response.status
        is_bare = self._head is not None and self._head.method == b"HEAD"
        events: list[h11.Event] = [
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
            *([] if is_bare else [h11.Data(data=response.body)]),
            h11.EndOfMessage(),
        ]
        await self._write(b"".join(self._h11.send(event) or b"" for event in events))

    def may_go_on(self) -> bool:
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def linger(self) -> None:
        """Read on a little: closing on unread bytes would reset the connection, and the peer miss our answer."""
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_S):
            while left > 0 and (data := await self._incoming()):
                left -= len(data)

    def accept(self, key: str) -> bytes:
        """What accepts the upgrade of the last request: once it is sent, the stream is a WebSocket. Raises Refused.

        Whoever says more before hearing so is wrong, and cut off.
        """
        if self._h11.trailing_data[0]:
            raise Refused(plainly(400))
        return _ACCEPTED % accept_key(key).encode()

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise Refused(plainly(413))
        return bytes(body)

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            self._h11.receive_data(bytes(await self._incoming()))
        return event

    async def _write(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_S) as deadline:
            await self.stream.send_all(data)
        if deadline.cancelled_caught:
            raise trio.BrokenResourceError(f"{self._peer} does not read")


def _has_body(head: h11.Request) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in head.headers)


def _as_request(head: h11.Request, body: bytes, peer: str, *, secure: bool) -> Request:
    path, _, query = head.target.decode("ascii", "replace").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(
        method=head.method.decode("ascii"),
        path=path,
        query=query,
        headers=headers,
        body=body,
        peer=peer,
        secure=secure,
    )
