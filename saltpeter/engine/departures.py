"""Wrappers' launches that are ready while another one to the same machines is under way leave together.

Salt takes as long to start one thing on a machine as to start forty: what costs is each of its jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import trio

from saltpeter.engine.execution import Execution
from saltpeter.engine.launcher import Launcher, StartWrapper, StartWrappers, again, place
from saltpeter.engine.launching import Issue, hand_out
from saltpeter.errors import LaunchError
from saltpeter.logs import fields

log = logging.getLogger(__name__)

MOST_ORDERS = 100  # in one publish: the wrapper deals with one after the other, in a few milliseconds each
MOST_CHARS = 200_000  # of what they say: Salt carries all of it again in each machine's answer, which may be a MiB
FORGET_S = 3600.0  # for so long a machine that cannot take several orders at once is given each by itself

IssueOrder: TypeAlias = Callable[[Collection[str]], Awaitable[StartWrapper]]  # to those machines, as of now


@attrs.define(eq=False)
class Passage:
    """One launch that has its place, and so its ticket. Whoever boarded must see it depart, or release it."""

    ticket: str
    machines: tuple[str, ...]
    order: StartWrapper | None = None  # until it is ready
    over: bool = attrs.field(default=False, init=False)  # nobody waits for it any more
    _executions: Collection[Execution] = attrs.field(default=(), init=False)
    _issue: IssueOrder | None = attrs.field(default=None, init=False)
    _handed_out: bool = attrs.field(default=False, init=False)
    _decided: trio.Event = attrs.field(factory=trio.Event, init=False)
    _out: trio.Event = attrs.field(factory=trio.Event, init=False)
    _error: LaunchError | None = attrs.field(default=None, init=False)

    async def depart(self, issue: IssueOrder, executions: Collection[Execution]) -> None:
        """The ledger has it: hand it out. Returns when it is out. Raises LaunchError when it never will be."""
        self._executions, self._issue = executions, issue
        self.order = await issue(self.machines)
        self._decided.set()
        await self._out.wait()
        if self._error is not None:
            raise self._error

    def release(self) -> None:
        """It is not to be handed out, or not any more."""
        self.over = True
        self._decided.set()

    async def decided(self) -> None:
        """Returns when it is ready, or released."""
        await self._decided.wait()

    @property
    def is_wanted(self) -> bool:
        """Not where all its executions have been killed meanwhile."""
        return not self.over and not all(execution.kill.cancel_called for execution in self._executions)

    @property
    def chars(self) -> int:
        return 0 if self.order is None else sum(len(name) + len(value) for name, value in self.order.env.items())

    async def current_order(self, _machines: Collection[str] = ()) -> StartWrapper:
        """The order, made anew if it has been handed out before. Raises LaunchError."""
        if self.over or self._issue is None or self.order is None:
            raise LaunchError("nobody waits for it any more")
        if self._handed_out:
            self.order = await self._issue(self.machines)
        self._handed_out = True
        return self.order

    def arrive(self, error: LaunchError | None = None) -> None:
        """It is out, or will never be; the first word counts."""
        if not self._out.is_set():
            self._error = error
            self._out.set()


@attrs.define(eq=False)
class Departure:
    """What goes out in one publish, under `ticket`."""

    ticket: str
    launcher: Launcher
    machines: tuple[str, ...]
    passages: list[Passage] = attrs.field(factory=list)  # in the order of their places

    def add(self, ticket: str) -> Passage:
        passage = Passage(ticket, self.machines)
        self.passages.append(passage)
        return passage

    def add_to_others(self) -> Passage:
        return self.add(place(self.ticket, str(len(self.passages))))

    async def leave(self) -> None:
        """Publish what has been boarded, as soon as all of it is durable."""
        for passage in self.passages:
            await passage.decided()
        wanted = [passage for passage in self.passages if passage.is_wanted]
        if wanted and wanted[0].ticket == self.ticket:
            await self._hand_out(self.ticket, wanted[0].current_order, wanted)
        elif wanted:
            together, rest = wanted[: how_many(wanted)], wanted[how_many(wanted) :]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_out, self.ticket, partial(orders_of, self.ticket, together), together)
                for passage in rest:
                    nursery.start_soon(self._hand_out, again(passage.ticket), passage.current_order, [passage])

    async def _hand_out(self, ticket: str, issue: Issue, passages: Sequence[Passage]) -> None:
        error = None
        try:
            await hand_out(self.launcher, ticket, issue, self.machines)
        except LaunchError as exc:
            error = exc
        for passage in passages:
            passage.arrive(error)


Line: TypeAlias = "tuple[int, str, tuple[str, ...]]"  # a launcher, the wrapper's path, and the machines


@attrs.define(eq=False)
class Departures:
    """One publish at a time to the same machines; what comes meanwhile leaves in the next one.

    So a launch that comes alone leaves at once, and of those that come together none waits for much more than one
    publish. Their tickets are known from the beginning: they are written down before the publish, each by its own run.
    """

    _lines: dict[Line, list[Departure]] = attrs.field(factory=dict, init=False)  # those that wait for one under way
    _singly: dict[str, float] = attrs.field(factory=dict, init=False)  # until when (trio's clock), by machine
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def board(self, launcher: Launcher, path: str, machines: Collection[str]) -> Passage:
        """Take a place in the next publish to those machines of orders for the wrapper at `path`."""
        if self._nursery is None:
            raise RuntimeError("Departures.serve is not running")
        line = (id(launcher), path, tuple(sorted(machines)))
        departure = Departure(launcher.ticket(), launcher, tuple(machines))
        if self._must_go_singly(machines):
            self._nursery.start_soon(departure.leave, name=f"departure {departure.ticket}")
            return departure.add(departure.ticket)
        if line not in self._lines:
            self._lines[line] = []
            self._nursery.start_soon(self._serve_line, line, departure, name=f"departures from {departure.ticket} on")
            return departure.add(departure.ticket)
        waiting = self._lines[line]
        if not waiting or len(waiting[-1].passages) == MOST_ORDERS:
            waiting.append(departure)
        return waiting[-1].add_to_others()

    def only_singly(self, machine: str) -> None:
        """The wrapper there cannot take several orders at once: it is an older one, or there is none."""
        if machine not in self._singly:
            text = "%s takes one order at a time: its wrapper is an older one, or missing"
            log.info(text, machine, extra=fields("launch.singly", machine=machine))
        self._singly[machine] = trio.current_time() + FORGET_S

    def _must_go_singly(self, machines: Collection[str]) -> bool:
        now = trio.current_time()
        self._singly = {machine: until for machine, until in self._singly.items() if until > now}
        return not self._singly.keys().isdisjoint(machines)

    async def _serve_line(self, line: Line, departure: Departure) -> None:
        """The line is there, if empty, as long as something of it is under way."""
        await departure.leave()
        while waiting := self._lines[line]:
            await waiting.pop(0).leave()
        del self._lines[line]


def how_many(wanted: Sequence[Passage]) -> int:
    """So many of them, from the first on, go into one publish: at least one."""
    chars = 0
    for number, passage in enumerate(wanted):
        chars += passage.chars
        if number and chars > MOST_CHARS:
            return number
    return len(wanted)


async def orders_of(ticket: str, passages: Sequence[Passage], _machines: Collection[str]) -> StartWrappers:
    """All their orders; one that cannot be made holds up none of the others."""
    orders, path = {}, ""
    for passage in passages:
        if not passage.over:
            try:
                order = await passage.current_order()
            except LaunchError as error:
                passage.arrive(error)
            else:
                orders[passage.ticket.removeprefix(f"{ticket}.")], path = order.env, order.path
    if not orders:
        raise LaunchError("nobody waits for it any more")
    return StartWrappers(path=path, orders=orders)
