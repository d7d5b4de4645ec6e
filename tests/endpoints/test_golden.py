"""Every message of protocol 1, exactly as existing clients read and write it.

The transcripts lie in `golden/`. Where a difference is meant, `python -m tests.endpoints.test_golden` writes them anew.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import CameLate, Confirmed, Launched, NextSlot, RunEnded
from saltpeter.domain.events import Started as WrapperStarted
from saltpeter.domain.outcome import LOST
from saltpeter.domain.state import State
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.board import Board
from tests.endpoints.rig import NOON, Peer, dial, now
from tests.endpoints.scene import DB01, DB02, FINE, RUN, Scene, config, job

GOLDEN = Path(__file__).parent / "golden"
QUIET_S = 2.0

Transcript = list[dict[str, Any]]


async def exchanged(client: Peer, **said: Any) -> Transcript:
    """What the client says, if anything, and all that the daemon tells until it has no more to say."""
    if said:
        await client.say(**said)
    heard = await client.hear_all(QUIET_S)
    return [*({"client": said} for _ in range(bool(said))), *({"daemon": message} for message in heard)]


async def story() -> dict[str, Transcript]:
    """One client's afternoon, in chapters."""
    backup = job("backup", description="the database", env={"PGPASSWORD": "x", "LANG": "C"})
    scene = Scene(Board(State(config(backup, job("other")))))
    scene.post(NextSlot(job="backup", slot=NOON + timedelta(hours=15)))
    told: dict[str, Transcript] = {}
    async with dial(scene.front()) as client:
        told["config_and_status"] = await exchanged(client)
        told["run"] = await exchanged(client, run="backup")
        told["run_with_id"] = await exchanged(client, run="backup", id="r1")
        told["run_unknown"] = await exchanged(client, run="bakcup")
        _launch(scene)
        told["status"] = await exchanged(client)
        told["details"] = await exchanged(client, subscribe=["backup"])
        scene.write(DB01, "dumping größer tables\n".encode())
        told["output_chunk"] = await exchanged(client)
        told["ack"] = await exchanged(client, ack={"cron": "backup", "machine": "db01", "position": 22}, id=2)
        told["killMachine"] = await exchanged(
            client, killMachine={"cron": "backup", "machine": "db01", "job_instance": RUN}, id=3
        )
        scene.done.set()
        told["kill_receipt"] = await exchanged(client)
        told["killCron"] = await exchanged(client, killCron="backup")
        _end(scene)
        told["end"] = await exchanged(client)
        span = {"start_date": "now-1h", "end_date": "now", "id": "t1"}
        told["timeline"] = await exchanged(client, getTimeline=span)
        told["unsubscribe"] = await exchanged(client, unsubscribe="backup", id=4)
    return told


def _launch(scene: Scene) -> None:
    scene.start("db01", "db02")
    scene.post(
        Launched(run=RUN, ticket="20261120120000000001", attempt=1, machines=("db01", "db02"), at=now()),
        *(Confirmed(execution=execution, at=now()) for execution in (DB01, DB02)),
        *(WrapperStarted(execution=execution, pid=7, version="1.0", at=now()) for execution in (DB01, DB02)),
    )


def _end(scene: Scene) -> None:
    scene.end(DB01)
    scene.end(DB02, LOST)
    scene.post(
        CameLate(execution=DB02, outcome=FINE, at=now()),
        RunEnded(run=RUN, verdict=Verdict.FAILED, at=now()),
    )


def written(transcript: Transcript) -> str:
    return json.dumps(transcript, indent=2, ensure_ascii=False) + "\n"


async def test_what_was_said_before_is_said_still(autojump_clock: MockClock) -> None:
    told = await story()
    assert {path.stem for path in GOLDEN.glob("*.json")} == told.keys()
    for chapter, transcript in told.items():
        assert json.loads(written(transcript)) == json.loads((GOLDEN / f"{chapter}.json").read_text()), chapter


@pytest.mark.parametrize("kind", ["config", "status", "details", "output_chunk", "timeline", "kill_receipt", "reply"])
def test_every_kind_of_message_is_among_them(kind: str) -> None:
    said = [each for path in GOLDEN.glob("*.json") for each in json.loads(path.read_text())]
    assert kind in {each["daemon"]["type"] for each in said if "daemon" in each}


if __name__ == "__main__":
    for name, chapter_told in trio.run(story, clock=MockClock(autojump_threshold=0)).items():
        (GOLDEN / f"{name}.json").write_text(written(chapter_told))
