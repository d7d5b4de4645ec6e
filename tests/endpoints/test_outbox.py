"""What a peer's network takes at once is gone at once; the rest follows in order, or the peer is cut off."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from saltpeter.endpoints.outbox import Outbox

PIECE = bytes(64 * 1024)


@attrs.frozen
class Line:
    """An outbox, and the other end of its connection."""

    outbox: Outbox
    stream: trio.SocketStream
    peer: socket.socket


@asynccontextmanager
async def line(*, most: int = 1000, deadline_s: float = 30.0) -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream, trio.open_nursery() as nursery:
            yield Line(Outbox("somebody", stream, nursery.start_soon, most, deadline_s), stream, theirs)
            nursery.cancel_scope.cancel()


def heard(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := peer.recv(size - len(data))):
        data += more
    return data


@pytest.mark.trio
async def test_it_has_arrived_before_anybody_else_had_a_turn() -> None:
    async with line() as made:
        made.outbox.put(b"one ")
        made.outbox.put(b"two")
        assert made.peer.recv(100) == b"one two"


@pytest.mark.trio
async def test_what_does_not_go_at_once_follows_in_order() -> None:
    async with line() as made:
        pieces = [bytes([number]) * 100_000 for number in range(40)]
        for piece in pieces:
            made.outbox.put(piece)
        whole = b"".join(pieces)
        assert await trio.to_thread.run_sync(heard, made.peer, len(whole)) == whole
        await made.outbox.drain()
        made.outbox.put(b"again at once")
        assert made.peer.recv(100) == b"again at once"


@pytest.mark.trio
async def test_nothing_follows_the_last(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as made:
        made.outbox.close(b"farewell")
        made.outbox.put(b"one more thing")
        made.outbox.close(b"and another")
        assert made.peer.recv(100) == b"farewell"
        with pytest.raises(BlockingIOError):
            made.peer.recv(100, socket.MSG_DONTWAIT)
    assert caplog.messages == []


@pytest.mark.trio
async def test_who_lets_too_much_wait_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async with line(most=3) as made:
        for _ in range(100):
            made.outbox.put(PIECE)
        assert made.outbox.closed
        await trio.testing.wait_all_tasks_blocked()
        assert made.stream.socket.fileno() == -1
    assert caplog.messages == ["Dropping somebody: it does not read what it is sent"]


@pytest.mark.trio
async def test_who_takes_too_long_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async with line(deadline_s=0.05) as made:
        while not made.outbox.closed:
            await made.outbox.room()
            made.outbox.put(PIECE)
            await trio.sleep(0.005)
        await made.outbox.drain()
    assert caplog.messages == ["Dropping somebody: it takes too long to read"]


@pytest.mark.trio
async def test_who_has_gone_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as made:
        made.peer.close()
        made.outbox.put(b"nobody hears this")
        made.outbox.put(b"nor this")
        await made.outbox.room()
        await made.outbox.drain()
        assert made.outbox.closed
    assert caplog.messages == []


@pytest.mark.trio
async def test_who_goes_while_something_waits_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as made:
        for _ in range(100):
            made.outbox.put(PIECE)
        made.peer.close()
        await made.outbox.drain()
        assert made.outbox.closed
    assert caplog.messages == []
