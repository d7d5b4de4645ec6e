"""The control socket and its HTTP neighbours: where people and programs see the daemon, and tell it what to do."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import attrs
import trio

from saltpeter.endpoints import page
from saltpeter.endpoints.auth import Gate
from saltpeter.endpoints.channel import UNWELCOME, Channel, Limits
from saltpeter.endpoints.conversation import Client
from saltpeter.endpoints.http import Front, Routes, Upgrade
from saltpeter.endpoints.outlook import Outlooks
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.queries import Past
from saltpeter.endpoints.readiness import Check
from saltpeter.endpoints.resources import Resources
from saltpeter.endpoints.strangers import MOST
from saltpeter.engine.audit import Trail, Unaudited
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

    `checks` are what must hold for the daemon to be ready, and `metrics` is what Prometheus is told.
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
    _trail: Trail = attrs.field(factory=Unaudited)
    _outlooks: Outlooks = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = (self._board, self._past, self._commands, self._sp_version, secrets.token_hex(8))
        self._outlooks = Outlooks(*parts, self._now, self._checks, self._pulse, self._trail)

    def front(self, most_strangers: int = MOST) -> Front:
        """A server for one or more listeners: TCP and the Unix socket may share it."""
        return Front(self.routes(), Upgrade(self.converse, LIMITS), self._gate, most_strangers=most_strangers)

    def routes(self) -> Routes:
        resources = Resources(self._outlooks.of, self._metrics)
        return {**page.routes(), **resources.routes(), **self._gate.routes()}

    async def converse(self, channel: Channel) -> None:
        """Serve one client to its end, or to the end of what it was let in by."""
        log.info("Client %s connected", channel.peer, extra=fields("client.connected", peer=channel.peer))
        channel.admit()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_shut_out, channel)
            await Client(channel, self._outlooks.of(channel.person)).run()
            nursery.cancel_scope.cancel()
        log.info("Client %s has left", channel.peer, extra=fields("client.left", peer=channel.peer))

    async def _end_when_shut_out(self, channel: Channel) -> None:
        await self._gate.until_shut(channel.person)
        await channel.aclose(UNWELCOME, "log in again")
