"""Commands that write as fast as they can, one and a hundred at once; how soon output is acked at half that pace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import attrs
import trio

from sp_wrapper import outbox, wire
from tests.bench.frame import Sheet, at_least, at_most, percentile
from tests.bench.heartbeats import strangers
from tests.bench.site import Process, bare, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm

WINDOW = outbox.LARGEST_WINDOW  # messages in flight
TOTAL = 96 * 1024 * 1024  # bytes, of all machines together
ROUNDS = 3
PACED_S = 3.0
LINE = b"2026-05-04 12:00:00 INFO backup: copied /var/lib/app/data/%08d.bin (4096 bytes) to the archive, ok\n"
CHUNK = b"".join(LINE % number for number in range(wire.MAX_CHUNK // 100))[: wire.MAX_CHUNK]


@attrs.frozen
class Cost:
    wall_s: float
    cpu_s: float


def frames(speaker: Speaker, count: int) -> list[bytes]:
    return [speaker.output(seq, CHUNK, seq * len(CHUNK)) for seq in range(count)]


def flood(speaker: Speaker, written: Sequence[bytes]) -> Life:
    """Send it all, with WINDOW messages on their way."""
    message = yield speaker.connect()
    sent, acked = 0, 0
    yield speaker.start()
    while acked < len(written):
        fresh = written[sent : acked + WINDOW]
        sent += len(fresh)
        message = yield b"".join(fresh)
        if b'"output"' in message.text:
            acked = message.fields["seq"] + 1


async def cost(process: Process, speakers: Sequence[Speaker], total: int) -> Cost:
    swarm = Swarm(process.port)
    for speaker in speakers:
        swarm.add(flood(speaker, frames(speaker, max(1, total // len(speakers) // len(CHUNK)))))
    cpu_s, begun = process.cpu_s(), time.perf_counter()
    await in_thread(swarm, 120)
    found = Cost(time.perf_counter() - begun, process.cpu_s() - cpu_s)
    assert swarm.ended == len(speakers), f"{swarm.ended} of {len(speakers)} ended, {swarm.lost} were cut off"
    swarm.close()
    return found


@attrs.define
class Paced:
    """A command that writes steadily."""

    speaker: Speaker
    written: Iterator[bytes]
    acks_ms: list[float]
    started: bool = False  # the daemon has said that it knows
    _sent_at: list[float] = attrs.field(factory=list)
    _acked: int = 0

    def life(self) -> Life:
        yield self.speaker.connect()
        message = yield self.speaker.start()
        while True:
            self.started |= b'"start"' in message.text
            if b'"output"' in message.text:
                upto = message.fields["seq"] + 1
                self.acks_ms += [(message.at - at) * 1000 for at in self._sent_at[self._acked : upto]]
                self._acked = upto
            message = yield b""

    def tick(self) -> bytes:
        frame = next(self.written, b"")
        if frame:
            self._sent_at.append(time.perf_counter())
        return frame


async def acks(process: Process, speakers: Sequence[Speaker], rate: float, for_s: float) -> list[float]:
    """Milliseconds to each ack, when all together send `rate` bytes a second."""
    swarm, acks_ms = Swarm(process.port), list[float]()
    every_s = len(CHUNK) * len(speakers) / rate
    for_s = max(for_s, 4 * every_s)
    commands = [Paced(speaker, iter(frames(speaker, int(for_s / every_s))), acks_ms) for speaker in speakers]
    for paced in commands:
        swarm.add(paced.life(), paced.tick)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, swarm)
        while not all(paced.started for paced in commands):  # noqa: ASYNC110  nobody could set an event
            await trio.sleep(0.05)
        swarm.beat_every(every_s)
        await trio.sleep(for_s + 1)
        swarm.stop()
    swarm.close()
    return acks_ms


async def measure(sheet: Sheet, scale: float) -> None:
    total = int(TOTAL * scale)
    for count in (1, 100):
        speakers = strangers(count)
        floors: list[Cost] = []
        found: list[Cost] = []
        size = max(1, total // count // len(CHUNK)) * len(CHUNK) * count
        for _ in range(ROUNDS):
            with bare() as other:
                floors.append(await cost(other, speakers, total))
            async with plant({"many": job(targets=f"m:{count}")}) as made:
                found.append(await cost(made, (await made.launch("many")).speakers(), total))
        case = f"{count} machine{'s' if count > 1 else ''}"
        bare_rates, rates = [size / each.wall_s / 1e6 for each in floors], [size / each.wall_s / 1e6 for each in found]
        sheet.add(f"{case}, bare", "rate", "MB/s", bare_rates)
        sheet.add(f"{case}, bare", "CPU", "ms/MB", [each.cpu_s * 1e9 / size for each in floors])
        sheet.add(case, "rate", "MB/s", rates)
        ratios = [rate / other for rate, other in zip(rates, bare_rates, strict=True)]
        sheet.add(case, "rate, times bare", "", ratios, at_least(0.6))
        sheet.add(case, "CPU", "ms/MB", [each.cpu_s * 1e9 / size for each in found])
        half = sorted(rates)[len(rates) // 2] * 1e6 / 2
        paced: list[list[float]] = []
        for _ in range(ROUNDS):
            async with plant({"many": job(targets=f"m:{count}")}) as made:
                paced.append(await acks(made, (await made.launch("many")).speakers(), half, PACED_S * scale))
        sheet.add(f"{case}, half that rate", "ack p50", "ms", [percentile(each, 50) for each in paced])
        sheet.add(f"{case}, half that rate", "ack p99", "ms", [percentile(each, 99) for each in paced], at_most(100))
