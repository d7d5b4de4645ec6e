from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from saltpeter.client import Client, ConnectionLost, DaemonUnreachable, connect
from saltpeter.endpoints.sockets import listen_tcp, listen_unix
from saltpeter.errors import CommandRefused
from tests.endpoints.rig import serve_in_scope
from tests.endpoints.scene import RUN, Scene


@asynccontextmanager
async def daemon(path: Path, scene: Scene) -> AsyncIterator[trio.CancelScope]:
    """A control socket at `path`, and the scope that stops it."""
    async with listen_unix(path) as listener, trio.open_nursery() as nursery:
        serving = await nursery.start(serve_in_scope, scene.front(), [listener])
        try:
            yield serving
        finally:
            serving.cancel()


async def test_requests_and_news_over_the_unix_socket(tmp_path: Path) -> None:
    scene = Scene()
    path = tmp_path / "control.sock"
    with trio.fail_after(10):
        async with daemon(path, scene), connect(path) as client:
            assert await client.request("run", "backup") == {"job_instance": RUN}
            assert (await client.__anext__())["type"] == "config"
            async for message in client:
                assert message["type"] == "status"
                break
            with pytest.raises(CommandRefused, match="there is no job") as refused:
                await client.request("run", "nothing")
            assert refused.value.code == "unknown_job"
    assert re.fullmatch(r"unix:\w+", str(scene.asked[0][2]))


async def test_a_daemon_that_stops_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with trio.fail_after(10):
        async with daemon(path, Scene()) as serving, connect(path) as client:
            assert (await client.request("reload", True))["jobs"] == 2
            serving.cancel()
            with pytest.raises(ConnectionLost, match="saltpeter is stopping"):
                await listen_to_the_end(client)


async def listen_to_the_end(client: Client) -> None:
    async for _message in client:
        pass


async def test_what_the_caller_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with trio.fail_after(10):
        async with daemon(path, Scene()):
            with pytest.raises(KeyError):
                await look_for_nothing(path)


async def look_for_nothing(path: Path) -> None:
    async with connect(path) as client:
        (await client.request("reload", True))["nothing"]


async def test_over_tcp(tmp_path: Path) -> None:
    listeners = await listen_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(Scene().front().serve, listeners)
            async with connect(f"ws://127.0.0.1:{port}") as client:
                assert (await client.request("reload", True))["jobs"] == 2
            nursery.cancel_scope.cancel()


async def test_no_daemon_is_said_with_where_and_how(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with pytest.raises(DaemonUnreachable, match=f"{path} \\(nothing is there\\); start one with"):
        async with connect(path):
            pass
    with pytest.raises(ValueError, match="not the URL"):
        async with connect("http://127.0.0.1:1"):
            pass


async def test_something_else_that_answers_is_no_daemon(tmp_path: Path) -> None:
    async def shrug(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    path = tmp_path / "control.sock"
    with trio.fail_after(10):
        async with listen_unix(path) as listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, shrug, [listener])
            with pytest.raises(DaemonUnreachable, match="404"):
                async with connect(path):
                    pass
            nursery.cancel_scope.cancel()
