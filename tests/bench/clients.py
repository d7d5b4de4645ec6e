"""Fifty clients of the control socket while a job writes 50 MB a second: one follows it, five have stopped reading."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import trio

from tests.bench.frame import Sheet, at_most, percentile
from tests.bench.site import Plant, in_thread, job, plant
from tests.bench.swarm import Life, Speaker, Swarm, idle, masked
from tests.bench.throughput import CHUNK, frames

CLIENTS, STUCK = 50, 5
MACHINES = 5
RATE = 50e6  # bytes a second, of all machines together
RUNS, PAUSE_S = 12, 0.35  # of other jobs, of which everybody is told meanwhile
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@attrs.define
class Writer:
    """A command that writes steadily, whatever is acked."""

    speaker: Speaker
    written: Iterator[bytes]

    def life(self) -> Life:
        return idle(self.speaker)

    def tick(self) -> bytes:
        return next(self.written, b"")


@attrs.define
class Follower:
    """Reads the output of a job as fast as it comes, without looking at it."""

    sock: socket.socket
    size: int = 0

    def read(self) -> None:
        try:
            while data := self.sock.recv(1 << 20):
                self.size += len(data)
        except OSError:  # it was closed
            pass


def subscriber(path: Path) -> socket.socket:
    """A client that asks for the output of the job; reading is another matter."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(1)
    sock.sendall(masked('{"hello": {"protocol": 2}}') + masked('{"subscribe": "many"}'))
    return sock


@attrs.define
class Listener:
    """A client that is told of every run; when it heard of each, by the run's job."""

    heard_at: dict[str, float] = attrs.field(factory=dict)

    async def listen(self, made: Plant, task_status: trio.TaskStatus[None]) -> None:
        async with made.client() as client:
            await client.hello()
            task_status.started()
            async for message in client:
                runs = message.get("runs", {}) if message["type"] == "changes" else {}
                for run in runs.values():
                    if run is not None:
                        self.heard_at.setdefault(run["cron"], time.perf_counter())


@attrs.frozen
class Found:
    """What one crowd experienced."""

    heard_ms: list[float]  # from the answer to who started a run to each listener's hearing of it
    grown: int  # bytes, of the daemon
    written: float  # bytes a second, that it was sent
    followed: float  # bytes a second, that the follower was


async def measure(sheet: Sheet, scale: float) -> None:
    runs = max(3, int(RUNS * scale))
    others = {f"other{number}": job() for number in range(runs)}
    for stuck, followers in ((0, 0), (STUCK, 1)):
        async with plant({"many": job(targets=f"m:{MACHINES}"), **others}) as made:
            found = await crowd(made, runs, stuck=stuck, followers=followers)
        case = f"{CLIENTS} clients, {stuck} of them stuck, {followers} follow"
        sheet.add(case, "status p50", "ms", [percentile(found.heard_ms, 50)])
        sheet.add(case, "status, the slowest", "ms", [max(found.heard_ms)], at_most(200))
        sheet.add(case, "memory grown", "MB", [found.grown / 1e6], at_most(128))
        sheet.add(case, "written", "MB/s", [found.written / 1e6])
        sheet.add(case, "followed", "MB/s", [found.followed / 1e6])


async def crowd(made: Plant, runs: int, *, stuck: int, followers: int) -> Found:
    for_s = runs * PAUSE_S + 2
    swarm = Swarm(made.port)
    every_s = len(CHUNK) * MACHINES / RATE
    for speaker in (await made.launch("many")).speakers():
        writer = Writer(speaker, iter(frames(speaker, int(for_s / every_s))))
        swarm.add(writer.life(), writer.tick)
    listeners = [Listener() for _ in range(CLIENTS - stuck - followers)]
    answered_at: dict[str, float] = {}
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, swarm)
            while swarm.connecting:  # noqa: ASYNC110  nobody could set an event
                await trio.sleep(0.05)
            for each in listeners:
                await nursery.start(each.listen, made)
            for _ in range(stuck):
                stack.enter_context(subscriber(made.socket))
            following = [Follower(stack.enter_context(subscriber(made.socket))) for _ in range(followers)]
            for follower in following:
                nursery.start_soon(trio.to_thread.run_sync, follower.read)
            before = most = made.memory()
            written = await made.metric("saltpeter_output_bytes_total")
            swarm.beat_every(every_s)
            begun = time.perf_counter()
            async with made.client() as client:
                await client.hello(listen=False)
                for number in range(runs):
                    await trio.sleep(PAUSE_S)
                    await client.request("run", f"other{number}")
                    answered_at[f"other{number}"] = time.perf_counter()
                    most = max(most, made.memory())
            written, took_s = await made.metric("saltpeter_output_bytes_total") - written, time.perf_counter() - begun
            followed = sum(follower.size for follower in following)
            await trio.sleep(1)
            for follower in following:
                follower.sock.shutdown(socket.SHUT_RDWR)
            swarm.stop()
            nursery.cancel_scope.cancel()
    swarm.close()
    heard_ms = [
        max(0.0, at - answered_at[job]) * 1000
        for each in listeners
        for job, at in each.heard_at.items()
        if job in answered_at
    ]
    assert len(heard_ms) == runs * len(listeners), f"only {len(heard_ms)} of {runs * len(listeners)} were heard"
    return Found(heard_ms, most - before, written / took_s, followed / took_s)
