"""Every message of protocol 2, exactly as it is written; with a client that loses its connection on the way.

The transcripts lie in `golden/protocol_2/`. Where a difference is meant, `python -m tests.endpoints.test_golden_2`
writes them anew.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import CameLate, Configured, HoldSet, NextSlot, Paused, RunEnded
from saltpeter.domain.job import Hold
from saltpeter.domain.outcome import LOST
from saltpeter.domain.state import State
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.board import Board
from tests.endpoints.rig import NOON, dial, now
from tests.endpoints.scene import DB01, DB02, FINE, RUN, Scene, config, job
from tests.endpoints.test_golden import GOLDEN, Transcript, _launch, exchanged, written

FOLDER = GOLDEN / "protocol_2"
LIFE = "0011223344556677"  # stands for the one that was drawn


async def story() -> dict[str, Transcript]:
    """One client's afternoon, in chapters."""
    scene = Scene(Board(State(config(job("backup", description="the database"), job("other")))))
    front = scene.front()
    scene.post(NextSlot(job="backup", slot=NOON + timedelta(hours=15)))
    told: dict[str, Transcript] = {}
    async with dial(front) as client:
        told["hello"] = await exchanged(client, hello={"protocol": 2}, id=1)
        life = told["hello"][1]["daemon"]["result"]["life"]
        _launch(scene)
        told["changes_begin"] = await exchanged(client)
        told["subscribe"] = await exchanged(client, subscribe={"cron": "backup", "job_instance": RUN}, id=2)
        scene.write(DB01, "dumping größer tables\n".encode())
        told["output"] = await exchanged(client)
        scene.post(Paused(execution=DB02, paused=True))
        told["changes_machine"] = await exchanged(client)
        scene.post(HoldSet(hold=Hold(machine="db03", reason="disk", by="x", since=NOON, until=None), at=NOON))
        told["changes_maintenance"] = await exchanged(client)
        serial = scene.board.state.serial
    scene.end(DB01)
    async with dial(front) as client:
        told["resumed"] = await exchanged(client, hello={"protocol": 2, "life": life, "serial": serial}, id=1)
        await exchanged(client, subscribe="backup")
        scene.end(DB02, LOST)
        scene.post(CameLate(execution=DB02, outcome=FINE, at=now()))
        scene.post(RunEnded(run=RUN, verdict=Verdict.FAILED, at=now()))
        told["changes_end"] = await exchanged(client)
        scene.post(Configured(config=config(job("backup"), job("new")), at=now()))
        told["changes_config"] = await exchanged(client)
    async with dial(front) as client:
        told["restarted"] = await exchanged(client, hello={"protocol": 2, "life": "another", "serial": 7}, id=1)
    async with dial(front) as client:
        told["only_replies"] = await exchanged(client, hello={"protocol": 2, "listen": False}, id=1)
        told["only_replies"] += await exchanged(client, run="backup", id=2)
    async with dial(front) as client:
        await exchanged(client, hello={"protocol": 2, "life": life, "listen": False}, id=1)
        about = {"cron": "backup", "job_instance": RUN, "serial": serial, "output": False}
        told["resumed_run"] = await exchanged(client, subscribe=about, id=2)
    texts = {chapter: json.dumps(transcript).replace(life, LIFE) for chapter, transcript in told.items()}
    return {chapter: json.loads(text) for chapter, text in texts.items()}


async def test_what_was_said_before_is_said_still(autojump_clock: MockClock) -> None:
    told = await story()
    assert {path.stem for path in FOLDER.glob("*.json")} == told.keys()
    for chapter, transcript in told.items():
        assert json.loads(written(transcript)) == json.loads((FOLDER / f"{chapter}.json").read_text()), chapter


@pytest.mark.parametrize("kind", ["snapshot", "changes", "run", "output_chunk", "reply"])
def test_every_kind_of_message_is_among_them(kind: str) -> None:
    said: list[dict[str, Any]] = [each for path in FOLDER.glob("*.json") for each in json.loads(path.read_text())]
    assert kind in {each["daemon"]["type"] for each in said if "daemon" in each}


def test_none_of_protocol_1_is_among_them() -> None:
    said = [each for path in FOLDER.glob("*.json") for each in json.loads(path.read_text())]
    assert not {"config", "status", "details"} & {each["daemon"]["type"] for each in said if "daemon" in each}


if __name__ == "__main__":
    for name, chapter_told in trio.run(story, clock=MockClock(autojump_threshold=0)).items():
        (FOLDER / f"{name}.json").write_text(written(chapter_told))
