"""What a client of the control socket is sent, and what that costs the daemon, when one machine of many ends."""

from __future__ import annotations

import json

import attrs
import trio

from tests.bench.frame import Sheet, at_most
from tests.bench.site import Plant, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm

COUNTS = (100, 1000, 10_000)
ENDINGS = 10
PAUSE_S = 0.25
HELLO = {"protocol": 2}


@attrs.define
class Ender:
    """A wrapper whose command ends at its tick."""

    speaker: Speaker

    def life(self) -> Life:
        yield self.speaker.connect()
        message = yield self.speaker.start()
        while b'"complete"' not in message.text:
            message = yield b""

    def tick(self) -> bytes:
        return self.speaker.complete(0, 0)


@attrs.frozen
class Cost:
    """For each machine that ended: bytes sent to the client, and seconds of the daemon's CPU."""

    size: float
    cpu_s: float


async def cost(made: Plant, count: int, endings: int, *, watched: bool, hello: bool) -> Cost:
    enders = [Ender(speaker) for speaker in (await made.launch("many")).speakers()]
    swarm = Swarm(made.port)
    for ender in enders:
        swarm.add(ender.life())
    size = 0

    async def listen() -> None:
        nonlocal size
        async with made.client() as client:
            if hello:
                await client.request("hello", HELLO)
            async for message in client:
                size += len(json.dumps(message))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, swarm)
        while await made.metric("saltpeter_wrappers_connected") < count:  # noqa: ASYNC110
            await trio.sleep(0.2)
        if watched:
            nursery.start_soon(listen)
        await trio.sleep(2.5)
        before, cpu_s = size, made.cpu_s()
        for peer, ender in list(zip(swarm.peers, enders, strict=True))[:endings]:
            peer.send(ender.tick())
            await trio.sleep(PAUSE_S)
        await trio.sleep(1.5)
        found = Cost((size - before) / endings, (made.cpu_s() - cpu_s) / endings)
        swarm.stop()
        nursery.cancel_scope.cancel()
    swarm.close()
    return found


async def measure(sheet: Sheet, scale: float) -> None:
    endings = max(4, int(ENDINGS * scale))
    least: dict[str, Cost] = {}
    for count in (max(10, int(count * scale)) for count in COUNTS):
        async with plant({"many": job(targets=f"m:{count}")}) as made:
            nobody = await cost(made, count, endings, watched=False, hello=False)
        for name, hello in (("protocol 1", False), ("protocol 2", True)):
            async with plant({"many": job(targets=f"m:{count}")}) as made:
                found = await cost(made, count, endings, watched=True, hello=hello)
            first = least.setdefault(name, found)
            target = at_most(1.5) if hello else None
            case = f"one of {count:,} machines, {name}"
            sheet.add(case, "sent", "bytes", [found.size])
            sheet.add(case, "CPU, the ending included", "ms", [found.cpu_s * 1000])
            if found is not first:
                sheet.add(case, "sent, times that of the fewest machines", "", [found.size / first.size], target)
        sheet.add(f"one of {count:,} machines, nobody looks", "CPU, the ending included", "ms", [nobody.cpu_s * 1000])
