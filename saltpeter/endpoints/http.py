"""A small HTTP/1.1 front: answers requests, and hands WebSocket upgrades on. One port serves both."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

import attrs
import h11
import trio
from wsproto.utilities import generate_accept_token

from saltpeter.domain.access import NOBODY, Person
from saltpeter.endpoints.channel import GOING_AWAY, Channel, Limits, guard, peer_of, serve_channel
from saltpeter.endpoints.channel import Handler as Talk
from saltpeter.endpoints.sockets import Listener

HEAD_S = 5.0  # from connecting to the end of the first request's head
IDLE_S = 30.0  # the same for each further request
BODY_S = 10.0
HANDLER_S = 30.0
WRITE_S = 30.0
LINGER_S = 1.0
FAREWELL_S = 3.0
MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024
RECEIVE_BYTES = 64 * 1024

log = logging.getLogger(__name__)


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


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Routes: TypeAlias = Mapping[tuple[str, str], Handler]


class Gatekeeper(Protocol):
    """Decides who may pass."""

    async def admit(self, request: Request) -> Person | Response:
        """Who sent it, if they may; else what they are answered."""


@attrs.frozen
class Upgrade:
    """Where WebSockets are welcome: at `path`, or anywhere if that is None."""

    talk: Talk
    limits: Limits
    path: str | None = "/ws"


def as_json(value: object, status: int = 200) -> Response:
    return Response(status, json.dumps(value, default=str).encode() + b"\n", "application/json")


def plainly(status: int, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A response that says no more than its status."""
    return Response(status, f"{status} {HTTPStatus(status).phrase}\n".encode(), headers=headers)


class Refused(Exception):
    """A request that is answered with `response`, after which the connection ends."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def route(routes: Routes, method: str, path: str) -> Handler | Response:
    """Who answers, or the answer where nobody does. HEAD goes where GET does."""
    wanted = "GET" if method == "HEAD" else method
    if (wanted, path) in routes:
        return routes[wanted, path]
    allowed = sorted(each for each, at in routes if at == path)
    if not allowed:
        return plainly(404)
    allowed += ["HEAD"] if "GET" in allowed else []
    return plainly(405, [("Allow", ", ".join(allowed))])


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of ours sent this, or no browser did: any page may open a WebSocket to any host."""
    origin = headers.get("origin")
    return origin is None or _netloc(origin) == headers.get("host", "").lower() != ""


