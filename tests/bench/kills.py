"""From a request on the control socket to the wrappers' receipt of it."""

from __future__ import annotations

import time

import trio

from sp_wrapper import wire
from tests.bench.frame import Sheet, at_most
from tests.bench.site import Plant, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm

ROUNDS = {1: 15, 100: 3, 1000: 2}


def life(speaker: Speaker, told_at: list[float]) -> Life:
    """Run on until told to end; then end."""
    message = yield speaker.connect()
    message = yield speaker.start()
    while b'"kill"' not in message.text:
        message = yield b""
    told_at.append(message.at)
    message = yield speaker.says(wire.Complete(retcode=143, outcome="killed", seq=0, length=0))
    while b'"complete"' not in message.text:
        message = yield b""


async def kill_ms(made: Plant, name: str) -> float:
    """Milliseconds until the last machine of a new run has been told."""
    speakers = (await made.launch(name)).speakers()
    swarm, told_at = Swarm(made.port), list[float]()
    for speaker in speakers:
        swarm.add(life(speaker, told_at))
    async with made.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, swarm, 60)
        while await made.metric("saltpeter_wrappers_connected") < len(speakers):  # noqa: ASYNC110
            await trio.sleep(0.05)
        await trio.sleep(0.5)  # until the connecting has been digested
        asked_at = time.perf_counter()
        await client.request("killCron", name)
    assert len(told_at) == len(speakers)
    swarm.close()
    return (max(told_at) - asked_at) * 1000


async def measure(sheet: Sheet, scale: float) -> None:
    for count, rounds in ROUNDS.items():
        async with plant({"many": job(targets=f"m:{count}", overlap="allow")}) as made:
            found = [await kill_ms(made, "many") for _ in range(max(2, int(rounds * scale)))]
        target = {1: at_most(5), 1000: at_most(300)}.get(count)
        name = "one wrapper" if count == 1 else f"{count:,} wrappers of one run"
        sheet.add(name, "request to receipt" if count == 1 else "request to the last receipt", "ms", found, target)
