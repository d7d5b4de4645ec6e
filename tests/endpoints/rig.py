"""Peers of the endpoints for the tests: WebSocket clients over streams in memory, and browsers of few words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from saltpeter.endpoints.http import Front

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def now() -> datetime:
    """Wall time that goes with trio's clock."""
    return NOON + timedelta(seconds=trio.current_time())


@attrs.define(eq=False)
class Peer:
    """A WebSocket client. Messages are dicts."""

    ws: WebSocketConnection

    async def say(self, **message: Any) -> None:
        await self.ws.send_message(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """The next message, which has to come within a minute."""
        with trio.fail_after(60):
            message: dict[str, Any] = json.loads(await self.ws.get_message())
        return message

    async def hear_all(self, seconds: float) -> list[dict[str, Any]]:
        """What comes in so many seconds."""
        heard = []
        with trio.move_on_after(seconds):
            while True:
                heard.append(json.loads(await self.ws.get_message()))
        return heard

    async def hear_end(self) -> int:
        """The code with which the connection is closed; nothing else may come before."""
        with trio.fail_after(120):
            try:
                message = await self.ws.get_message()
            except ConnectionClosed as closed:
                return closed.reason.code if closed.reason else 0
        raise AssertionError(f"not the end, but {message!r}")


@asynccontextmanager
async def dial(front: Front, path: str = "/ws", **headers: str) -> AsyncIterator[Peer]:
    """Connect a client to `front` in memory. Leaving cuts the connection."""
    theirs, ours = trio.testing.memory_stream_pair()
    extra = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with trio.open_nursery() as server, trio.open_nursery() as client:
        server.start_soon(front.converse, theirs)
        ws = await wrap_client_stream(
            client,
            ours,  # type: ignore[arg-type]  # any stream will do
            "localhost",
            path,
            extra_headers=extra,
            max_message_size=2**26,
        )
        try:
            yield Peer(ws)
        finally:
            await trio.aclose_forcefully(ours)
            client.cancel_scope.cancel()


async def exchange(front: Front, sent: bytes) -> bytes:
    """All that `front` answers to the bytes `sent` over a new connection, up to its end."""
    theirs, ours = trio.testing.memory_stream_pair()
    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.converse, theirs)
        await ours.send_all(sent)
        while part := await ours.receive_some():
            answer += part
    return answer


async def serve_in_scope(
    front: Front, listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    """Serve, and give the scope whose end is the daemon's."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(front.serve, listeners)
            task_status.started(scope)
