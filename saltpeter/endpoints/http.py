"""A small HTTP/1.1 front: answers requests, and hands WebSocket upgrades on. One port serves both."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

import attrs
import trio

from saltpeter.domain.access import NOBODY, Person
from saltpeter.endpoints.channel import GOING_AWAY, Channel, Limits, guard, peer_of, serve_channel
from saltpeter.endpoints.channel import Handler as Talk
from saltpeter.endpoints.exchange import Conversation, Refused, Request, Response, as_json, plainly
from saltpeter.endpoints.sockets import Listener, accept_each
from saltpeter.endpoints.strangers import MOST, Strangers
from saltpeter.endpoints.throttle import network_of
from saltpeter.endpoints.transport import cut

HEAD_S = 5.0  # from connecting to the end of the first request's head
IDLE_S = 30.0  # the same for each further request
HANDLER_S = 30.0
FAREWELL_S = 3.0

__all__ = ["Front", "Handler", "Request", "Response", "Routes", "Upgrade", "as_json", "route"]

log = logging.getLogger(__name__)


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
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
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


def _is_unix(stream: trio.abc.Stream) -> bool:
    return isinstance(stream, trio.SocketStream) and stream.socket.family == socket.AF_UNIX


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


@attrs.frozen(eq=False)
class _Connection:
    """`nursery` may be that of many, and `scope` is all of this one."""

    stream: trio.abc.Stream
    peer: str
    nursery: trio.Nursery
    scope: trio.CancelScope


@attrs.define(eq=False)
class Front:
    """Serves `routes` and `upgrade` on any number of listeners. One peer's mischief or bug stays its own.

    Without a `gate` everybody may pass, as nobody. At most `most_strangers` connections are of peers that have
    not shown who they are.
    """

    _routes: Routes
    _upgrade: Upgrade | None = None
    _gate: Gatekeeper | None = None
    _most_strangers: int = MOST
    _strangers: Strangers[trio.CancelScope] = attrs.field(init=False)
    _channels: set[Channel] = attrs.field(factory=set, init=False)
    _connections: set[trio.CancelScope] = attrs.field(factory=set, init=False)
    _closing: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._strangers = Strangers(self._most_strangers)

    @property
    def strangers(self) -> int:
        """How many connections are of peers that have not shown who they are."""
        return len(self._strangers)

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

            def welcome(stream: trio.abc.Stream) -> None:
                connections.start_soon(self._converse_to_the_end, connections, stream)

            try:
                # not trio's `serve_listeners`, which closes once more what is closed: that costs two scopes and a turn
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(accept_each, listener, welcome)
                    task_status.started(list(listeners))
            finally:
                self._closing = True
                with trio.move_on_after(FAREWELL_S, shield=True):
                    await self._say_farewell()
                for scope in self._connections:
                    scope.cancel()

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end. Never raises for what the peer, or a handler, does."""
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                await self._converse(_Connection(stream, peer_of(stream), nursery, scope))

    async def _converse_to_the_end(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        # shielded, so that the farewell can still be said when the daemon is stopped: `serve` ends it
        with trio.CancelScope(shield=True) as scope:
            connection = _Connection(stream, peer_of(stream), nursery, scope)
            self._enter(connection)
            try:
                await self._converse(connection)
            finally:
                self._connections.discard(scope)
                self._strangers.leave(scope)

    async def _converse(self, connection: _Connection) -> None:
        try:
            with guard(connection.peer):
                await self._answer_all(connection)
        finally:
            await cut(connection.stream)

    def _enter(self, connection: _Connection) -> None:
        """It counts among the strangers, until it is known who that is. A Unix socket's mode has told already."""
        scope = connection.scope
        self._connections.add(scope)
        if self._closing:
            scope.cancel()
        if not _is_unix(connection.stream):
            longest = self._strangers.enter(scope, network_of(connection.peer))
            if longest is not None:
                longest.cancel()

    async def _answer_all(self, connection: _Connection) -> None:
        conversation, patience_s = Conversation(connection.stream, connection.peer), HEAD_S
        try:
            while (request := await conversation.next_request(patience_s)) is not None:
                if self._upgrade is not None and wants_websocket(request.headers):
                    await self._hand_over(connection, conversation, request, self._upgrade)
                    return
                await conversation.respond(await self._answer(request))
                if not conversation.may_go_on():
                    return
                patience_s = IDLE_S
        except Refused as refused:
            await conversation.respond(refused.response, last=True)
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

    async def _hand_over(
        self, connection: _Connection, conversation: Conversation, request: Request, upgrade: Upgrade
    ) -> None:
        refusal = judge_upgrade(upgrade, request)
        if refusal is not None:
            raise Refused(refusal)
        person = await self._admit(request)
        if isinstance(person, Response):
            raise Refused(person)
        await serve_channel(
            connection.stream,
            connection.peer,
            upgrade.limits,
            upgrade.talk,
            self._channels,
            nursery=connection.nursery,
            greeting=conversation.accept(request.headers["sec-websocket-key"]),
            person=person,
            on_admitted=partial(self._strangers.leave, connection.scope),
        )

    async def _admit(self, request: Request) -> Person | Response:
        return NOBODY if self._gate is None else await self._gate.admit(request)

    async def _say_farewell(self) -> None:
        async with trio.open_nursery() as nursery:
            for channel in self._channels:
                nursery.start_soon(channel.aclose, GOING_AWAY, "saltpeter is stopping")
