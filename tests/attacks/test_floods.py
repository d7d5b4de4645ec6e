"""Peers of the machines' port that send too much, too fast, too slowly or nothing at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from saltpeter.domain.events import RunStarted, Targeted
from saltpeter.endpoints import session
from saltpeter.endpoints.exchange import BODY_S, LINGER_BYTES, MAX_BODY, MAX_HEAD
from saltpeter.endpoints.frames import Frames
from saltpeter.endpoints.http import HEAD_S, IDLE_S, Front
from saltpeter.endpoints.intake import Pace
from saltpeter.endpoints.machines import FIRST_FRAME_S, LIMITS, MachinesEndpoint
from saltpeter.endpoints.throttle import LINES, MINUTE_S, Lines
from saltpeter.endpoints.transport import RECEIVE_BYTES
from saltpeter.store.schema import LARGEST_JOURNAL
from saltpeter.store.sqlite import open_store
from sp_wrapper import wire
from tests.endpoints.rig import NOON, dial, now
from tests.endpoints.test_auth import scene_with
from tests.endpoints.test_machines import DB01, WHO, Known, Watched, connect

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LONG_FRAME = b"\x81\xff" + wire.MAX_FRAME.to_bytes(8, "big") + b"mask"  # as long as those that we know may send


async def swallowed(front: Front, *first: bytes, part: bytes = b"", every_s: float = 0.0) -> int:
    """Send each of `first`, then `part` again and again until the port hangs up; how many bytes it took."""
    theirs, ours = trio.testing.memory_stream_pair()
    taken = 0

    async def send() -> None:
        nonlocal taken
        for data in (*first, *(part for _ in range(10_000 if part else 0))):
            await ours.send_all(data)
            taken += len(data)
            await trio.sleep(every_s)
            await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.converse, theirs)
        with trio.move_on_after(600):
            async with trio.open_nursery() as peer:
                peer.start_soon(guarded, send)
                while await ours.receive_some():
                    pass
                peer.cancel_scope.cancel()
    return taken


async def guarded(send: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await send()


async def test_a_stranger_is_read_no_further_than_a_first_message(autojump_clock: MockClock) -> None:
    watched = Watched()
    taken = await swallowed(MachinesEndpoint(Known(watched), now).front(), HANDSHAKE, LONG_FRAME, part=b"x" * 4096)
    assert LIMITS.unknown < taken < 3 * LIMITS.unknown
    assert trio.current_time() < FIRST_FRAME_S
    assert watched.link is None


@pytest.mark.parametrize(
    ("first", "limit_s"),
    [(b"", HEAD_S), (b"GET / HT", HEAD_S), (HANDSHAKE[:-2], HEAD_S), (HANDSHAKE, FIRST_FRAME_S)],
)
async def test_a_slow_stranger_has_seconds(first: bytes, limit_s: float, autojump_clock: MockClock) -> None:
    """One byte a second, as a slow-loris sends it."""
    part = b"X" if first != HANDSHAKE else b"\x01"
    await swallowed(MachinesEndpoint(Known(Watched()), now).front(), first, part=part, every_s=1.0)
    assert trio.current_time() <= limit_s + 5


@pytest.mark.parametrize(
    ("first", "limit_s"),
    [
        (b"", HEAD_S),
        (b"GET /status HT", HEAD_S),
        (HANDSHAKE, HEAD_S),  # whose path is not that of the control socket
        (HANDSHAKE.replace(b"GET /", b"GET /ws"), HEAD_S),  # without a token
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n", BODY_S),
        (b"POST /run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", BODY_S),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", HEAD_S + IDLE_S),
    ],
)
async def test_a_slow_stranger_has_seconds_on_the_control_port_too(
    first: bytes, limit_s: float, autojump_clock: MockClock
) -> None:
    await swallowed(scene_with(required=True).front(), first, part=b"1", every_s=1.0)
    assert trio.current_time() <= limit_s + 5


@pytest.mark.parametrize(
    "head", [b"GET /ws HTTP/1.1\r\nX: ", b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"]
)
async def test_a_stranger_is_read_no_further_than_a_request(head: bytes, autojump_clock: MockClock) -> None:
    taken = await swallowed(scene_with(required=True).front(), head, part=b"x" * 4096)
    assert taken < MAX_HEAD + MAX_BODY + LINGER_BYTES + 3 * RECEIVE_BYTES
    assert trio.current_time() <= HEAD_S


async def test_a_message_of_more_than_the_limit_ends_the_connection(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="log", text="x" * (wire.MAX_FRAME + 1))
        assert await wrapper.hear_end() == 1009
    assert watched.told == []


def test_a_message_in_ten_thousand_pieces_costs_no_more_than_one() -> None:
    """And pieces of nothing are not kept."""
    frames, heard = Frames(limit=10_000), list[object]()
    for first, piece in enumerate([b"x", b"", b""] * 10_000):
        opcode = 0x01 if first == 0 else 0x00
        heard += frames.feed(bytes([opcode, 0x80 | len(piece)]) + b"\0\0\0\0" + piece)
    assert len(frames._parts) == 10_000
    assert [*heard, *frames.feed(b"\x80\x80\0\0\0\0")] == ["x" * 10_000]


async def test_a_flood_of_heartbeats_is_read_at_our_pace(autojump_clock: MockClock) -> None:
    watched = Watched()
    beat = json.dumps({**WHO, "type": "heartbeat"})
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        for _ in range(int(session.BURST + 2 * session.MESSAGES_PER_S)):
            await wrapper.ws.send_message(beat)
        assert len(watched.beats) <= session.BURST
        await trio.sleep(1)
        assert session.BURST < len(watched.beats) <= session.BURST + session.MESSAGES_PER_S
        await trio.sleep(1.1)
        assert len(watched.beats) == session.BURST + 2 * session.MESSAGES_PER_S


async def test_the_pace_is_no_hindrance_to_a_wrapper(autojump_clock: MockClock) -> None:
    """A fast command: 2000 messages of output."""
    watched = Watched(commit_s=0)
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        for number in range(2000):
            await wrapper.say(**WHO, type="output", seq=number, offset=number, data="x")
        while (await wrapper.hear())["seq"] < 1999:
            pass
    assert trio.current_time() < 1


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=50))
def test_no_more_than_the_pace_in_any_stretch(work: list[tuple[float, int]]) -> None:
    pace, at, spent = Pace(per_s=5, burst=30), 0.0, 0.0
    for idle_s, cost in work:
        at += idle_s
        at += pace.spend(cost, at)
        spent += cost
        assert spent <= 30 + 5 * at + 1e-6


async def test_output_without_end_does_not_fill_the_store(tmp_path: Path) -> None:
    """Whatever a wrapper says of offsets and cuts, output_limit holds on the daemon's side."""
    limit, piece, pieces = 256 * 1024, bytes(range(256)) * 2048, 300
    async with open_store(tmp_path) as store:
        execution = DB01
        await store.commit(
            RunStarted(run=DB01.run, job="backup", slot=NOON, by="test", token="t", at=NOON),
            Targeted(run=DB01.run, machines=("db01",), at=NOON),
        )
        for number in range(pieces):
            await store.append(execution, number * len(piece), piece, limit=limit)
        far = 2**52
        await store.append(execution, far, piece, cut=far - pieces * len(piece))
        assert await store.length(execution) == far + len(piece)
        kept, index = 0, 0
        while found := await store.pieces(execution, index):
            kept += sum(len(each.data) for each in found if not each.system)
            index = found[-1].index + 1
        assert kept <= limit + 2 * len(piece)
        assert (await store.health()).output_bytes < LARGEST_JOURNAL + 8 * 1024**2 < pieces * len(piece) / 2


