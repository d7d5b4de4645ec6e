"""Ten thousand jobs in 200 files, none due: what they cost, how long starting takes, and reading one file again."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from saltpeter.lab import free_ports
from tests.bench import machine
from tests.bench.frame import Sheet, Target, at_most
from tests.bench.site import Plant, Wanted, child, job, plant, scratch, settings, write

COUNTS = (100, 1000, 10_000)
IN_FILE = 50
SETTLE_S = 2.0
WINDOW_S = 3.0  # the kernel counts in nanoseconds
RELOADED_S = 30.0
RELOADS = 2


def files(count: int) -> list[Mapping[str, Wanted]]:
    """Jobs as people have them: a daily one each, at some minute of an hour that is not near."""
    hour = time.localtime().tm_hour
    return [
        {
            f"job{number:05}": job(
                schedule=f"{number % 60} {(hour + 2 + number % 20) % 24} * * *",
                command=f"/usr/local/bin/backup --set {number}",
                description="copies what has changed since yesterday",
                env={"LEVEL": "3"},
            )
            for number in range(first, min(first + IN_FILE, count))
        }
        for first in range(0, count, IN_FILE)
    ]


async def start_s(directory: Path) -> tuple[float, float, float]:
    """Start the real daemon: seconds until it is ready, its memory then, and the share of a core that it uses."""
    begun = time.perf_counter()
    with (directory / "stderr").open("wb") as stderr:
        arguments = [sys.executable, "-m", "saltpeter", "daemon", "-c", str(directory / "conf.d")]
        with child(arguments, stderr=stderr) as popen:
            while b"Ready: " not in (directory / "stderr").read_bytes():
                assert popen.poll() is None, (directory / "stderr").read_text()
                await trio.sleep(0.01)
            took_s = time.perf_counter() - begun
            await trio.sleep(SETTLE_S)
            cpu_s, at = machine.cpu_s(popen.pid), time.perf_counter()
            await trio.sleep(WINDOW_S)
            return took_s, machine.memory(popen.pid), (machine.cpu_s(popen.pid) - cpu_s) / (time.perf_counter() - at)


async def reload(made: Plant, count: int, number: int) -> tuple[float, float]:
    """Change one file, while nobody looks: milliseconds of work, and of the longest turn of the loop."""
    first = next(iter(files(count)))
    changed = {name: {**facts, "description": f"change {number}"} for name, facts in first.items()}
    await trio.sleep(1)
    await made.loop()
    cpu_s, loaded = made.cpu_s(), made.loads()
    write(made.conf_d, "jobs000", changed)
    with trio.fail_after(RELOADED_S):
        while made.loads() == loaded:  # noqa: ASYNC110  another process
            await trio.sleep(0.05)
    await trio.sleep(0.5)
    return (made.cpu_s() - cpu_s) * 1000, (await made.loop()).lag_ms


async def measure(sheet: Sheet, scale: float) -> None:
    for count in (max(IN_FILE, int(count * scale)) for count in COUNTS):
        most = count == int(COUNTS[-1] * scale)

        def target(limit: float, most: bool = most) -> Target | None:
            return at_most(limit) if most else None

        case = f"{count:,} jobs"
        with scratch() as directory:
            [port] = free_ports(1)
            write(directory / "conf.d", "settings", settings(directory, port, executor="local"))
            for number, jobs in enumerate(files(count)):
                write(directory / "conf.d", f"jobs{number:03}", jobs)
            starts = [await start_s(directory) for _ in range(2 if most else 1)]
        sheet.add(case, "start", "s", [each[0] for each in starts], target(5))
        sheet.add(case, "memory", "MB", [each[1] / 1e6 for each in starts], target(150))
        sheet.add(case, "idle CPU", "% of a core", [each[2] * 100 for each in starts], target(0.5))
        async with plant(*files(count)) as made:
            found = [await reload(made, count, number) for number in range(max(2, int(RELOADS * scale)))]
        sheet.add(case, "reload of a file: work", "ms", [each[0] for each in found], target(100))
        sheet.add(case, "reload of a file: longest turn of the loop", "ms", [each[1] for each in found], target(20))
