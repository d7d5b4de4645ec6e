"""A fleet that exists only in virtual time. `tests/launch/test_launcher_contract.py` keeps it true to the real ones.

A test plays the machines:

    fleet = FakeLauncher({"m1": FakeMachine(), "m2": FakeMachine(up=False)})
    fleet.machines["m1"].on_start = lambda machine, call: Reply(254, "claimed already")

What a machine does is changed at any time by setting the attributes of its FakeMachine or of the fleet.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import trio

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import (
    UNTOLD,
    Answer,
    Call,
    FindPlain,
    KillPlain,
    OneCall,
    Ping,
    StartPlain,
    StartWrapper,
    StartWrappers,
    place,
)
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.launch.desk import Desk
from sp_wrapper import codes


@attrs.frozen
class Reply:
    """What a machine says to a call, `after_s` seconds after it acted on it (on top of its `answer_delay_s`)."""

    code: int = 0
    text: str = ""
    after_s: float = 0.0


OnCall: TypeAlias = Callable[[str, Call], "Reply | None"]

MISSING = Reply(127, "env: '{path}': No such file or directory")
NO_SUCH_OPTION = Reply(UNTOLD, "sp_wrapper: error: unrecognized arguments: --orders")
NOT_EXECUTABLE = Reply(126, "env: '{path}': Permission denied")


@attrs.define
class FakeMachine:
    """One machine and what befalls it.

    `on_start` is called when a start reaches the machine, once for each ticket; what it returns is the answer (None:
    code 0 at once; for a wrapper's start that is "the order was taken"). For a plain start `Reply(code, output,
    after_s=duration)` is the command's end, unless its timeout or a KillPlain comes first. `on_call` answers
    AskStatus and KillThroughWrapper. A machine that is up answers everything else by itself.
    """

    up: bool = True  # False: what is published now never gets there, not even later
    start_delay_s: float = 0.1  # from publishing to acting
    answer_delay_s: float = 0.05  # from acting to the answer
    answers_lost: bool = False  # it acts, and nobody ever hears about it
    wrapper: Reply | None = None  # MISSING or NOT_EXECUTABLE: nothing starts there
    takes_several: bool = True  # orders at once; an older wrapper does not know how
    on_start: OnCall | None = None
    on_call: OnCall | None = None
    acted_on: list[tuple[str, Call]] = attrs.field(factory=list)  # every (ticket, call), oldest first
    _known: set[str] = attrs.field(factory=set, init=False)  # the tickets it would not act on again
    _plain: dict[str, tuple[StartPlain, trio.CancelScope]] = attrs.field(factory=dict, init=False)  # running

    def restart(self) -> None:
        """As a minion's restart: it forgets the tickets that it has seen."""
        self._known.clear()

    @property
    def starts(self) -> list[Call]:
        """The starts that it acted on, pings and questions left out."""
        return [call for _, call in self.acted_on if isinstance(call, (StartWrapper, StartPlain))]

    def accept(self, ticket: str, call: Call) -> Mapping[str, OneCall]:
        """What it has to do, by the ticket of each: nothing when it knows the ticket already."""
        if ticket in self._known:
            return {}
        self._known.add(ticket)
        calls = _singly(ticket, call)
        self.acted_on += calls.items()
        return calls

    async def act(self, name: str, ticket: str, call: OneCall) -> Reply:
        """Carry out `call`, to its end."""
        match call:
            case StartWrapper():
                return await self._start_wrapper(name, call)
            case StartPlain():
                return await self._run_plain(name, ticket, call)
            case KillPlain():
                return self._kill_plain(call)
            case FindPlain():
                return Reply(0, "running" if call.ticket in self._plain else "")
            case Ping():
                return Reply()
            case _:
                return await _in_time((self.on_call and self.on_call(name, call)) or Reply())

    async def _start_wrapper(self, name: str, call: StartWrapper) -> Reply:
        if self.wrapper is not None:
            return attrs.evolve(self.wrapper, text=self.wrapper.text.format(path=call.path))
        return await _in_time((self.on_start and self.on_start(name, call)) or Reply())

    async def _run_plain(self, name: str, ticket: str, call: StartPlain) -> Reply:
        reply = (self.on_start and self.on_start(name, call)) or Reply()
        with trio.CancelScope() as killed, trio.move_on_after(call.timeout_s):
            self._plain[ticket] = call, killed
            try:
                return await _in_time(reply)
            finally:
                del self._plain[ticket]
        return Reply(codes.KILLED if killed.cancelled_caught else codes.TIMED_OUT)

    def _kill_plain(self, call: KillPlain) -> Reply:
        for running, scope in self._plain.values():
            if running.run == call.run:
                scope.cancel()
        return Reply()


@attrs.define
class FakeLauncher:
    """Implements `saltpeter.engine.launcher.Launcher` without leaving the process.

    While `master_up` is False nothing is published, answers that machines give are lost, and `match` and `publish`
    raise LaunchUnknown. With `publish_times_out` a publish goes out, and raises LaunchUnknown all the same. `refuse` is
    the text of a LaunchError for every publish.
    """

    machines: dict[str, FakeMachine]
    master_up: bool = True
    match_s: float = 0.0
    publish_s: float = 0.02
    publish_times_out: bool = False
    refuse: str | None = None
    nodegroups: Mapping[str, Collection[str]] = attrs.field(factory=dict)
    published: list[tuple[str, Call, tuple[str, ...]]] = attrs.field(factory=list)  # each that went out, oldest first
    _answers: dict[str, dict[str, Answer]] = attrs.field(factory=dict, init=False)
    _desk: Desk = attrs.field(factory=Desk, init=False)
    _count: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    async def match(self, target: Target) -> tuple[str, ...]:
        await trio.sleep(self.match_s)
        if not self.master_up:
            raise LaunchUnknown("the master does not answer")
        return tuple(sorted(_matching(self.machines, target, self.nodegroups)))

    def ticket(self) -> str:
        return f"20250101000000{next(self._count):06}_fake"

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        await trio.sleep(self.publish_s)
        if self.refuse is not None:
            raise LaunchError(self.refuse)
        if not self.master_up:
            raise LaunchUnknown("the master does not answer")
        if isinstance(call, StartPlain) and any(known == ticket for known, _, _ in self.published):
            return  # nothing on the machine guards a plain start, so it goes out once
        self.published.append((ticket, call, tuple(machines)))
        for name in machines:
            if name in self.machines and self.machines[name].up:
                trio.lowlevel.spawn_system_task(self._carry_out, name, ticket, call, name=f"{ticket}@{name}")
        if self.publish_times_out:
            raise LaunchUnknown("the request timed out")

    @asynccontextmanager
    async def answers(self, ticket: str) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        await trio.lowlevel.checkpoint()
        with self._desk.open(ticket) as inbox:
            for own in inbox.names:
                for answer in self._answers.get(own, {}).values():
                    inbox.offer(own, answer)
            yield inbox.receive

    async def reachable(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.master_up

    async def _carry_out(self, name: str, ticket: str, call: Call) -> None:
        machine = self.machines[name]
        await trio.sleep(machine.start_delay_s)
        if not machine.up:
            return
        if isinstance(call, StartWrappers) and not machine.takes_several:
            return await self._answer(name, {place(ticket, each): NO_SUCH_OPTION for each in call.orders})
        replies: dict[str, Reply] = {}
        async with trio.open_nursery() as nursery:  # Salt has one answer to all of it
            for own, each in machine.accept(ticket, call).items():
                nursery.start_soon(self._act, replies, name, own, each)
        await self._answer(name, replies)

    async def _act(self, replies: dict[str, Reply], name: str, ticket: str, call: OneCall) -> None:
        replies[ticket] = await self.machines[name].act(name, ticket, call)

    async def _answer(self, name: str, replies: Mapping[str, Reply]) -> None:
        machine = self.machines[name]
        await trio.sleep(machine.answer_delay_s)
        if self.master_up and machine.up and not machine.answers_lost:
            for ticket, reply in replies.items():
                answer = Answer(name, reply.code, reply.text)
                self._answers.setdefault(ticket, {}).setdefault(name, answer)
                self._desk.post(ticket, answer)


def _singly(ticket: str, call: Call) -> dict[str, OneCall]:
    if not isinstance(call, StartWrappers):
        return {ticket: call}
    return {place(ticket, name): StartWrapper(path=call.path, env=env) for name, env in call.orders.items()}


async def _in_time(reply: Reply) -> Reply:
    await trio.sleep(reply.after_s)
    return reply


def _matching(names: Iterable[str], target: Target, nodegroups: Mapping[str, Collection[str]]) -> Iterable[str]:
    match target.type:
        case TargetType.GLOB:
            return fnmatch.filter(names, target.expression)
        case TargetType.PCRE:
            return _like(names, target.expression)
        case TargetType.LIST | TargetType.LOCAL:
            return set(names) & set(target.expression.split(","))
        case TargetType.NODEGROUP if target.expression in nodegroups:
            return set(names) & set(nodegroups[target.expression])
        case _:
            raise LaunchError(f"no machine can be found by {target.type.value} {target.expression!r}")


def _like(names: Iterable[str], pattern: str) -> Iterable[str]:
    try:
        return [name for name in names if re.match(pattern, name)]
    except re.error as exc:
        raise LaunchError(f"{pattern!r} is no regular expression: {exc}") from exc