async def test_strangers_do_not_fill_the_log(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """They are counted instead, and what somebody else does is still told."""
    endpoint = MachinesEndpoint(Known(Watched()), now)
    for number in range(3 * LINES):
        async with dial(endpoint.front(), "/") as stranger:
            await connect(stranger, token=f"guess {number}")
    assert len(caplog.messages) == LINES
    await trio.sleep(MINUTE_S)
    async with dial(endpoint.front(), "/") as stranger:
        await connect(stranger, token="guess")
    assert caplog.messages[-1].endswith(f"(BAD_TOKEN); {2 * LINES} more from there were refused and are not in the log")


@given(st.lists(st.tuples(st.sampled_from(["10.0.0.1:1", "10.0.0.2:2"]), st.floats(0, 30)), max_size=200))
def test_every_refusal_is_told_or_counted(steps: list[tuple[str, float]]) -> None:
    lines, at, told = Lines(), 0.0, dict.fromkeys(["10.0.0.1:1", "10.0.0.2:2"], 0)
    for peer, idle_s in steps:
        at += idle_s
        if (left_out := lines.allow(peer, at)) is not None:
            told[peer] += 1 + left_out
    for peer, count in told.items():
        at += MINUTE_S
        left_out = lines.allow(peer, at)
        assert left_out is not None
        assert count + left_out == sum(each == peer for each, _ in steps)
