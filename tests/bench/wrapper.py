"""The wrapper on its machine: how soon it starts the command, how soon it is connected, and what it takes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from saltpeter.wrapper_build import build
from sp_wrapper import frames, wire
from tests.bench.frame import Sheet, at_most
from tests.bench.site import scratch

ROUNDS = 7
LASTS_S = 1.2
DEADLINE_S = 20.0


@attrs.define
class Greeted:
    """A server for one wrapper after the other, that notes when each said its first word.

    It acknowledges everything: else wrappers of earlier rounds would stay, and keep the processor and later wrappers
    busy.
    """

    at: float = 0.0
    told: trio.Event = attrs.field(factory=trio.Event)

    async def talk(self, request: WebSocketRequest) -> None:
        try:
            ws = await request.accept()
            while True:
                frame = frames.decode_from_wrapper(await ws.get_message())
                if isinstance(frame.message, wire.Connect):
                    self.at = time.time()
                    self.told.set()
                await ws.send_message(frames.encode(frame.about, _ack(frame.message), frame.at))
        except ConnectionClosed:
            pass


def _ack(message: wire.FromWrapper) -> wire.Ack:
    is_connect = isinstance(message, wire.Connect)
    return wire.Ack(ack_type=message.TYPE, seq=getattr(message, "seq", None), offset=0 if is_connect else None)


def env(directory: Path, port: int, number: int) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "SP_WEBSOCKET_URL": f"ws://127.0.0.1:{port}/",
        "SP_JOB_NAME": "bench",
        "SP_JOB_INSTANCE": f"bench_{number}",
        "SP_MACHINE_ID": "m1",
        "SP_TOKEN": "t" * 32,
        "SP_STATEDIR": str(directory / f"state{number}"),
        "SP_COMMAND": f"date +%s.%N >{directory}/began; exec sleep {LASTS_S}",
    }


def _pss(pid: str) -> int:
    """Bytes of memory, where what is shared counts for each its part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def memory(state: str) -> int:
    """What the wrapper takes that keeps its state there, all its processes together, without the command."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_its = f"SP_STATEDIR={state}\0".encode() in (path / "environ").read_bytes()
            if is_its and b"sp_wrapper.py" in (path / "cmdline").read_bytes():
                total += _pss(path.name)
        except OSError:
            continue
    return total


async def one(file: Path, directory: Path, server: Greeted, port: int, number: int) -> tuple[float, float, float]:
    """Milliseconds to the command's start and to the wrapper's first word, and bytes of memory."""
    server.told = trio.Event()
    given = dict(env(directory, port, number))
    begun = time.time()
    await trio.run_process([str(file)], env=given, stdout=subprocess.DEVNULL)
    with trio.fail_after(DEADLINE_S):
        await server.told.wait()
    await trio.sleep(0.3)
    taken = memory(given["SP_STATEDIR"])
    started = float((directory / "began").read_text())
    await trio.sleep(LASTS_S)
    return (started - begun) * 1000, (server.at - begun) * 1000, taken


async def interpreter_ms() -> float:
    """What starting Python and a shell takes here, whatever they do then."""
    begun = time.time()
    await trio.run_process(["/bin/sh", "-c", 'exec python3 -I -S -c ""'])
    return (time.time() - begun) * 1000


async def measure(sheet: Sheet, scale: float) -> None:
    server = Greeted()
    with scratch() as directory:
        file = directory / "sp_wrapper.py"
        build(file)
        async with trio.open_nursery() as nursery:
            served = await nursery.start(serve_websocket, server.talk, "127.0.0.1", 0, None)
            rounds = range(1 + max(3, int(ROUNDS * scale)))
            found = [await one(file, directory, server, served.port, number) for number in rounds][1:]
            nursery.cancel_scope.cancel()
    sheet.add("Python alone", "process to its end", "ms", [await interpreter_ms() for _ in range(ROUNDS)])
    sheet.add("one wrapper", "process to command", "ms", [each[0] for each in found], at_most(60))
    sheet.add("one wrapper", "process to connected", "ms", [each[1] for each in found], at_most(300))
    sheet.add("one wrapper", "memory of its processes", "MB", [each[2] / 1e6 for each in found], at_most(30))