def _netloc(url: str) -> str:
    """Host and port of `url`, "" where it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:  # an address in brackets that is none
        return ""


def wants_websocket(headers: Mapping[str, str]) -> bool:
    return "upgrade" in _tokens(headers.get("connection", "")) and headers.get("upgrade", "").lower() == "websocket"


def judge_upgrade(upgrade: Upgrade | None, request: Request) -> Response | None:
    """The refusal that a request for a WebSocket deserves, if any."""
    if upgrade is None or upgrade.path not in (None, request.path):
        return plainly(404)
    if not is_same_origin(request.headers):
        return plainly(403)
    if request.headers.get("sec-websocket-version") != "13":
        return plainly(426, [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
    if request.method != "GET" or request.body or not request.headers.get("sec-websocket-key"):
        return plainly(400)
    return None


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


@attrs.define(eq=False)
class Front:
    """Serves `routes` and `upgrade` on any number of listeners. One peer's mischief or bug stays its own.

    Without a `gate` everybody may pass, as nobody.
    """

    _routes: Routes
    _upgrade: Upgrade | None = None
    _gate: Gatekeeper | None = None
    _channels: set[Channel] = attrs.field(factory=set, init=False)
    _connections: set[trio.CancelScope] = attrs.field(factory=set, init=False)
    _closing: bool = attrs.field(default=False, init=False)

    @property
    def connected(self) -> int:
        """How many WebSockets are open."""
        return len(self._channels)

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: trio.TaskStatus[list[Listener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; then open WebSockets are told farewell (1001), within FAREWELL_S."""
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(
                    self._converse_to_the_end, list(listeners), handler_nursery=connections, task_status=task_status
                )
            finally:
                self._closing = True
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await self._say_farewell()
                for scope in self._connections:
                    scope.cancel()

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end. Never raises for what the peer, or a handler, does."""
        peer = peer_of(stream)
        with guard(peer):
            try:
                await self._answer_all(_Conversation(stream, peer))
            finally:
                await trio.aclose_forcefully(stream)

    async def _converse_to_the_end(self, stream: trio.abc.Stream) -> None:
        # shielded, so that the farewell can still be said when the daemon is stopped: `serve` ends it
        with trio.CancelScope(shield=True) as scope, _listed(scope, self._connections):
            if self._closing:
                scope.cancel()
            await self.converse(stream)

    async def _answer_all(self, conversation: _Conversation) -> None:
        patience_s = HEAD_S
        try:
            while (request := await conversation.next_request(patience_s)) is not None:
                if self._upgrade is not None and wants_websocket(request.headers):
                    await self._hand_over(conversation, request, self._upgrade)
                    return
                await conversation.respond(request.method, await self._answer(request))
                if not conversation.may_go_on():
                    return
                patience_s = IDLE_S
        except Refused as refused:
            await conversation.respond("GET", refused.response, last=True)
            await conversation.linger()

    async def _answer(self, request: Request) -> Response:
        if request.method == "POST" and not is_same_origin(request.headers):
            return plainly(403)
        person = await self._admit(request)
        handler = route(self._routes, request.method, request.path)
        if isinstance(person, Response):
            return person
        if isinstance(handler, Response):
            return handler
        try:
            with trio.fail_after(HANDLER_S):
                return await handler(attrs.evolve(request, person=person))
        except Exception:  # the connection's boundary: the client must get an answer all the same
            log.exception("Answering %s %s failed", request.method, request.path)
            raise Refused(plainly(500)) from None

    async def _hand_over(self, conversation: _Conversation, request: Request, upgrade: Upgrade) -> None:
        refusal = judge_upgrade(upgrade, request)
        if refusal is not None:
            raise Refused(refusal)
        person = await self._admit(request)
        if isinstance(person, Response):
            raise Refused(person)
        stream = await conversation.upgraded(request.headers["sec-websocket-key"])
        await serve_channel(stream, request.peer, upgrade.limits, upgrade.talk, self._channels, person=person)

    async def _admit(self, request: Request) -> Person | Response:
        return NOBODY if self._gate is None else await self._gate.admit(request)

    async def _say_farewell(self) -> None:
        async with trio.open_nursery() as nursery:
            for channel in self._channels:
                nursery.start_soon(channel.aclose, GOING_AWAY, "saltpeter is stopping")


@contextmanager
def _listed(scope: trio.CancelScope, scopes: set[trio.CancelScope]) -> Iterator[None]:
    scopes.add(scope)
    try:
        yield
    finally:
        scopes.discard(scope)


@attrs.define(eq=False)
class _Conversation:
    """One connection's requests and responses: h11 over a stream, where every wait has a deadline."""

    _stream: trio.abc.Stream
    _peer: str
    _h11: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD), init=False
    )
    _head: h11.Request | None = attrs.field(default=None, init=False)

    async def next_request(self, patience_s: float) -> Request | None:
        """The next request with its body; None if the peer has nothing more to say. Raises Refused."""
        if self._head is not None:
            self._h11.start_next_cycle()
        try:
            with trio.move_on_after(patience_s) as patience:
                head = await self._next_event()
            if patience.cancelled_caught or not isinstance(head, h11.Request):
                return None
            self._head = head
            secure = isinstance(self._stream, trio.SSLStream)
            return _as_request(head, await self._body(), self._peer, secure=secure)
        except h11.RemoteProtocolError as exc:
            raise Refused(plainly(exc.error_status_hint)) from exc

    async def respond(self, method: str, response: Response, *, last: bool = False) -> None:
        """Send `response`; `last` says that no further one will follow. Raises trio.BrokenResourceError."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # it was being answered already when things went wrong
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("X-Content-Type-Options", "nosniff"),
            *({"Cache-Control": "no-store"} | dict(response.headers)).items(),
            *([("Connection", "close")] if last else []),
        ]
        status = response.status
        events: list[h11.Event] = [
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
            *([] if method == "HEAD" else [h11.Data(data=response.body)]),
            h11.EndOfMessage(),
        ]
        await self._write(b"".join(self._h11.send(event) or b"" for event in events))

    def may_go_on(self) -> bool:
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def linger(self) -> None:
        """Read on a little: closing on unread bytes would reset the connection, and the peer miss our answer."""
        with trio.move_on_after(LINGER_S):
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass

    async def upgraded(self, key: str) -> trio.abc.Stream:
        """Accept the upgrade of the last request; from here on it is a WebSocket. Raises trio.BrokenResourceError.

        Whoever says more before hearing so is wrong, and cut off.
        """
        if self._h11.trailing_data[0]:
            raise Refused(plainly(400))
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", generate_accept_token(key.encode()).decode()),
        ]
        accepted = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
        await self._write(self._h11.send(accepted) or b"")
        return self._stream

    async def _body(self) -> bytes:
        body = bytearray()
        with trio.move_on_after(BODY_S):
            while isinstance(event := await self._next_event(), h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise Refused(plainly(413))
            return bytes(body)
        raise Refused(plainly(408))

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            self._h11.receive_data(bytes(await self._stream.receive_some(RECEIVE_BYTES)))
        return event

    async def _write(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_S) as deadline:
            await self._stream.send_all(data)
        if deadline.cancelled_caught:
            raise trio.BrokenResourceError(f"{self._peer} does not read")


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
