"""What a daemon is compared with: a trio-websocket server that reads the same messages as JSON, and acks them. Nothing
is checked, kept or shown.

    python -m tests.bench.bare        prints its port
"""

from __future__ import annotations

import gc
import json

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from tests.bench.machine import raise_limits


async def talk(request: WebSocketRequest) -> None:
    ws = await request.accept()
    try:
        while True:
            message = json.loads(await ws.get_message())
            ack = {
                "type": "ack",
                "job_name": message["job_name"],
                "job_instance": message["job_instance"],
                "machine": message["machine"],
                "timestamp": message["timestamp"],
                "ack_type": message["type"],
                "seq": message.get("seq"),
            }
            await ws.send_message(json.dumps(ack))
    except ConnectionClosed:
        pass


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: serve_websocket(
                talk,
                "127.0.0.1",
                0,
                None,
                max_message_size=1024 * 1024,
                message_queue_size=64,
                receive_buffer_size=64 * 1024,
                task_status=task_status,
            )
        )
        print(server.port, flush=True)  # noqa: T201


if __name__ == "__main__":
    raise_limits()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
    trio.run(main)
