"""The whole daemon in a process of its own, on machines that somebody else plays.

    python -m tests.bench.plant CONF_D FLEET

The machines are as many as a target says: `m:1000`. What is published for them goes to the Unix socket FLEET, a line
of JSON each; a target `broken:5` names machines that answer at once that they have no wrapper. A line that comes from
there is answered with how the loop fared since the last one. Answers come ANSWER_S after the publish, for so long
Salt takes at the least.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import attrs
import trio

from saltpeter import logs
from saltpeter.daemon import Daemon, Ground
from saltpeter.domain.job import Target
from saltpeter.engine.gather import Pile
from saltpeter.engine.lag import LagWatch
from saltpeter.engine.launcher import Answer, Call, Launcher, StartWrapper, StartWrappers, place
from saltpeter.host import host
from saltpeter.launch import calls
from saltpeter.launch.desk import Desk
from tests.bench.machine import raise_limits

NO_WRAPPER = 127
ANSWER_S = 0.2


@attrs.define(eq=False)
class Fleet:
    """The way to who plays the machines."""

    stream: trio.SocketStream
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def say(self, line: Mapping[str, object]) -> None:
        async with self._lock:
            await self.stream.send_all(json.dumps(line).encode() + b"\n")


@attrs.define(eq=False)
class SimulatedLauncher:
    """Implements `saltpeter.engine.launcher.Launcher`."""

    _fleet: Fleet
    _nursery: trio.Nursery
    _desk: Desk = attrs.field(factory=Desk)
    _answers: Pile[tuple[float, str, Answer]] = attrs.field(factory=lambda: Pile("answers"), init=False)

    async def _answer(self, answers: Collection[tuple[float, str, Answer]]) -> None:
        for at, ticket, answer in answers:
            await trio.sleep_until(at)
            self._desk.post(ticket, answer)

    async def match(self, target: Target) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        kind, _, count = target.expression.partition(":")
        return tuple(f"{kind}{number:05}" for number in range(int(count)))

    def ticket(self) -> str:
        return calls.new_ticket(datetime.now(timezone.utc))

    async def publish(self, ticket: str, call: Call, machines: Collection[str]) -> None:
        if isinstance(call, StartWrappers):
            for name, env in call.orders.items():
                await self._publish(place(ticket, name), env, machines)
        else:
            await self._publish(ticket, call.env if isinstance(call, StartWrapper) else None, machines)

    async def _publish(self, ticket: str, env: Mapping[str, str] | None, machines: Collection[str]) -> None:
        if env is not None:
            await self._fleet.say({"at": time.time(), "env": dict(env), "machines": list(machines)})
        for machine in machines:
            if machine.startswith("broken"):
                answer = Answer(machine, NO_WRAPPER, "no such file")
                self._answers.put((trio.current_time() + ANSWER_S, ticket, answer), self._nursery, self._answer)

    @asynccontextmanager
    async def answers(self, ticket: str) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        with self._desk.open(ticket) as inbox:
            yield inbox.receive

    async def reachable(self) -> bool:
        await trio.lowlevel.checkpoint()
        return True


@attrs.define(eq=False)
class Plant(Daemon):
    """A daemon whose machines are played."""

    fleet: Fleet = attrs.field(kw_only=True)

    async def _launchers(self, ground: Ground) -> dict[str, Launcher]:
        launcher = SimulatedLauncher(self.fleet, ground.services)
        return {"salt": launcher, "local": launcher}


async def answer(fleet: Fleet) -> None:
    """Tell how many seconds the longest turns of the loop took, whenever that is asked."""
    turns: list[float] = []
    trio.lowlevel.add_instrument(LagWatch(turns.append))
    async for _ in fleet.stream:
        longest, number = sorted(turns)[-5:], len(turns)
        turns.clear()
        await fleet.say({"turns": number, "longest_s": longest})


async def main(conf_d: Path, path: str) -> None:
    fleet = Fleet(await trio.open_unix_socket(path))
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM) as stop:
            async with Plant(conf_d, host(), fleet=fleet).serving():
                nursery.start_soon(answer, fleet)
                await fleet.say({"ready": True})
                await anext(stop)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    raise_limits()
    logs.configure()
    trio.run(main, Path(sys.argv[1]), sys.argv[2])
