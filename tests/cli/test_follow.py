"""Following a run over the wire, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from saltpeter.cli.follow import follow
from saltpeter.client import Client
from saltpeter.domain.events import RunEnded
from saltpeter.domain.verdict import Verdict
from tests.endpoints.rig import dial, now
from tests.endpoints.scene import DB01, DB02, RUN, Scene


async def test_following_ends_with_the_run(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    scene.start("db01", "db02")

    async def happen() -> None:
        await trio.sleep(20)
        scene.write(DB01, b"half of it\n")
        await trio.sleep(20)
        scene.write(DB01, b"the rest\n")
        scene.end(DB01)
        scene.end(DB02)
        scene.post(RunEnded(run=RUN, verdict=Verdict.SUCCEEDED, at=now()))

    async with dial(scene.front()) as peer, trio.open_nursery() as nursery:
        client = Client(peer.ws)
        await client.hello(listen=False)
        began = trio.current_time()
        nursery.start_soon(happen)
        ended = await follow(client, "backup", RUN)
        assert trio.current_time() - began < 40.5
    assert ended["verdict"] == "success"
    assert capsys.readouterr().out == "db01 | half of it\ndb01 | the rest\n"
