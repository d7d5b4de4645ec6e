"""The control socket: people's requests go to the engine, and what changes goes to every client.

Each client has a task that waits for the board, one that sends, and one that reads its requests. What is
sent is worked out from the newest state when there is room for it, so a slow client gets newer news, not more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs
import trio
from typing_extensions import assert_never

from saltpeter.endpoints import control_wire as wire
from saltpeter.endpoints import views
from saltpeter.endpoints.channel import Channel, Limits
from saltpeter.endpoints.http import Front, Request, Response, Routes, Upgrade, as_json
from saltpeter.endpoints.tail import PIECES, Behind, Outputs, Tails
from saltpeter.endpoints.viewer import Viewer
from saltpeter.engine.board import Board
from saltpeter.engine.commands import Commands, HandedOver
from saltpeter.errors import CommandRefused, SaltpeterError
from saltpeter.logs import fields

MERGE_S = 0.1  # changes this close together are told at once
MAX_WAITING = 64  # kills of one client whose end is waited for

LIMITS = Limits(message=64 * 1024, queue=4)  # a short queue: what waits in it grows old

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class ControlEndpoint:
    """Serves the control socket and its HTTP neighbours. `now` gives the time as an aware datetime."""

    _board: Board
    _outputs: Outputs
    _commands: Commands
    _sp_version: str
    _now: Callable[[], datetime]

    def front(self) -> Front:
        """A server for one or more listeners: TCP and the Unix socket may share it."""
        return Front(self.routes(), Upgrade(self.converse, LIMITS))

    def routes(self) -> Routes:
        return {
            ("GET", "/version"): self._version,
            ("GET", "/healthz"): self._health,
            ("GET", "/config"): self._config,
            ("GET", "/running"): self._running,
            ("GET", "/status"): self._status,
        }

    async def converse(self, channel: Channel) -> None:
        """Serve one client to its end."""
        log.info("Client %s connected", channel.peer, extra=fields("client.connected", peer=channel.peer))
        client = Client(channel, self._board, self._outputs, self._commands, Viewer(self._sp_version))
        await client.run()
        log.info("Client %s has left", channel.peer, extra=fields("client.left", peer=channel.peer))

    async def _version(self, _request: Request) -> Response:
        return as_json({"version": self._sp_version})

    async def _health(self, _request: Request) -> Response:
        return as_json({"status": "ok", "now": self._now().isoformat(), "serial": self._board.state.serial})

    async def _config(self, _request: Request) -> Response:
        return as_json(views.config(self._board.state))

    async def _running(self, _request: Request) -> Response:
        return as_json(views.running(self._board.state))

    async def _status(self, _request: Request) -> Response:
        state = self._board.state
        return as_json(
            {
                "running": views.running(state),
                "last_state": views.last_states(state),
                "sp_version": self._sp_version,
            }
        )


@attrs.define(eq=False)
class Client:
    """One client's connection."""

    _channel: Channel
    _board: Board
    _outputs: Outputs
    _commands: Commands
    _viewer: Viewer
    _tails: Tails = attrs.field(factory=Tails, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Serve until the client goes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_board)
            nursery.start_soon(self._push)
            async with trio.open_nursery() as kills:
                async for text in self._channel:
                    await self._obey(text, kills)
                kills.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    def _poke(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    # --- what the client is told ---

    async def _watch_board(self) -> None:
        serial = self._board.state.serial
        while True:
            await self._board.newer_than(serial)
            await trio.sleep(MERGE_S)
            serial = self._board.state.serial
            self._poke()

    async def _push(self) -> None:
        while True:
            wake = self._wake  # before looking, so that nothing falls between looking and waiting
            for message in self._viewer.due(self._board.state, trio.current_time()):
                await self._send(message)
            if await self._push_output():
                continue
            with trio.move_on_at(self._viewer.wake_at):
                await wake.wait()

    async def _push_output(self) -> bool:
        """One round: a little from each machine that has more, so that none waits for another's to end."""
        behind = list(self._behind())
        for each in behind:
            pieces = await self._outputs.pieces(each.tail.execution, each.tail.next_index, PIECES)
            for message in each.tail.advance(pieces, each.mark, ended=each.ended):
                await self._send(message)
        return bool(behind)

    def _behind(self) -> Sequence[Behind]:
        state = self._board.state
        found: list[Behind] = []
        for job in self._viewer.subscribed:
            if (run := views.newest_run(state, job)) is not None:
                found += self._tails.behind(job, run)
        return found

    async def _send(self, message: dict[str, Any]) -> None:
        await self._channel.send(wire.pack(message))

    # --- what the client asks for ---

    async def _obey(self, text: str | bytes, kills: trio.Nursery) -> None:
        id = None
        try:
            request = wire.decode(text)
            id = request.id
            result = await self._do(request, kills)
        except wire.BadRequest as exc:
            await self._channel.send(wire.refusal(exc.id, exc))
        except CommandRefused as exc:
            await self._channel.send(wire.refusal(id, exc))
        except SaltpeterError as exc:
            log.exception("A request of %s failed", self._channel.peer)
            await self._channel.send(wire.refusal(id, CommandRefused("failed", str(exc))))
        else:
            if id is not None:
                await self._channel.send(wire.reply(id, result))

    async def _do(self, request: wire.Request, kills: trio.Nursery) -> dict[str, Any]:
        peer = self._channel.peer
        match request.verb:
            case wire.Run(job, machines):
                return {"job_instance": await self._commands.run(job, peer, machines)}
            case wire.Kill() as kill:
                return await self._kill(kill, request.id, kills)
            case wire.Subscribe(jobs):
                return self._subscribe(jobs)
            case wire.Unsubscribe(jobs):
                return self._unsubscribe(jobs)
            case wire.Acknowledge():
                return {}  # the pace is TCP's; a client that never acks gets its output all the same
            case wire.Reload():
                self._commands.reload(peer)
                return {}
            case verb:
                assert_never(verb)

    async def _kill(self, kill: wire.Kill, id: wire.RequestId | None, kills: trio.Nursery) -> dict[str, Any]:
        if len(kills.child_tasks) >= MAX_WAITING:
            raise CommandRefused("busy", f"{MAX_WAITING} kills of yours are not done yet")
        handed = await self._commands.kill(kill.job, self._channel.peer, kill.machine, kill.instance)
        for each in handed:
            kills.start_soon(self._report_kill, kill.job, each, id)
        return {"runs": [_as_handed(each) for each in handed]}

    async def _report_kill(self, job: str, handed: HandedOver, id: wire.RequestId | None) -> None:
        """Tell what the kill did, once it is done."""
        ended = await self._commands.ended(handed)
        machines = {execution.machine: views.killed(outcome) for execution, outcome in ended}
        receipt = {"type": "kill_receipt", "job": job, "job_instance": handed.run, "machines": machines}
        await self._send(receipt if id is None else {**receipt, "id": id})

    def _subscribe(self, jobs: Sequence[str]) -> dict[str, Any]:
        state = self._board.state
        unknown = [job for job in jobs if job not in state.config.jobs and views.newest_run(state, job) is None]
        for job in jobs:
            if job not in unknown:
                self._viewer.subscribe(job)
        self._poke()
        if unknown:
            raise CommandRefused("unknown_job", f"there is no job {unknown[0]!r}")
        return {"subscribed": list(self._viewer.subscribed)}

    def _unsubscribe(self, jobs: Sequence[str]) -> dict[str, Any]:
        for job in jobs:
            self._viewer.unsubscribe(job)
            self._tails.forget(job)
        return {"subscribed": list(self._viewer.subscribed)}


def _as_handed(handed: HandedOver) -> dict[str, Any]:
    return {
        "job_instance": handed.run,
        "machines": [execution.machine for execution in handed.executions],
        "told": [execution.machine for execution in handed.told],
    }
