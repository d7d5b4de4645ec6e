"""All machines of one run print a line and exit: connect, start, output and complete, each acked once durable."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from tests.bench.frame import Sheet, at_least, percentile
from tests.bench.heartbeats import strangers
from tests.bench.site import Process, bare, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm

COUNTS = (100, 1000, 10_000)
LINE = b"done on this machine: 42 files, 17 MB\n"


@attrs.frozen
class Cost:
    wall_s: float
    cpu_s: float
    lives_s: Sequence[float]


def life(speaker: Speaker, lives_s: list[float]) -> Life:
    """As a real wrapper does: output at once, the end when all output is acked."""
    begun = time.perf_counter()
    yield speaker.connect()
    message = yield speaker.start() + speaker.output(0, LINE, 0)
    while b'"output"' not in message.text:
        message = yield b""
    message = yield speaker.complete(1, len(LINE))
    while b'"complete"' not in message.text:
        message = yield b""
    lives_s.append(time.perf_counter() - begun)


async def cost(process: Process, speakers: Sequence[Speaker]) -> Cost:
    swarm, lives_s = Swarm(process.port), list[float]()
    for speaker in speakers:
        swarm.add(life(speaker, lives_s))
    cpu_s, begun = process.cpu_s(), time.perf_counter()
    await in_thread(swarm, 120)
    wall_s = time.perf_counter() - begun
    cpu_s = process.cpu_s() - cpu_s
    assert swarm.ended == len(speakers), f"{swarm.ended} of {len(speakers)} ended, {swarm.lost} were cut off"
    swarm.close()
    return Cost(wall_s, cpu_s, lives_s)


async def measure(sheet: Sheet, scale: float) -> None:
    for wanted in COUNTS:
        count, rounds = max(10, int(wanted * scale)), {COUNTS[0]: 3, COUNTS[1]: 2}.get(wanted, 1)
        speakers = strangers(count)
        floors: list[Cost] = []
        found: list[Cost] = []
        lags: list[float] = []
        for _ in range(rounds):
            with bare() as other:
                floors.append(await cost(other, speakers))
            async with plant({"many": job(targets=f"m:{count}")}) as made:
                published = await made.launch("many")
                await made.loop()
                found.append(await cost(made, published.speakers()))
                lags.append((await made.loop()).lag_ms)
        rates, bare_rates = [count / each.wall_s for each in found], [count / each.wall_s for each in floors]
        case = f"{count:,} machines"
        sheet.add(f"{case}, bare", "rate", "machines/s", bare_rates)
        sheet.add(f"{case}, bare", "CPU", "ms/machine", [each.cpu_s / count * 1000 for each in floors])
        sheet.add(case, "rate", "machines/s", rates)
        ratios = [rate / other for rate, other in zip(rates, bare_rates, strict=True)]
        # of the few, most is waiting for the last commits: they show how it grows
        sheet.add(case, "rate, times bare", "", ratios, at_least(0.7) if wanted == COUNTS[-1] else None)
        sheet.add(case, "CPU", "ms/machine", [each.cpu_s / count * 1000 for each in found])
        shares = [each.cpu_s / other.cpu_s for each, other in zip(found, floors, strict=True)]
        sheet.add(case, "CPU, times bare", "", shares)
        sheet.add(case, "a machine's life p99", "s", [percentile(each.lives_s, 99) for each in found])
        sheet.add(case, "longest turn of the loop", "ms", lags)
