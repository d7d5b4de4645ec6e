"""How a command reaches machines, as the engine sees it; `saltpeter.launch` has the ways."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, Union

import attrs
import trio

from saltpeter.domain.job import Target


@attrs.frozen(kw_only=True)
class StartWrapper:
    """Start the wrapper at `path` with `env` (SP_*, then the job's own). The launcher adds SP_MACHINE_ID.

    A machine's answer has code 0 when the wrapper took the order, 254 when it refused, 126 or 127 when
    there is no such program, each with its text.
    """

    path: str
    env: Mapping[str, str]


@attrs.frozen(kw_only=True)
class StartWrappers:
    """Hand several orders to one start of the wrapper at `path`; `orders` are environments as in StartWrapper.

    Under the ticket T of this call, each order has its own: `place(T, name)`, with its own answer. That is what a
    wrapper of its own would have said; or UNTOLD where the machine did not deal with it.
    """

    path: str
    orders: Mapping[str, Mapping[str, str]]  # by a name without dots


@attrs.frozen(kw_only=True)
class StartPlain:
    """Run `command` without a wrapper; the one answer comes at its end, with its code and output.

    `run` is put into the command's environment as SP_JOB_INSTANCE, by which `KillPlain` finds its processes.
    """

    command: str
    run: str
    job: str
    user: str | None
    cwd: str | None
    env: Mapping[str, str]
    timeout_s: float  # may be inf


@attrs.frozen(kw_only=True)
class AskStatus:
    """`sp_wrapper --status RUN`: the answer's text is its one line of JSON."""

    path: str
    run: str
    attempt: int = 1
    statedir: str = ""


@attrs.frozen(kw_only=True)
class KillThroughWrapper:
    """`sp_wrapper --kill RUN`, for a wrapper that is not connected.

    `signal` and `grace_s` take the place of those in its order, where they are given.
    """

    path: str
    run: str
    attempt: int = 1
    statedir: str = ""
    signal: str | None = None
    grace_s: float | None = None


@attrs.frozen(kw_only=True)
class KillPlain:
    """End every process that has SP_JOB_INSTANCE=`run` in its environment: `signal`, then KILL after the grace."""

    run: str
    signal: str
    grace_s: float


@attrs.frozen(kw_only=True)
class FindPlain:
    """Is the plain start of `ticket` still running there? Code 0 and a text when it is, "" when not."""

    ticket: str


@attrs.frozen
class Ping:
    """Are you there? Answered with code 0."""


OneCall: TypeAlias = Union[StartWrapper, StartPlain, AskStatus, KillThroughWrapper, KillPlain, FindPlain, Ping]
Call: TypeAlias = Union[OneCall, StartWrappers]

UNTOLD = -1  # the code of an answer: of several orders, this one was not dealt with; it may be given by itself
_AGAIN = ".again"


def place(ticket: str, name: str) -> str:
    """The ticket of one of the orders that go out under `ticket` together."""
    return f"{ticket}.{name}"


def again(ticket: str) -> str:
    """The ticket under which an order is given once more, to a machine that may drop the first one as known.

    The machine's own guard, its claim, then refuses whichever copy comes second.
    """
    return ticket + _AGAIN


def job_of(ticket: str) -> str:
    """What goes out by that name: the ticket itself, or the one that it has its place in."""
    return ticket if ticket.endswith(_AGAIN) else ticket.partition(".")[0]


@attrs.frozen
class Answer:
    """What one machine said to a call. For a start without a wrapper `text` is the command's output."""

    machine: str
    code: int
    text: str


class Launcher(Protocol):
    """A way to machines. Every method may be called from any task, at once."""

    async def match(self, target: Target) -> tuple[str, ...]:
        """The machines that `target` names now, sorted, whether up or down. Raises LaunchError for a bad
        target and LaunchUnknown while that cannot be known (the master is down)."""

    def ticket(self) -> str:
        """A new name for a call (Salt's jid): made first, made durable, then published, any number of times."""

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        """Hand `call` to `machines`. Safe to repeat with the same ticket: a machine acts on it once.

        Raises LaunchUnknown when nobody can say whether it went out, LaunchError when it cannot ever.
        """

    def answers(self, ticket: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Answer]]:
        """Each machine's answer to `ticket`, once, also those given before; and, once, to `again(ticket)`.

        Never ends by itself. Enter it before or after publishing; nothing is missed either way.
        """

    async def reachable(self) -> bool:
        """Does the way to the machines itself answer (is the Salt master up)?"""


async def ask(
    launcher: Launcher, call: Call, machines: Collection[str], within_s: float = math.inf
) -> dict[str, Answer]:
    """What those of `machines` say to `call` that answer in time. Raises as `Launcher.publish` does."""
    ticket, heard = launcher.ticket(), dict[str, Answer]()
    async with launcher.answers(ticket) as answers:
        await launcher.publish(ticket, call, machines)
        with trio.move_on_after(within_s):
            while len(heard) < len(machines):
                answer = await answers.receive()
                heard[answer.machine] = answer
    return heard
