"""Many at once: who reads nothing costs the others nothing, and the daemon little."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from saltpeter.domain.events import RunEnded, RunStarted, Targeted
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.http import Front
from tests.endpoints.rig import Peer, dial, now
from tests.endpoints.scene import DB01, Scene

CLIENTS, STUCK = 50, 5
PIECE = b"x" * 32 * 1024
PIECES = 300  # about 10 MB in all
MAX_MEMORY = 7 * 1024 * 1024  # bytes, for all the clients together
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = '{"hello": {"protocol": 2}}'
SUBSCRIBE = '{"subscribe": "backup"}'
APART_S = {1: 2.5, 2: 0.5}  # of a protocol's changes that are told at once: a status comes at most once a second


def frame(text: str) -> bytes:
    """A short text frame, whose mask is naught."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


@asynccontextmanager
async def stuck(front: Front, protocol: int) -> AsyncIterator[None]:
    """A client that asks for the output of a job, and then reads nothing ever."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.converse, theirs)
        await ours.send_all(UPGRADE)
        assert b"101" in await ours.receive_some(1000)
        await ours.send_all((frame(HELLO) if protocol == 2 else b"") + frame(SUBSCRIBE))
        yield
        nursery.cancel_scope.cancel()


async def count_output(client: Peer, wanted: int) -> None:
    length = 0
    while length < wanted:
        message = await client.hear()
        if message["type"] == "output_chunk":
            assert message["position"] == length
            length += len(message["chunk"])


async def keep_writing(scene: Scene) -> None:
    """A fast job: new output all the time."""
    for _ in range(PIECES):
        scene.write(DB01, PIECE)
        await trio.sleep(0.015)


def start_another(scene: Scene, number: int) -> str:
    run = f"other_{number}"
    scene.post(
        RunStarted(run=run, job="other", slot=None, by="x", token="t", at=now()),
        Targeted(run=run, machines=("m1",), at=now()),
    )
    return run


async def hears(client: Peer, run: str, within_s: float) -> None:
    """`run` is in a status, or among the changes, in time."""
    with trio.fail_after(within_s):
        while True:
            message = await client.hear()
            if run in message.get("running", message.get("runs", {})):
                return


async def greeted(client: Peer, protocol: int) -> None:
    """The client has heard all that it is told at first."""
    wanted = {"config", "status"} if protocol == 1 else {"snapshot"}
    if protocol == 2:
        await client.say(hello={"protocol": 2})
    while wanted:
        wanted.discard((await client.hear())["type"])


@pytest.mark.parametrize("protocol", [1, 2])
async def test_those_who_read_are_told_in_time(autojump_clock: MockClock, protocol: int) -> None:
    scene = Scene()
    scene.start("db01")
    front = scene.front()
    async with AsyncExitStack() as stack:
        for _ in range(STUCK):
            await stack.enter_async_context(stuck(front, protocol))
        clients = [await stack.enter_async_context(dial(front)) for _ in range(CLIENTS - STUCK)]
        eager, *others = clients
        for client in clients:
            await greeted(client, protocol)
        await eager.say(subscribe="backup")
        await trio.sleep(2)
        tracemalloc.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_writing, scene)
            nursery.start_soon(count_output, eager, PIECES * len(PIECE))
            for number in range(2):
                run = start_another(scene, number)
                async with trio.open_nursery() as listening:
                    for client in others:
                        listening.start_soon(hears, client, run, 0.2)
                scene.post(RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=now()))
                await trio.sleep(APART_S[protocol])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MAX_MEMORY
        assert front.connected == CLIENTS
