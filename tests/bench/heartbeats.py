"""Very many wrappers whose commands run on: what a sign of life from each every 5 seconds costs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

from sp_wrapper import wire
from tests.bench.frame import Sheet, at_most, percentile
from tests.bench.site import Plant, Process, Wanted, bare, due_once, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm, Tick

COUNTS = (100, 1000, 10_000)
WINDOW_S = wire.HEARTBEAT_S  # in which each has its turn once
WINDOWS = 3  # of the most wrappers, so that a halt of the whole machine is seen as one
SETTLE_S = 1.0
PROBES_IN = 20  # one in so many writes a line of output instead of a heartbeat
AT_ONCE, APART_S = 1000, 1.6  # of the runs with one machine each, so many start in the same second, and so often
AHEAD_S = 11  # for the jobs to be written down and read
OVERDUE_S = 60.0


@attrs.frozen
class Cost:
    """`cpu` is the share of one core in each window, `memory` the bytes of each connection; `lost` connections."""

    cpu: Sequence[float]
    memory: float
    acks_ms: Sequence[Sequence[float]]  # of each window
    lost: int

    def acks(self, percent: float) -> list[float]:
        return [percentile(each, percent) for each in self.acks_ms]


@attrs.define
class Probe:
    """A wrapper that writes a line now and then, and notes how many milliseconds its ack takes."""

    speaker: Speaker
    acks_ms: list[float]
    _lines: int = 0
    _sent_at: float | None = None

    def life(self) -> Life:
        yield self.speaker.connect()
        message = yield self.speaker.start()
        while True:
            if b'"output"' in message.text and self._sent_at is not None:
                self.acks_ms.append((message.at - self._sent_at) * 1000)
                self._sent_at = None
            message = yield b""

    def tick(self) -> bytes:
        self._lines += 1
        frame = self.speaker.output(self._lines - 1, b"x\n", 2 * self._lines - 2)
        self._sent_at = time.perf_counter()
        return frame


def _life(speaker: Speaker) -> Life:
    yield speaker.connect()
    yield speaker.start()
    while True:
        yield b""


def _always(frame: bytes) -> Tick:
    return lambda: frame


async def cost(process: Process, speakers: Sequence[Speaker], windows: int) -> Cost:
    """Connect them all, let them beat, and look at the process meanwhile."""
    swarm, acks_ms, before = Swarm(process.port), list[float](), process.memory()
    for number, speaker in enumerate(speakers):
        if number % PROBES_IN == 0:
            probe = Probe(speaker, acks_ms)
            swarm.add(probe.life(), probe.tick)
        else:
            swarm.add(_life(speaker), _always(speaker.heartbeat()))
    swarm.beat_every(wire.HEARTBEAT_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, swarm)
        while swarm.connecting:  # noqa: ASYNC110  nobody could set an event
            await trio.sleep(0.1)
        await trio.sleep(SETTLE_S)
        cpu, acks = list[float](), list[Sequence[float]]()
        for _ in range(windows):
            acks_ms.clear()
            cpu_s, begun = process.cpu_s(), time.perf_counter()
            await trio.sleep(WINDOW_S)
            cpu.append((process.cpu_s() - cpu_s) / (time.perf_counter() - begun))
            acks.append(tuple(acks_ms))
        memory = (process.memory() - before) / len(speakers)
        swarm.stop()
    lost = swarm.lost
    swarm.close()
    return Cost(cpu, memory, acks, lost)


@attrs.frozen
class Way:
    """How machines come to run something: the jobs, and what leads from there to their wrappers."""

    jobs: Callable[[int], Sequence[Mapping[str, Wanted]]]  # by file
    speakers: Callable[[Plant, int], Awaitable[list[Speaker]]]


def one_job(count: int) -> Sequence[Mapping[str, Wanted]]:
    return [{"many": job(targets=f"m:{count}")}]


async def one_run(made: Plant, count: int) -> list[Speaker]:
    published = await made.launch("many")
    return published.speakers()


def many_jobs(count: int) -> Sequence[Mapping[str, Wanted]]:
    slots = [time.time() + AHEAD_S + number * APART_S for number in range(-(-count // AT_ONCE))]
    return [
        {f"one{number}x{each}": due_once(slot) for each in range(min(AT_ONCE, count - number * AT_ONCE))}
        for number, slot in enumerate(slots)
    ]


async def many_runs(made: Plant, count: int) -> list[Speaker]:
    """As many runs as machines."""
    with trio.fail_after(AHEAD_S + count / AT_ONCE * APART_S + OVERDUE_S):
        return [speaker for _ in range(count) for speaker in (await made.orders.receive()).speakers()]


def strangers(count: int) -> list[Speaker]:
    """Wrappers that nobody launched, for a server that does not look."""
    return [Speaker(wire.About("many", "many_1", f"m{number:05}"), "t" * 32) for number in range(count)]


async def measure(sheet: Sheet, scale: float) -> None:
    counts = [max(10, int(count * scale)) for count in COUNTS]
    for count in counts:
        windows = WINDOWS if count == counts[-1] else 1
        with bare() as other:
            floor = await cost(other, strangers(count), windows)
        sheet.add(f"{count:,} connections, bare", "CPU", "% of a core", [cpu * 100 for cpu in floor.cpu])
        sheet.add(f"{count:,} connections, bare", "memory each", "KB", [floor.memory / 1000])
        sheet.add(f"{count:,} connections, bare", "ack p99", "ms", floor.acks(99))
        ways = {"in one run": Way(one_job, one_run)}
        if count == counts[-1]:
            ways["in as many runs"] = Way(many_jobs, many_runs)
        for name, way in ways.items():
            async with plant(*way.jobs(count)) as made:
                found = await cost(made, await way.speakers(made, count), windows)
                lost = await made.metric("saltpeter_executions_ended_total")
            case = f"{count:,} wrappers {name}"
            targets = count == counts[-1]
            sheet.add(case, "CPU", "% of a core", [cpu * 100 for cpu in found.cpu])
            ratios = [cpu / other for cpu, other in zip(found.cpu, floor.cpu, strict=True)]
            sheet.add(case, "CPU, times bare", "", ratios, at_most(1.4) if targets else None)
            sheet.add(case, "memory each", "KB", [found.memory / 1000])
            sheet.add(case, "memory, times bare", "", [found.memory / floor.memory], at_most(2) if targets else None)
            sheet.add(case, "ack p50", "ms", found.acks(50))
            sheet.add(case, "ack p99", "ms", found.acks(99), at_most(10) if targets else None)
            sheet.add(case, "lost (253) or cut off", "", [lost + found.lost], at_most(0))
