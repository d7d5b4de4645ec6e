"""Ten thousand connections of peers that say nothing: on either port nobody else is kept out by them."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from saltpeter.endpoints.http import Front
from saltpeter.endpoints.machines import MachinesEndpoint
from saltpeter.endpoints.sockets import listen_tcp
from tests.endpoints.rig import now
from tests.endpoints.test_auth import scene_with
from tests.endpoints.test_machines import Known, Watched

MANY = 10_000
ROOM = 400
MINUTE = 60.0

PORTS: dict[str, tuple[Callable[[], Front], bytes]] = {
    "machines": (lambda: MachinesEndpoint(Known(Watched()), now).front(ROOM), b"HTTP/1.1 404 "),
    "control": (lambda: scene_with(required=True).front(ROOM), b"HTTP/1.1 200 "),
}


@pytest.fixture
def open_files() -> Iterator[int]:
    """As many as we may have; the test gets a number of connections that fits."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield min(MANY, before[1] - ROOM - 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("port", PORTS)
async def test_ten_thousand_that_say_nothing_keep_nobody_out(port: str, open_files: int) -> None:
    make, expected = PORTS[port]
    front, crowd, most = make(), ExitStack(), 0
    with crowd, trio.fail_after(5 * MINUTE):
        async with trio.open_nursery() as nursery:
            listeners = await listen_tcp("127.0.0.1", 0)
            await nursery.start(front.serve, listeners)
            where: int = listeners[0].socket.getsockname()[1]
            for number in range(open_files // 100):
                await trio.to_thread.run_sync(silent, where, 100, crowd)
                most = max(most, front.strangers)
                if number % 20 == 19:
                    assert await asked(where) == expected
            await trio.testing.wait_all_tasks_blocked()
            assert most <= ROOM
            assert front.strangers <= ROOM // 2  # all are of one address
            assert await asked(where) == expected
            nursery.cancel_scope.cancel()


def silent(port: int, count: int, kept: ExitStack) -> None:
    """So many connections, in a thread: while one waits for its turn, the server must go on."""
    for _ in range(count):
        kept.enter_context(socket.create_connection(("127.0.0.1", port)))


async def asked(port: int) -> bytes:
    """The first bytes of the answer to one who comes like all the others, but says something."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return bytes(await stream.receive_some(13))
