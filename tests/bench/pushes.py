"""What a client of the control socket is sent, and what that costs the daemon, when one machine of many ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf
from typing import TypeAlias

import attrs
import trio

from sp_wrapper import wire
from tests.bench.frame import Sheet, at_most
from tests.bench.site import Plant, in_thread, job, plant
from tests.bench.swarm import Life, Peer, Speaker, Swarm

COUNTS = (100, 1000, 10_000)
ENDINGS = 4
PAUSE_S = 0.25
CALM, CALM_S = 0.03, 0.5  # at most this share of a core, for so long
HELLO = {"protocol": 2}


@attrs.define
class Ender:
    """A wrapper that lives, until its command ends."""

    speaker: Speaker

    def life(self) -> Life:
        yield self.speaker.connect()
        message = yield self.speaker.start()
        while b'"complete"' not in message.text:
            message = yield b""

    def tick(self) -> bytes:
        return self.speaker.heartbeat()

    def end(self) -> bytes:
        return self.speaker.complete(0, 0)


@attrs.frozen
class Cost:
    """For each machine that ended: bytes sent to the client, and seconds of the daemon's CPU."""

    size: float
    cpu_s: float


LOOKERS: dict[str, bool | None] = {"nobody looks": None, "protocol 1": False, "protocol 2": True}  # says hello?

Ending: TypeAlias = tuple[Peer, Ender]


async def calm(made: Plant) -> None:
    """Wait until the daemon has next to nothing to do."""
    used_s = inf
    while used_s > CALM * CALM_S:
        cpu_s = made.cpu_s()
        await trio.sleep(CALM_S)
        used_s = made.cpu_s() - cpu_s


async def cost(made: Plant, endings: Sequence[Ending], hello: bool | None) -> Cost:
    size = 0

    async def listen() -> None:
        nonlocal size
        async with made.client() as client:
            if hello:
                await client.request("hello", HELLO)
            async for message in client:
                size += len(json.dumps(message))

    async with trio.open_nursery() as nursery:
        if hello is not None:
            nursery.start_soon(listen)
        await calm(made)  # it has been told all that there is
        before = size
        cpu_s = made.cpu_s()
        for peer, ender in endings:
            peer.send(ender.end())
            await trio.sleep(PAUSE_S)
        await trio.sleep(0.7)
        found = Cost((size - before) / len(endings), (made.cpu_s() - cpu_s) / len(endings))
        nursery.cancel_scope.cancel()
    return found


async def costs(made: Plant, count: int, endings: int) -> dict[str, Cost]:
    """By who looks; of one run, of which some machines end each time."""
    enders = [Ender(speaker) for speaker in (await made.launch("many")).speakers()]
    swarm = Swarm(made.port)
    for ender in enders:
        swarm.add(ender.life(), ender.tick)
    swarm.beat_every(wire.HEARTBEAT_S)  # connecting takes longer than a lease
    found = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, swarm)
        while await made.metric("saltpeter_wrappers_connected") < count:  # noqa: ASYNC110
            await trio.sleep(0.2)
        swarm.beat_every(None)
        pairs = list(zip(swarm.peers, enders, strict=True))
        for who, hello in LOOKERS.items():
            for peer, ender in pairs:
                peer.send(ender.tick())  # the only one, so that endings are all that happens
            found[who] = await cost(made, pairs[:endings], hello)
            del pairs[:endings]
        swarm.stop()
    swarm.close()
    return found


async def measure(sheet: Sheet, scale: float) -> None:
    endings = max(4, int(ENDINGS * scale))
    least: dict[str, Cost] = {}
    for count in (max(30, int(count * scale)) for count in COUNTS):
        async with plant({"many": job(targets=f"m:{count}")}) as made:
            by_looker = await costs(made, count, endings)
        for who, found in by_looker.items():
            case = f"one of {count:,} machines, {who}"
            sheet.add(case, "CPU, the ending included", "ms", [found.cpu_s * 1000])
            if LOOKERS[who] is None:
                continue
            sheet.add(case, "sent", "bytes", [found.size])
            first = least.setdefault(who, found)
            target = at_most(1.5) if LOOKERS[who] else None
            if found is not first:
                sheet.add(case, "sent, times that of the fewest machines", "", [found.size / first.size], target)
