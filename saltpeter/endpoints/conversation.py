"""One client's connection to the control socket: what it asks for, and what it is told.

It has a task that waits for the board, one that sends, and one that reads its requests. What is sent is worked
out from the newest state when there is room for it, so a slow client gets newer news, not more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import attrs
import trio

from saltpeter.domain.state import RunState
from saltpeter.endpoints import control_wire as wire
from saltpeter.endpoints import permissions, verbs, views
from saltpeter.endpoints.channel import Channel
from saltpeter.endpoints.deltas import Deltas
from saltpeter.endpoints.desk import CHANGES, Desk, handed_over
from saltpeter.endpoints.forms import BadRequest, RequestId
from saltpeter.endpoints.outlook import Outlook
from saltpeter.endpoints.records import Result
from saltpeter.endpoints.tail import PIECES, Behind, Tails
from saltpeter.endpoints.viewer import Viewer
from saltpeter.engine.board import Shown
from saltpeter.engine.commands import HandedOver
from saltpeter.errors import CommandRefused, SaltpeterError

MERGE_S = 0.1  # changes this close together are told at once
HELLO_S = 0.1  # a client that speaks protocol 2 says so by then, or is told something of protocol 1 in vain
MAX_WAITING = 64  # kills of one client whose end is waited for
MAX_SUBSCRIBED = 10_000

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Client:
    """One client's connection."""

    _channel: Channel
    _outlook: Outlook
    _viewer: Viewer | Deltas = attrs.field(init=False)
    _tails: Tails = attrs.field(factory=Tails, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    _merged: bool = attrs.field(default=True, init=False)  # there may be more to tell than output
    _shown: dict[str, RunState | None] = attrs.field(factory=dict, init=False)  # which run of each job is told of
    _spoken: trio.Event = attrs.field(factory=trio.Event, init=False)  # the client has asked for something

    def __attrs_post_init__(self) -> None:
        self._viewer = self._outlook.first_viewer()

    @property
    def _board(self) -> Shown:
        return self._outlook.board

    @property
    def _desk(self) -> Desk:
        return self._outlook.desk

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

    def _poke(self, *, merged: bool = True) -> None:
        """Look for something to tell; unless `merged`, for output only."""
        self._merged |= merged
        self._wake.set()
        self._wake = trio.Event()

    # --- what the client is told ---

    async def _watch_board(self) -> None:
        serial = self._board.state.serial
        while True:
            await self._board.newer_than(serial)
            self._poke(merged=False)  # output need not wait for what else changes with it
            await trio.sleep(MERGE_S)
            serial = self._board.state.serial
            self._poke()

    async def _push(self) -> None:
        with trio.move_on_after(HELLO_S):
            await self._spoken.wait()
        rounds = 0  # of output, since there was none to send
        while True:
            wake = self._wake  # before looking, so that nothing falls between looking and waiting
            if self._merged or trio.current_time() >= self._viewer.wake_at:
                self._merged = False
                for message in self._due():
                    await self._channel.send(message)
            if await self._push_output():
                rounds += 1
                self._merged |= rounds > 1  # a flood of it must not keep the rest waiting
                continue
            rounds = 0
            with trio.move_on_at(self._viewer.wake_at):
                await wake.wait()

    def _due(self) -> Sequence[str]:
        self._unsubscribe(self._outlook.lost(self._viewer.subscribed))
        state = self._board.state
        self._shown = {job: self._viewer.run_of(state, job) for job in self._viewer.subscribed}
        return self._viewer.due(state, trio.current_time(), self._desk.queries.now())

    async def _push_output(self) -> bool:
        """One round: a little from each machine that has more, so that none waits for another's to end."""
        behind = list(self._behind())
        for each in behind:
            pieces = await self._desk.queries.past.pieces(each.tail.execution, each.tail.next_index, PIECES)
            for message in each.tail.advance(pieces, each.mark):
                await self._send(message)
        return bool(behind)

    def _behind(self) -> Sequence[Behind]:
        state = self._board.state
        found: list[Behind] = []
        for job in self._viewer.subscribed:
            run = self._viewer.run_of(state, job)
            if run is not None and run is self._shown.get(job):  # of a run that the client has heard of
                found += self._tails.behind(job, run, state.touched.get(job, 0))
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
        except BadRequest as exc:
            await self._channel.send(wire.refusal(exc.id or id, exc))
        except CommandRefused as exc:
            await self._channel.send(wire.refusal(id, exc))
        except SaltpeterError as exc:
            log.exception("A request of %s failed", self._channel.peer)
            await self._channel.send(wire.refusal(id, CommandRefused("failed", str(exc))))
        else:
            if id is not None:
                await self._channel.send(wire.reply(id, result))
        finally:
            self._spoken.set()

    async def _do(self, request: wire.Request, kills: trio.Nursery) -> Result:  # noqa: PLR0911  one for each request
        if not isinstance(request.verb, CHANGES):  # those the desk judges, which also notes what it refuses
            permissions.require(self._channel.person, request.verb)
        match request.verb:
            case verbs.Hello() as hello:
                return self._turn_to(hello)
            case verbs.Kill() as kill:
                return await self._kill(kill, request.id, kills)
            case verbs.Subscribe(subscriptions):
                return await self._subscribe(subscriptions)
            case verbs.Unsubscribe(jobs):
                return self._unsubscribe(jobs)
            case verbs.Leave(job, machine):
                self._tails.leave(job, machine)
                return self._subscribed()
            case verbs.Acknowledge():
                return {}  # the pace is TCP's; a client that never acks gets its output all the same
            case verbs.GetTimeline() as asked:
                timeline = await self._desk.answer(asked, self._channel.person)
                await self._send({"type": "timeline", "timeline": timeline})
                return timeline
            case asked:
                return await self._desk.answer(asked, self._channel.person)

    def _turn_to(self, hello: verbs.Hello) -> Result:
        """From now on speak the protocol that the client wants; what it knows already is not told again."""
        if self._viewer.subscribed:
            raise CommandRefused("bad_request", "hello comes before anything is subscribed to")
        self._viewer, told = self._outlook.greet(hello)
        self._poke()
        return told

    async def _kill(self, kill: verbs.Kill, id: RequestId | None, kills: trio.Nursery) -> Result:
        if len(kills.child_tasks) >= MAX_WAITING:
            raise CommandRefused("busy", f"{MAX_WAITING} kills of yours are not done yet")
        handed = await self._desk.kill(kill, self._channel.person)
        for each in handed:
            kills.start_soon(self._report_kill, kill.job, each, id)
        return handed_over(handed)

    async def _report_kill(self, job: str, handed: HandedOver, id: RequestId | None) -> None:
        """Tell what the kill did, once it is done."""
        ended = await self._desk.commands.ended(handed)
        if self._outlook.lost([job]):
            return
        machines = {execution.machine: views.killed(outcome) for execution, outcome in ended}
        receipt = {"type": "kill_receipt", "job": job, "job_instance": handed.run, "machines": machines}
        await self._send(receipt if id is None else {**receipt, "id": id})

    async def _subscribe(self, subscriptions: Sequence[verbs.Subscription]) -> Result:
        """Begin with all that are known; then refuse the first that is not."""
        refused: list[CommandRefused] = []
        for wanted in subscriptions:
            try:
                await self._begin(wanted)
            except CommandRefused as exc:
                refused.append(exc)
        self._poke()
        if refused:
            raise refused[0]
        return self._subscribed()

    async def _begin(self, wanted: verbs.Subscription) -> None:
        newest = views.newest_run(self._board.state, wanted.job)
        pinned = None if wanted.instance is None else await self._desk.queries.find(wanted.instance)
        if pinned is None and newest is None:
            self._desk.queries.job(wanted.job)
        if pinned is not None and pinned.job != wanted.job:
            raise CommandRefused("unknown_run", f"{pinned.id} is a run of {pinned.job}")
        if wanted.job not in self._viewer.subscribed and len(self._viewer.subscribed) >= MAX_SUBSCRIBED:
            raise CommandRefused("busy", f"you have subscribed to {MAX_SUBSCRIBED} jobs already")
        run = pinned or newest
        self._viewer.subscribe(wanted.job, pinned, wanted.serial)
        if wanted.output:
            self._tails.want(wanted.job, run.id if run else "", wanted.machine, wanted.position)
        else:
            self._tails.want_none(wanted.job)

    def _unsubscribe(self, jobs: Collection[str]) -> Result:
        for job in jobs:
            self._viewer.unsubscribe(job)
            self._tails.forget(job)
        return self._subscribed()

    def _subscribed(self) -> Result:
        return {"subscribed": list(self._viewer.subscribed)}
