from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, wrap_client_stream

from saltpeter.endpoints.channel import CLOSE_S, GOING_AWAY, Channel, Handler, Limits, guard
from saltpeter.endpoints.http import Front, Upgrade
from saltpeter.endpoints.sockets import listen_tcp
from tests.endpoints.rig import dial

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_what_was_told_comes_before_the_farewell() -> None:
    async def talk(channel: Channel) -> None:
        for word in ("one", "two", "three"):
            channel.tell(word)
        await channel.aclose(1008, "enough")
        channel.tell("four")  # nobody is there any more, and that is nobody's fault

    async with dial(Front({}, Upgrade(talk, Limits()))) as peer:
        assert [await peer.ws.get_message() for _ in range(3)] == ["one", "two", "three"]
        assert await peer.hear_end() == 1008


async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    heard = []

    async def talk(channel: Channel) -> None:
        async for text in channel:
            heard.append(text)

    async with dial(Front({}, Upgrade(talk, Limits(message=10)))) as peer:
        await peer.ws.send_message("short")
        await peer.ws.send_message("much too long")
        assert await peer.hear_end() == 1009
    assert heard == ["short"]


async def test_a_full_queue_drops_the_peer_at_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async def talk(channel: Channel) -> None:
        for _ in range(20):
            channel.tell("x")
            await trio.sleep(0.1)
        async for _text in channel:
            pass

    await converse_with_stuck_peer(talk, Limits(queue=8))
    assert trio.current_time() < 2 + CLOSE_S + 1
    assert len([text for text in caplog.messages if "does not read what it is sent" in text]) == 1


async def test_a_message_that_nobody_takes_drops_the_peer_in_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(channel: Channel) -> None:
        await trio.sleep(1)  # the peer has read the end of the handshake
        await channel.send("x")
        async for _text in channel:
            pass

    await converse_with_stuck_peer(talk, Limits(send_deadline_s=30))
    assert trio.current_time() == 1 + 30
    assert "takes too long to read" in caplog.text


async def converse_with_stuck_peer(talk: Handler, limits: Limits) -> None:
    """Serve a peer that shakes hands and then never reads again, until it is cut off."""
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Front({}, Upgrade(talk, limits)).converse, theirs)
        await ours.send_all(UPGRADE)
        assert b"101" in await ours.receive_some(1000)


async def test_a_bug_stays_behind_the_guard_and_cancellation_does_not(caplog: pytest.LogCaptureFixture) -> None:
    with trio.CancelScope() as scope:
        with guard("somebody"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trip)
                await trio.sleep_forever()
        scope.cancel()
        with guard("somebody"):
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert "Connection of somebody failed" in caplog.text


async def trip() -> None:
    raise RuntimeError("a bug")


async def test_who_has_gone_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with guard("somebody"):
        async with trio.open_nursery():
            raise trio.BrokenResourceError
    assert caplog.messages == []


async def test_what_waits_is_still_sent_when_the_server_stops() -> None:
    texts = [f"{number:03}" * 40_000 for number in range(200)]  # more than the network takes at once

    async def talk(channel: Channel) -> None:
        for text in texts:
            channel.tell(text)
        async for _ in channel:
            pass

    front, stop = Front({}, Upgrade(talk, Limits(queue=len(texts)))), trio.CancelScope()
    listeners = await listen_tcp("127.0.0.1", 0)

    async def serve() -> None:
        with stop:
            await front.serve(listeners)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = await wrap_client_stream(nursery, stream, "127.0.0.1", "/ws")
            heard = [await client.get_message()]
            stop.cancel()
            await wait_all_tasks_blocked()
            heard += [await client.get_message() for _ in texts[1:]]
            with pytest.raises(ConnectionClosed, match=str(GOING_AWAY)):
                await client.get_message()
    assert heard == texts
