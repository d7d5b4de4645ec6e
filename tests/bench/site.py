"""Processes under measurement: a daemon whose machines are played here, and the server that it is compared with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import yaml

from saltpeter.client import Client, connect
from saltpeter.lab import free_ports
from sp_wrapper import wire
from tests.bench import machine
from tests.bench.swarm import Speaker, Swarm

READY_S = 120.0
STOP_S = 60.0

Wanted = Mapping[str, Any]


@attrs.frozen
class Published:
    """An order that went out. `at` is in seconds since 1970."""

    at: float
    env: Mapping[str, str]
    machines: tuple[str, ...]

    @property
    def run(self) -> str:
        return self.env["SP_JOB_INSTANCE"]

    def speakers(self) -> list[Speaker]:
        """One for each machine's wrapper."""
        job, token = self.env["SP_JOB_NAME"], self.env["SP_TOKEN"]
        return [Speaker(wire.About(job, self.run, machine), token) for machine in self.machines]


@attrs.frozen
class Loop:
    """How the daemon's loop fared: how many turns it made, and the seconds of the longest, ascending."""

    turns: int
    longest_s: tuple[float, ...]

    @property
    def lag_ms(self) -> float:
        return self.longest_s[-1] * 1000 if self.longest_s else 0.0


@attrs.define(eq=False)
class Process:
    """A process under measurement."""

    popen: subprocess.Popen[bytes]
    port: int  # for wrappers

    def cpu_s(self) -> float:
        return machine.cpu_s(self.popen.pid)

    def memory(self) -> int:
        return machine.memory(self.popen.pid)


@attrs.define(eq=False)
class Plant(Process):
    """A running daemon; everything of it is below `directory`."""

    directory: Path
    fleet: trio.SocketStream
    orders: trio.MemoryReceiveChannel[Published]
    _loops: trio.MemoryReceiveChannel[Loop]

    @property
    def conf_d(self) -> Path:
        return self.directory / "conf.d"

    @property
    def socket(self) -> Path:
        return self.directory / "state" / "control.sock"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with connect(self.socket) as client:
            yield client

    async def loop(self) -> Loop:
        """How the loop fared since this was last asked."""
        await self.fleet.send_all(b"?\n")
        return await self._loops.receive()

    def loads(self) -> int:
        """How often conf.d has been read and was new."""
        return (self.directory / "stderr").read_bytes().count(b"Configuration loaded")

    async def metric(self, name: str) -> float:
        """The sum of a figure over its labels."""
        async with await trio.open_unix_socket(self.socket) as stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            text = b"".join([data async for data in stream]).decode()
        lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def launch(self, job: str) -> Published:
        """Run `job` by hand, until its order goes out."""
        async with self.client() as client:
            await client.request("run", job)
            return await self.orders.receive()


def write(conf_d: Path, file: str, content: Mapping[str, Any]) -> None:
    """Replace a file of conf.d as editors do."""
    draft = conf_d.parent / "draft"
    draft.write_text(yaml.dump(dict(content), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    draft.replace(conf_d / f"{file}.yaml")


def job(**facts: Any) -> dict[str, Any]:
    """One on a played machine, that runs by hand."""
    return {"schedule": "@yearly", "command": "true", "targets": "m:1", "timeout": 0, **facts}


def due_once(at: float, **facts: Any) -> dict[str, Any]:
    """One that runs by itself in that second (since 1970), and not again for a year."""
    slot = time.gmtime(at)
    fields = {"sec": slot.tm_sec, "min": slot.tm_min, "hour": slot.tm_hour, "dom": slot.tm_mday, "mon": slot.tm_mon}
    wanted = {**job(timezone="UTC", **facts), **fields}
    del wanted["schedule"]
    return wanted


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one plant. What there is to forget of it afterwards does not keep the next one's disk busy."""
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as name:
        directory = Path(name)
        (directory / "conf.d").mkdir()
        yield directory
    os.sync()


def settings(directory: Path, port: int, **more: Any) -> dict[str, Any]:
    own = {"machines_ws_port": port, "api_ws": False, "respond_within": 600, "logdir": str(directory / "log")}
    return {"saltpeter_config": {**own, "statedir": str(directory / "state"), **more}}


@asynccontextmanager
async def plant(
    *files: Mapping[str, Wanted], prepare: Callable[[Path], object] = lambda _: None, **more: Any
) -> AsyncIterator[Plant]:
    """A daemon with those files of jobs, ready. `prepare` may put something into its directory first."""
    with scratch() as directory:
        [port] = free_ports(1)
        write(directory / "conf.d", "settings", settings(directory, port, **more))
        for number, jobs in enumerate(files):
            write(directory / "conf.d", f"jobs{number:03}", jobs)
        prepare(directory)
        async with running(directory, port) as made:
            yield made


@asynccontextmanager
async def running(directory: Path, port: int) -> AsyncIterator[Plant]:
    """The daemon of a directory that has all it needs."""
    path = str(directory / "fleet.sock")
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    with listener, (directory / "stderr").open("ab") as stderr:
        await listener.bind(path)
        listener.listen(1)
        command = [sys.executable, "-m", "tests.bench.plant", str(directory / "conf.d"), path]
        with child(command, stderr=stderr) as popen, trio.CancelScope() as scope:
            with trio.fail_after(READY_S):
                sock, _ = await listener.accept()
            fleet = trio.SocketStream(sock)
            async with fleet, trio.open_nursery() as nursery:
                send, orders = trio.open_memory_channel[Published](100_000)
                say, loops = trio.open_memory_channel[Loop](10)
                with trio.fail_after(READY_S):
                    await nursery.start(_listen, fleet, send, say, directory / "stderr")
                yield Plant(popen, port, directory, fleet, orders, loops)
                scope.cancel()


async def _listen(
    fleet: trio.SocketStream,
    orders: trio.MemorySendChannel[Published],
    loops: trio.MemorySendChannel[Loop],
    stderr: Path,
    task_status: trio.TaskStatus[None],
) -> None:
    unread = bytearray()
    async for data in fleet:
        unread += data
        *lines, rest = unread.split(b"\n")
        unread = bytearray(rest)
        for line in lines:
            said = json.loads(line)
            if "ready" in said:
                task_status.started()
            elif "turns" in said:
                loops.send_nowait(Loop(said["turns"], tuple(said["longest_s"])))
            else:
                orders.send_nowait(Published(said["at"], said["env"], tuple(said["machines"])))
    last = await trio.Path(stderr).read_text()
    raise ConnectionError(f"the daemon under measurement has ended:\n{last[-4000:]}")


@contextmanager
def bare() -> Iterator[Process]:
    """The server that daemons are compared with."""
    with child([sys.executable, "-m", "tests.bench.bare"], stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        yield Process(popen, int(popen.stdout.readline()))


@contextmanager
def child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, **options) as popen:
        try:
            yield popen
        finally:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(STOP_S)
            finally:
                popen.kill()


async def in_thread(swarm: Swarm, for_s: float | None = None) -> None:
    """Let the swarm live beside what happens here."""
    await trio.to_thread.run_sync(lambda: swarm.run(for_s))
