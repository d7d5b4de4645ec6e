"""Peers that have not shown who they are get only so much room, and nobody else waits for them."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.endpoints.channel import Channel, Limits
from saltpeter.endpoints.http import Front, Request, Response, Upgrade
from saltpeter.endpoints.sockets import listen_tcp
from saltpeter.endpoints.strangers import Strangers
from tests.endpoints.rig import dial
from tests.helpers.daemon import eventually

MANY = 10_000
ROOM = 400


def test_the_one_that_has_waited_longest_goes() -> None:
    strangers = Strangers[str](3)
    assert [strangers.enter(who, who) for who in "abcd"] == [None, None, None, "a"]
    strangers.leave("b")  # is known now
    assert [strangers.enter(who, who) for who in "ef"] == [None, "c"]


def test_one_network_gets_half_and_pushes_out_its_own_only() -> None:
    strangers = Strangers[int](4)
    assert strangers.enter(0, "honest") is None
    assert [strangers.enter(who, "crowd") for who in (1, 2, 3, 4)] == [None, None, 1, 2]
    assert len(strangers) == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abc"))), st.integers(1, 8))
def test_there_are_never_more_than_that(steps: list[tuple[bool, int, str]], most: int) -> None:
    strangers = Strangers[int](most)
    inside: set[int] = set()
    for comes, who, network in steps:
        if comes and who not in inside:
            gone = strangers.enter(who, network)
            inside = (inside | {who}) - {gone}
        elif not comes:
            strangers.leave(who)
            inside -= {who}
        assert len(strangers) == len(inside) <= most


async def hello(_request: Request) -> Response:
    return Response(200, b"hello\n")


async def echo(channel: Channel) -> None:
    async for said in channel:
        channel.admit()
        channel.tell(str(said))


async def test_who_is_known_is_no_stranger_any_more() -> None:
    front = Front({}, Upgrade(echo, Limits()))
    async with trio.open_nursery() as nursery:
        listeners = await listen_tcp("127.0.0.1", 0)
        await nursery.start(front.serve, listeners)
        async with await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1]) as stream:
            await eventually(lambda: front.strangers == 1)
            await stream.send_all(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b"101" in await stream.receive_some(1000)
            assert front.strangers == 1
            await stream.send_all(b"\x81\x82\0\0\0\0hi")
            assert b"hi" in await stream.receive_some(1000)
            assert (front.strangers, front.connected) == (0, 1)
        nursery.cancel_scope.cancel()


async def test_in_memory_nobody_is_counted() -> None:
    front = Front({}, Upgrade(echo, Limits()), most_strangers=1)
    async with dial(front), dial(front):
        assert front.strangers == 0
