"""From a command's writing to a subscriber's seeing it, by default settings; and what of that is the daemon's part."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from saltpeter.client import Client, connect
from saltpeter.lab import free_ports
from saltpeter.wrapper_build import build
from tests.bench.frame import Sheet, at_most, percentile
from tests.bench.site import child, in_thread, job, plant, scratch, settings, write
from tests.bench.swarm import Life, Speaker, Swarm, idle

LINES = 13
PAUSE_S = 0.23  # in step with nothing
WRITER = f"""
import os, time
for _ in range({LINES}):
    os.write(1, b"%.6f\\n" % time.time())
    time.sleep({PAUSE_S})
"""


@attrs.define
class Talker:
    """A wrapper that sends a line with the time now and then."""

    speaker: Speaker
    _lines: int = 0
    _offset: int = 0

    def life(self) -> Life:
        return idle(self.speaker)

    def tick(self) -> bytes:
        line = f"{time.time()}\n".encode()
        frame = self.speaker.output(self._lines, line, self._offset)
        self._lines, self._offset = self._lines + 1, self._offset + len(line)
        return frame


async def behind_ms(client: Client, count: int) -> list[float]:
    """How many milliseconds old each line is when it is seen; the first ones, from before we listened, are left out."""
    found: list[float] = []
    async for message in client:
        if message["type"] == "output_chunk":
            now = time.time()
            found += [(now - float(line)) * 1000 for line in message["chunk"].splitlines()]
        if len(found) >= count:
            break
    return found[3:]


async def behind_the_wrapper(machines: int, count: int) -> list[float]:
    async with plant({"many": job(targets=f"m:{machines}")}) as made, made.client() as client:
        [talker, *others] = [Talker(speaker) for speaker in (await made.launch("many")).speakers()]
        swarm = Swarm(made.port)
        swarm.add(talker.life(), talker.tick)
        for other in others:
            swarm.add(other.life())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, swarm)
            while swarm.connecting:  # noqa: ASYNC110  nobody could set an event
                await trio.sleep(0.05)
            await trio.sleep(1)
            await client.request("subscribe", {"cron": "many", "machine": talker.speaker.about.machine})
            swarm.beat_every(PAUSE_S)
            found = await behind_ms(client, count)
            swarm.stop()
        swarm.close()
    return found


@asynccontextmanager
async def real_daemon(command: str) -> AsyncIterator[Path]:
    """One that runs `command` on this host through a real wrapper; its control socket."""
    with scratch() as directory:
        [port] = free_ports(1)
        wrapper = directory / "sp_wrapper.py"
        build(wrapper)
        own = settings(directory, port, executor="local", default_wrapper_path=str(wrapper))
        write(directory / "conf.d", "settings", own)
        write(directory / "conf.d", "jobs", {"writer": job(command=command, targets="here")})
        with (directory / "stderr").open("ab") as stderr:
            arguments = [sys.executable, "-m", "saltpeter", "daemon", "-c", str(directory / "conf.d")]
            with child(arguments, stderr=stderr):
                while b"Ready: " not in (directory / "stderr").read_bytes():  # noqa: ASYNC110  another process
                    await trio.sleep(0.05)
                yield directory / "state" / "control.sock"


async def behind_the_command(count: int) -> list[float]:
    script = shlex.join([sys.executable, "-c", WRITER])
    async with real_daemon(script) as socket, connect(socket) as client:
        await client.request("subscribe", "writer")
        await client.request("run", "writer")
        return await behind_ms(client, count)


async def measure(sheet: Sheet, scale: float) -> None:
    count = max(8, int(LINES * scale))
    found = await behind_the_command(count)
    sheet.add("a real wrapper", "behind the command, median", "ms", [percentile(found, 50)], at_most(250))
    sheet.add("a real wrapper", "behind the command, p90", "ms", [percentile(found, 90)])
    for machines in (1, 1000):
        found = await behind_the_wrapper(machines, count)
        case = f"one of {machines:,} connected wrapper{'s' if machines > 1 else ''}"
        sheet.add(case, "behind the wrapper, median", "ms", [percentile(found, 50)], at_most(10))
        sheet.add(case, "behind the wrapper, p90", "ms", [percentile(found, 90)])
