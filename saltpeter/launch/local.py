"""Every machine is this host: for a single host, for trying out, and for tests of many machines."""

from __future__ import annotations

import socket
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import attrs
import trio
from typing_extensions import assert_never

from saltpeter.domain.filenames import as_file_name
from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import (
    Answer,
    AskStatus,
    Call,
    FindPlain,
    KillPlain,
    KillThroughWrapper,
    OneCall,
    Ping,
    StartPlain,
    StartWrapper,
    StartWrappers,
    place,
)
from saltpeter.errors import LaunchError
from saltpeter.launch import calls, processes
from saltpeter.launch.desk import Desk
from sp_wrapper import codes

_AT_ONCE = 16  # wrappers being started; a command without a wrapper takes no place
_TICKETS_KEPT = 10_000
_KILL_GRACE_S = 5.0
_WILDCARDS = "*?["


@attrs.define
class _Ticket:
    """What became of a ticket: the machines that have acted on it, and their answers."""

    machines: set[str] = attrs.field(factory=set)
    answers: dict[str, Answer] = attrs.field(factory=dict)


class LocalLauncher:
    """Implements `saltpeter.engine.launcher.Launcher`. `serve` is a service that must run as long as it is used.

    Below `statedir` each machine gets a directory of its own for its wrappers (SP_STATEDIR). What has been
    started is left running when `serve` is cancelled.
    """

    def __init__(self, statedir: str, *, hostname: str | None = None) -> None:
        self._statedir = Path(statedir)
        self._hostname = hostname or socket.gethostname()
        self._desk = Desk()
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._places = trio.CapacityLimiter(_AT_ONCE)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def match(self, target: Target) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(sorted(named(target, self._hostname)))

    def ticket(self) -> str:
        return calls.new_ticket(datetime.now(timezone.utc))

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        if self._nursery is None:
            raise RuntimeError("LocalLauncher.serve is not running")
        if isinstance(call, StartWrappers):  # a start by itself is quick here
            for name, env in call.orders.items():
                await self.publish(place(ticket, name), StartWrapper(path=call.path, env=env), machines)
            return
        known = self._remember(ticket)
        for machine in set(machines) - known.machines:
            known.machines.add(machine)
            self._nursery.start_soon(self._carry_out, ticket, call, machine, name=f"{ticket}@{machine}")
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def answers(self, ticket: str) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        await trio.lowlevel.checkpoint()
        with self._desk.open(ticket) as inbox:
            for name in inbox.names:
                for answer in self._tickets.get(name, _Ticket()).answers.values():
                    inbox.offer(name, answer)
            yield inbox.receive

    async def reachable(self) -> bool:
        """Not while calls wait for a place: then this host is slow, and its machines cannot be blamed for it."""
        await trio.lowlevel.checkpoint()
        return not self._places.statistics().tasks_waiting

    def _remember(self, ticket: str) -> _Ticket:
        known = self._tickets.setdefault(ticket, _Ticket())
        while len(self._tickets) > _TICKETS_KEPT:
            self._tickets.popitem(last=False)
        return known

    async def _carry_out(self, ticket: str, call: OneCall, machine: str) -> None:
        try:
            answer = Answer(machine, *await self._result(call, machine))
        except processes.CannotStart as exc:
            answer = Answer(machine, codes.ERROR, str(exc))
        if ticket in self._tickets:
            self._tickets[ticket].answers[machine] = answer
        self._desk.post(ticket, answer)

    async def _result(self, call: OneCall, machine: str) -> tuple[int, str]:
        match call:
            case StartWrapper() | AskStatus() | KillThroughWrapper():
                return await self._wrapper(call, machine)
            case StartPlain():
                return await _plain(call, machine)
            case KillPlain():
                return await _kill(call, machine)
            case FindPlain():
                running = machine in self._open_machines(call.ticket)
                return 0, "running" if running else ""
            case Ping():
                return 0, ""
            case _:
                assert_never(call)

    async def _wrapper(self, call: StartWrapper | AskStatus | KillThroughWrapper, machine: str) -> tuple[int, str]:
        statedir = str(self._statedir / "machines" / f"m-{as_file_name(machine, safe='')}")
        env = {"SP_STATEDIR": statedir, **calls.wrapper_env(call), calls.MACHINE_MARK: machine}
        async with self._places:
            # by way of env, whose 126, 127 and texts tell what is wrong with the file
            return await _run(["env", *calls.wrapper_command(call)], env)

    def _open_machines(self, ticket: str) -> set[str]:
        known = self._tickets.get(ticket, _Ticket())
        return known.machines - known.answers.keys()


def named(target: Target, hostname: str) -> set[str]:
    """The machines that `target` lists by name: nothing else can be known here. Raises LaunchError for the rest."""
    names = {name.strip() for name in target.expression.split(",")} - {""}
    match target.type:
        case TargetType.LOCAL:
            return {hostname} if names <= {"*"} else names
        case TargetType.LIST:
            return names
        case TargetType.GLOB if not set(_WILDCARDS) & set(target.expression):
            return {target.expression} - {""}
        case _:
            raise LaunchError(
                f"without Salt, targets are a list of names or one name, not the {target.type.value} "
                f"{target.expression!r}; on this host each name is a machine"
            )


async def _plain(call: StartPlain, machine: str) -> tuple[int, str]:
    env = {**calls.plain_env(call), calls.MACHINE_MARK: machine}
    account = processes.Account.of(call.user) if call.user is not None else None
    with tempfile.TemporaryFile() as output:
        process = await processes.start(["/bin/sh", "-c", call.command], output, env, call.cwd, account)
        with trio.move_on_after(call.timeout_s) as limit:
            await process.wait()
        if limit.cancelled_caught:
            await _kill(KillPlain(run=call.run, signal="TERM", grace_s=_KILL_GRACE_S), machine)
            process.kill()  # should it have hidden its environment
            await process.wait()
        return codes.TIMED_OUT if limit.cancelled_caught else processes.code(process), processes.read(output)


async def _kill(call: KillPlain, machine: str) -> tuple[int, str]:
    return await _run([*calls.kill_command(call), f"{calls.MACHINE_MARK}={machine}"], {})


async def _run(argv: list[str], env: Mapping[str, str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output:
        process = await processes.start(argv, output, env)
        await process.wait()
        return processes.code(process), processes.read(output).rstrip()
