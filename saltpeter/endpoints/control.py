"""The control socket and its HTTP neighbours: where people and programs see the daemon, and tell it what to do."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import attrs
import trio

from saltpeter.endpoints import page, verbs, views
from saltpeter.endpoints.auth import Gate
from saltpeter.endpoints.channel import UNWELCOME, Channel, Limits
from saltpeter.endpoints.conversation import Client
from saltpeter.endpoints.deltas import Because, Deltas, Texts
from saltpeter.endpoints.desk import Desk
from saltpeter.endpoints.http import Front, Routes, Upgrade
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.queries import Past, Queries
from saltpeter.endpoints.readiness import Check
from saltpeter.endpoints.records import Result
from saltpeter.endpoints.resources import Resources
from saltpeter.endpoints.strangers import MOST
from saltpeter.endpoints.viewer import Viewer
from saltpeter.engine.audit import Note, unnoted
from saltpeter.engine.board import Board
from saltpeter.engine.commands import Commands
from saltpeter.logs import fields

# room for a request of MAX_NAMES names, however long those are; a short queue: what waits in it grows old
LIMITS = Limits(message=256 * 1024, queue=4)

log = logging.getLogger(__name__)


async def _no_metrics() -> bytes:
    return b""


@attrs.define(eq=False)
class ControlEndpoint:
    """Serves the control socket to whom `gate` lets in. `now` gives the time as an aware datetime.

    `checks` are what must hold for the daemon to be ready, and `metrics` is what Prometheus is told. `note` keeps
    the audit.
    """

    _board: Board
    _past: Past
    _commands: Commands
    _sp_version: str
    _now: Callable[[], datetime]
    _gate: Gate
    _checks: Mapping[str, Check] = attrs.field(factory=dict)
    _metrics: Callable[[], Awaitable[bytes]] = _no_metrics
    _pulse: Pulse = attrs.field(factory=Pulse)
    _note: Note = unnoted
    _desk: Desk = attrs.field(init=False)
    _living: views.Running = attrs.field(factory=views.Running, init=False)
    _texts: Texts = attrs.field(factory=Texts, init=False)
    _life: str = attrs.field(factory=lambda: secrets.token_hex(8), init=False)  # whose serials they are

    def __attrs_post_init__(self) -> None:
        queries = Queries(self._board, self._past, self._now, self._checks, self._pulse)
        self._desk = Desk(self._commands, queries, self._note)

    def front(self, most_strangers: int = MOST) -> Front:
        """A server for one or more listeners: TCP and the Unix socket may share it."""
        return Front(self.routes(), Upgrade(self.converse, LIMITS), self._gate, most_strangers=most_strangers)

    def routes(self) -> Routes:
        resources = Resources(self._board, self._desk, self._sp_version, self._checks, self._metrics)
        return {**page.routes(), **resources.routes(), **self._gate.routes()}

    async def converse(self, channel: Channel) -> None:
        """Serve one client to its end, or to the end of what it was let in by."""
        log.info("Client %s connected", channel.peer, extra=fields("client.connected", peer=channel.peer))
        channel.admit()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_shut_out, channel)
            await Client(channel, self._board, self._desk, self._first_viewer(), self._greet).run()
            nursery.cancel_scope.cancel()
        log.info("Client %s has left", channel.peer, extra=fields("client.left", peer=channel.peer))

    async def _end_when_shut_out(self, channel: Channel) -> None:
        await self._gate.until_shut(channel.person)
        await channel.aclose(UNWELCOME, "log in again")

    def _first_viewer(self) -> Viewer:
        return Viewer(self._sp_version, self._living)

    def _greet(self, hello: verbs.Hello) -> tuple[Viewer | Deltas, Result]:
        """The view of a client that says hello, and what it is answered."""
        if hello.protocol == 1:
            return self._first_viewer(), {"protocol": 1, "sp_version": self._sp_version}
        known = hello.serial if hello.life == self._life else None
        resumed = known is not None and self._board.state.changes.since(known) is not None
        because: Because = "new" if hello.serial is None else "too_old" if hello.life == self._life else "restarted"
        serial = known if resumed else None if hello.listen else self._board.state.serial
        told = {"protocol": 2, "life": self._life, "serial": self._board.state.serial, "resumed": resumed}
        same_life = hello.life == self._life or (hello.life is None and hello.serial is None)  # or it knows nothing
        viewer = Deltas(self._sp_version, self._life, self._texts, serial, because, hello.listen, same_life)
        return viewer, {**told, "sp_version": self._sp_version}
