"""Reaching machines through Salt: publish by a job id of our own, and read the answers from bus and job cache."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import Answer, Call, Ping, StartPlain, again, job_of
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.launch import calls, saltbus
from saltpeter.launch.desk import Desk, Inbox

if TYPE_CHECKING:
    from saltpeter.launch.saltmaster import SaltMaster

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_S = 2.0  # a master that does not even accept a connection within this is down
_PING_S = 3.0
# The job cache is asked about an open ticket after 1 s, then ever more rarely: while the bus is read, it only
# fills gaps. Without the bus it is all there is.
_FIRST_LOOK_S, _LAST_LOOK_S, _LAST_LOOK_WITHOUT_BUS_S = 1.0, 30.0, 2.0


class SaltLauncher:
    """Implements `saltpeter.engine.launcher.Launcher`. `serve` is a service that must run as long as it is used.

    A master that is down, up or restarting at any time is normal. A ticket is a job id of Salt's: a minion acts on
    it once, as long as it is not restarted; wrappers guard themselves against that, and a plain start is
    never sent out again once the master has it.
    """

    def __init__(
        self,
        master_config: str,
        *,
        after_import: Callable[[], None] = lambda: None,
        request_timeout_s: float = 10.0,
    ) -> None:
        self._master_config = master_config
        self._after_import = after_import
        self._request_timeout_s = request_timeout_s
        self._loaded: SaltMaster | None = None
        self._loading = trio.Lock()
        self._desk = Desk()
        self._bus_connected = False
        self._gap = trio.Event()  # set, and made anew, when answers may have gone by unheard
        self._nursery: trio.Nursery | None = None
        # a hanging master holds requests for their whole timeout; what only reads files must not wait for that
        self._requests = trio.CapacityLimiter(8)
        self._lookups = trio.CapacityLimiter(2)
        self._warned: set[str] = set()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the master's event bus. Raises LaunchError when Salt's configuration cannot be used."""
        where = saltbus.address((await self._master()).opts)
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await saltbus.listen(where, self._desk.__contains__, self._connection, self._returned)

    async def match(self, target: Target) -> tuple[str, ...]:
        if target.type is TargetType.LOCAL:
            raise LaunchError("targets of type local are not reached through Salt")
        master = await self._master()
        found = await self._in_thread(self._lookups, master.match, target)
        if found is None:
            found = await self._send(self.ticket(), Ping(), target.expression, target.type)
        return tuple(sorted(found))

    def ticket(self) -> str:
        return calls.new_ticket(datetime.now(timezone.utc))

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        master = await self._master()
        if isinstance(call, StartPlain) and await self._in_thread(self._lookups, master.has_published, ticket):
            return
        if machines:
            await self._send(ticket, call, sorted(machines), TargetType.LIST)

    @asynccontextmanager
    async def answers(self, ticket: str) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        if self._nursery is None:
            raise RuntimeError("SaltLauncher.serve is not running")
        following = trio.CancelScope()
        with self._desk.open(ticket, job_of(ticket), again(ticket)) as inbox:
            # not in a nursery of its own: that would wrap what the caller's block raises
            self._nursery.start_soon(self._follow, inbox, following, name=f"answers to {ticket}")
            try:
                yield inbox.receive
            finally:
                following.cancel()

    async def reachable(self) -> bool:
        master = await self._master()
        try:
            await self._probe(master)
        except LaunchUnknown:
            return False
        return await self._in_thread(self._requests, master.answers, _PING_S)

    async def _master(self) -> SaltMaster:
        async with self._loading:
            if self._loaded is None:
                self._loaded = await self._in_thread(self._lookups, self._load)
            return self._loaded

    def _load(self) -> SaltMaster:
        from saltpeter.launch.saltmaster import SaltMaster  # noqa: PLC0415  Salt takes 0.2 s and 30 MB

        self._after_import()
        return SaltMaster(self._master_config, self._request_timeout_s)

    async def _send(self, ticket: str, call: Call, expression: str | list[str], kind: TargetType) -> list[str]:
        master = await self._master()
        await self._probe(master)
        return await self._in_thread(self._requests, master.publish, ticket, calls.order(call), expression, kind)

    async def _probe(self, master: SaltMaster) -> None:
        """Raises LaunchUnknown unless the master's port is open: a request to a closed one costs its whole timeout."""
        host, port = master.opts["interface"], int(master.opts["ret_port"])
        with trio.move_on_after(_CONNECT_S), suppress(OSError):
            stream = await trio.open_tcp_stream(host, port)
            return await trio.aclose_forcefully(stream)
        raise LaunchUnknown(f"the Salt master at {host}:{port} is down")

    async def _follow(self, inbox: Inbox, following: trio.CancelScope) -> None:
        """Ask the job cache about a ticket, at once, after each gap of the bus, and now and then."""
        wait_s, master = _FIRST_LOOK_S, await self._master()
        with following:
            while True:
                gap = self._gap
                await self._look_up(master, inbox)
                with trio.move_on_after(wait_s) as waiting:
                    await gap.wait()
                longest_s = _LAST_LOOK_S if self._bus_connected else _LAST_LOOK_WITHOUT_BUS_S
                wait_s = min(wait_s * 1.5, longest_s) if waiting.cancelled_caught else _FIRST_LOOK_S

    async def _look_up(self, master: SaltMaster, inbox: Inbox) -> None:
        try:
            found = await self._in_thread(self._lookups, _returned_for, master, inbox.names)
        except LaunchUnknown as exc:  # the next look may go better
            if str(exc) not in self._warned:
                self._warned.add(str(exc))
                log.warning("%s", exc)
            return
        for jid, machine, returned in found:
            inbox.offer(jid, calls.answer_to(inbox.ticket, jid, machine, returned))

    def _connection(self, connected: bool) -> None:
        self._bus_connected = connected
        self._gap.set()
        self._gap = trio.Event()

    def _returned(self, event: saltbus.Return) -> None:
        for inbox in self._desk.waiting(event.jid):
            inbox.offer(event.jid, calls.answer_to(inbox.ticket, event.jid, event.minion, event.data))

    async def _in_thread(self, limiter: trio.CapacityLimiter, function: Callable[..., T], *args: object) -> T:
        """Nothing that Salt does in a thread can be stopped; all of it ends by itself: nobody waits for it."""
        return await trio.to_thread.run_sync(function, *args, limiter=limiter, abandon_on_cancel=True)


def _returned_for(master: SaltMaster, jids: Collection[str]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What the job cache has: jid, machine, and what that returned."""
    return [(jid, machine, returned) for jid in jids for machine, returned in master.returned(jid).items()]
