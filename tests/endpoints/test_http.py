from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, wrap_client_stream

from saltpeter.endpoints.channel import Channel, Limits
from saltpeter.endpoints.http import HEAD_S, IDLE_S, Front, Request, Response, Upgrade, as_json
from saltpeter.endpoints.sockets import AddressInUse, listen_tcp, listen_unix
from tests.endpoints.rig import dial, exchange, serve_in_scope

HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: sp.example:8888\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n{more}\r\n"
)


async def hello(request: Request) -> Response:
    return as_json({"hello": request.query})


async def echo(request: Request) -> Response:
    return Response(200, request.body)


async def trip(request: Request) -> Response:
    raise RuntimeError(f"a bug about {request.path}")


async def talk(channel: Channel) -> None:
    async for text in channel:
        if text == "trip":
            raise RuntimeError("a bug about one peer")
        await channel.send(f"you said {text!r}")


def make_front() -> Front:
    routes = {("GET", "/hello"): hello, ("POST", "/echo"): echo, ("GET", "/trip"): trip}
    return Front(routes, Upgrade(talk, Limits()))


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_a_get_is_answered_with_json() -> None:
    answer = await exchange(make_front(), LAST.replace(b"/hello", b"/hello?who=you"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 200
    assert body == b'{"hello":"who=you"}\n'
    assert b"content-type: application/json" in head.lower()


async def test_a_connection_serves_many_requests() -> None:
    answer = await exchange(make_front(), HELLO + HELLO + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


async def test_head_gets_the_head_only() -> None:
    head, _, body = (await exchange(make_front(), LAST.replace(b"GET", b"HEAD"))).partition(b"\r\n\r\n")
    assert b"content-length: 13" in head.lower()
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /nothing", 404), ("POST /hello", 405), ("GET /echo", 405), ("DELETE /hello", 405), ("GET /trip", 500)],
)
async def test_what_cannot_be_served_is_said(request_line: str, status: int, autojump_clock: MockClock) -> None:
    sent = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await exchange(make_front(), sent.encode())
    assert status_of(answer) == status
    if status == 405:
        assert b"\nallow: " in answer.lower()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000, 431),
        (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 413),
        (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab", 408),
    ],
)
async def test_bad_requests_are_answered_and_ended(sent: bytes, status: int, autojump_clock: MockClock) -> None:
    assert status_of(await exchange(make_front(), sent)) == status


async def test_a_body_that_asks_first_is_invited() -> None:
    sent = (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\n\r\n"
    )
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_front().converse, theirs)
        await ours.send_all(sent)
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 100")
        await ours.send_all(b"body")
        assert (await ours.receive_some()).endswith(b"\r\n\r\nbody")


async def test_the_silent_are_not_waited_for(autojump_clock: MockClock) -> None:
    assert await exchange(make_front(), b"") == b""
    assert trio.current_time() == HEAD_S
    assert await exchange(make_front(), b"GET /hello HT") == b""
    assert trio.current_time() == 2 * HEAD_S
    assert status_of(await exchange(make_front(), HELLO)) == 200  # and kept open, for a while
    assert trio.current_time() == 2 * HEAD_S + IDLE_S


async def test_a_page_of_another_site_may_not_post() -> None:
    sent = (
        b"POST /echo HTTP/1.1\r\nHost: a.example\r\nOrigin: http://%s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    assert status_of(await exchange(make_front(), sent % b"a.example")) == 200
    assert status_of(await exchange(make_front(), sent % b"b.example")) == 403


@pytest.mark.parametrize(
    ("path", "version", "more", "status"),
    [
        ("/ws", "13", "", 101),
        ("/ws", "13", "Origin: http://sp.example:8888\r\n", 101),
        ("/ws", "13", "Origin: https://SP.example:8888\r\n", 101),
        ("/ws", "13", "Origin: http://evil.example\r\n", 403),
        ("/ws", "13", "Origin: http://sp.example\r\n", 403),
        ("/ws", "13", "Origin: null\r\n", 403),
        ("/other", "13", "", 404),
        ("/ws", "8", "", 426),
    ],
)
async def test_who_may_open_a_websocket(
    path: str, version: str, more: str, status: int, autojump_clock: MockClock
) -> None:
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_front().converse, theirs)
        await ours.send_all(UPGRADE.format(path=path, version=version, more=more).encode())
        assert status_of(bytes(await ours.receive_some())) == status
        await ours.aclose()


async def test_a_websocket_may_follow_plain_requests() -> None:
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_front().converse, theirs)
        await ours.send_all(HELLO + UPGRADE.format(path="/ws", version="13", more="").encode())
        answer = b""
        while b"101 Switching Protocols" not in answer:
            answer += (part := await ours.receive_some())
            assert part, answer
        await ours.send_all(b"\x81\x82\x00\x00\x00\x00hi")  # a masked text frame
        assert b"you said 'hi'" in await ours.receive_some()
        await ours.aclose()
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_bug_about_one_peer_is_not_the_others(caplog: pytest.LogCaptureFixture) -> None:
    front = make_front()
    async with dial(front) as unlucky, dial(front) as other:
        await unlucky.ws.send_message("trip")
        assert await unlucky.hear_end() == 1006
        await other.ws.send_message("still here?")
        assert await other.ws.get_message() == "you said 'still here?'"
    assert "a bug about one peer" in caplog.text


async def test_over_tcp_farewell_is_said_at_the_end() -> None:
    listeners = await listen_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        serving = await nursery.start(serve_in_scope, make_front(), listeners)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            ws = await wrap_client_stream(nursery, stream, "127.0.0.1", "/ws")
            await ws.send_message("x")
            assert await ws.get_message() == "you said 'x'"
            serving.cancel()
            with pytest.raises(ConnectionClosed) as closed, trio.fail_after(5):
                await ws.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1001
    with pytest.raises(OSError, match="all attempts"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_stopping_with_silent_connections_is_quick() -> None:
    listeners = await listen_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(4):
        async with trio.open_nursery() as nursery:
            serving = await nursery.start(serve_in_scope, make_front(), listeners)
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
            await trio.testing.wait_all_tasks_blocked()
            serving.cancel()
    for stream in silent:
        await stream.aclose()


async def test_the_unix_socket_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with listen_unix(path) as listener, trio.open_nursery() as nursery:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await nursery.start(make_front().serve, [listener])
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(LAST)
            assert status_of(bytes(await stream.receive_some())) == 200
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listen_unix(path):
        with pytest.raises(AddressInUse, match="another saltpeter is listening"):
            async with listen_unix(path):
                pass
        (await trio.open_unix_socket(str(path))).socket.close()


async def test_nothing_but_a_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(AddressInUse, match="is not a socket"):
        async with listen_unix(path):
            pass
    assert path.read_text() == "precious"


async def test_a_taken_port_is_said() -> None:
    [listener, *_] = await listen_tcp("127.0.0.1", 0)
    async with listener:
        with pytest.raises(AddressInUse, match=r"cannot listen at 127\.0\.0\.1:\d+: "):
            await listen_tcp("127.0.0.1", listener.socket.getsockname()[1])
