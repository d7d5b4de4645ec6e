from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.events import Configured, ExecutionId, NextSlot, Paused, Retrying, RunEnded, Started, StoreFares
from saltpeter.domain.state import State
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.conversation import MERGE_S
from saltpeter.endpoints.forms import MAX_NAMES
from saltpeter.engine.board import Board
from saltpeter.engine.execution import Manner
from tests.endpoints.rig import NOON, Peer, dial, now
from tests.endpoints.scene import DB01, DB02, RUN, Scene, config, job

NEVER_RAN = {"last_run": "", "result_ok": True, "verdict": "", "job_instance": "", "next_run": ""}


def of_type(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]


async def greeted(client: Peer) -> tuple[dict[str, Any], dict[str, Any]]:
    return await client.hear(), await client.hear()


async def test_who_comes_is_told_everything(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        told_config, status = await greeted(client)
        assert told_config["type"] == "config"
        assert told_config["sp_version"] == "1.0"
        assert told_config["config"]["crons"]["backup"] == {
            "command": "true",
            "group": "nightly",
            "path": "/etc/nightly.yaml",
            "line": 1,
        }
        assert told_config["config"]["maintenance"] == {"global": False, "machines": [], "holds": []}
        assert status == {
            "type": "status",
            "running": {RUN: {"name": "backup", "started": NOON.isoformat(), "machines": ["db01"], "targets": 1}},
            "last_state": {
                "backup": {**NEVER_RAN, "last_run": NOON.isoformat(), "job_instance": RUN},
                "other": NEVER_RAN,
            },
            "sp_version": "1.0",
        }
        assert await client.hear_all(60) == []


async def test_a_store_that_cannot_write_is_in_the_status_until_it_can(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        assert "store_problem" not in (await greeted(client))[1]
        await trio.sleep(2)
        scene.post(StoreFares(problem="the ledger is full", at=now()))
        assert (await client.hear())["store_problem"] == "the ledger is full"
        async with dial(scene.front()) as another:
            assert (await greeted(another))[1]["store_problem"] == "the ledger is full"
            await another.say(why={"cron": "backup", "at": "2026-11-19T03:00:00+00:00"}, id=1)
            reply = await another.hear()
            assert (reply["result"]["answer"], "the ledger is full" in reply["result"]["text"]) == ("pending", True)
        scene.post(StoreFares(problem=None, at=now()))
        assert "store_problem" not in await client.hear()
        assert await client.hear_all(60) == []


async def test_secrets_are_not_shown(autojump_clock: MockClock) -> None:
    env = {"DB_PASSWORD": "x1", "api_key": "x2", "HOME": "/root"}
    sources = {"MORE": {"file": "/x3"}, "MOST": {"command": "vault --password x4"}}
    scene = Scene(Board(State(config(job("backup", env=env, secret_env=sources)))))
    async with dial(scene.front()) as client:
        told, _status = await greeted(client)
    assert told["config"]["crons"]["backup"]["env"] == {"DB_PASSWORD": "***", "api_key": "***", "HOME": "/root"}
    assert told["config"]["crons"]["backup"]["secret_env"] == {"MORE": {"file": "***"}, "MOST": {"command": "***"}}


async def test_what_changes_is_told_together_and_not_too_often(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await greeted(client)
        await trio.sleep_until(10)
        scene.start("db01", "db02")
        status = await client.hear()
        assert status["running"][RUN]["machines"] == ["db01", "db02"]
        assert list(status["last_state"]) == ["backup"]
        assert trio.current_time() == pytest.approx(10 + MERGE_S)
        scene.end(DB01)
        await trio.sleep(0.2)
        scene.end(DB02, outcomes.LOST)
        scene.post(RunEnded(run=RUN, verdict=Verdict.FAILED, at=now()))
        status = await client.hear()
        assert trio.current_time() == pytest.approx(11 + MERGE_S)
        assert status["running"] == {}
        assert status["last_state"]["backup"]["result_ok"] is False


async def test_a_new_configuration_is_told(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        _told, _status = await greeted(client)
        scene.post(Configured(config=config(job("backup"), job("new")), at=now()))
        told = await client.hear()
        assert sorted(told["config"]["crons"]) == ["backup", "new"]
        assert told["config"]["serial"] == 1
        assert (await client.hear())["last_state"] == {"new": NEVER_RAN}


async def test_subscribers_get_details_and_output_as_it_comes(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    scene.post(NextSlot(job="backup", slot=NOON))
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe=["backup"])
        details = await client.hear()
        assert details["cron"] == "backup"
        assert details["data"]["next_run"] == NOON.isoformat()
        assert details["data"]["targets"] == ["db01"]
        assert details["data"]["results"]["db01"]["retcode"] == ""
        scene.post(Started(execution=DB01, pid=7, version="1.2", at=now()))
        scene.write(DB01, "größer ".encode()[:3])
        scene.write(DB01, "größer ".encode()[3:])
        [chunk] = of_type(await client.hear_all(0.5), "output_chunk")
        assert (chunk["chunk"], chunk["position"], chunk["is_complete"]) == ("größer ", 0, False)
        assert chunk["instance"] == RUN
        scene.write(DB01, "😀".encode())
        scene.end(DB01)
        messages = await client.hear_all(5)
        [chunk] = of_type(messages, "output_chunk")
        assert (chunk["chunk"], chunk["position"], chunk["total_length"]) == ("😀", 7, 9)
        assert chunk["is_complete"]
        result = of_type(messages, "details")[-1]["data"]["results"]["db01"]
        assert (result["ret"], result["retcode"], result["wrapper_version"]) == ("", 0, "1.2")
        assert result["output_length"] == 13


async def test_output_is_told_at_once_and_the_rest_together(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01", "db02")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe=["backup"])
        await client.hear_all(5)
        began = trio.current_time()
        scene.end(DB02)
        scene.write(DB01, b"soon")
        chunks: list[dict[str, Any]] = []
        while len(chunks) < 2:
            chunks += of_type([await client.hear()], "output_chunk")
        assert trio.current_time() < began + MERGE_S / 2
        assert sorted(chunk["machine"] for chunk in chunks) == ["db01", "db02"]
        scene.end(DB01)
        status = of_type(await client.hear_all(MERGE_S + 0.01), "status")
        assert [each["running"][RUN]["machines"] for each in status] == [[]]


async def test_the_last_run_of_an_idle_job_is_shown(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    scene.write(DB01, b"done\n")
    scene.end(DB01)
    scene.post(RunEnded(run=RUN, verdict=Verdict.SUCCEEDED, at=now()))
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe="backup", id=1)
        messages = await client.hear_all(5)
        assert of_type(messages, "reply")[0]["result"] == {"subscribed": ["backup"]}
        assert of_type(messages, "details")[0]["data"]["job_instance"] == RUN
        [chunk] = of_type(messages, "output_chunk")
        assert (chunk["chunk"], chunk["is_complete"]) == ("done\n", True)


async def test_after_unsubscribing_there_is_silence(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe="backup")
        await client.hear_all(5)
        await client.say(unsubscribe="backup")
        await client.hear_all(5)
        scene.write(DB01, b"x")
        assert await client.hear_all(5) == []


async def test_requests_reach_the_engine_and_are_answered(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(run="backup", id="r1")
        assert await client.hear() == {"type": "reply", "id": "r1", "ok": True, "result": {"job_instance": RUN}}
        await client.say(run="nothing", id="r2")
        assert (await client.hear())["error"] == {"code": "unknown_job", "message": "there is no job 'nothing'"}
        await client.say(run="nothing")
        assert (await client.hear())["type"] == "error"
        await client.say(destroy="backup")
        assert (await client.hear())["code"] == "unknown_verb"
        await client.say(run="broken", id="r3")
        assert (await client.hear())["error"] == {"code": "failed", "message": "the disk is full"}
        await client.say(ack={"cron": "backup", "machine": "db01", "position": 3})
        await client.say(reload=True, id="r4")
        assert (await client.hear())["ok"]
    assert scene.asked == [("run", "backup", "unknown", None), ("reload", "unknown")]


async def test_a_kill_is_answered_twice(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(killMachine={"cron": "backup", "machine": "db01"}, id=5)
        handed = await client.hear()
        assert handed["result"] == {"runs": [{"job_instance": RUN, "machines": ["db01"], "told": ["db01"]}]}
        assert await client.hear_all(5) == []
        scene.done.set()
        receipt = await client.hear()
        assert (receipt["type"], receipt["id"], receipt["job"], receipt["job_instance"]) == (
            "kill_receipt",
            5,
            "backup",
            RUN,
        )
        assert receipt["machines"]["db01"] == {
            "retcode": 143,
            "outcome": "killed",
            "receipt": {"signalled": [], "ended": [{"pid": 7, "name": "sleep", "state": ""}], "survived": []},
        }


async def test_a_flood_of_output_leaves_room_for_news(autojump_clock: MockClock) -> None:
    """Both machines' output and the status come through while there is still more to send."""
    scene = Scene()
    scene.start("db01", "db02")
    for execution in (DB01, DB02):
        for _ in range(100):
            scene.write(execution, b"x" * 10_000)
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe="backup")
        kinds: list[str] = []
        length = {"db01": 0, "db02": 0}
        while min(length.values()) < 1_000_000:
            message = await client.hear()
            kinds.append(message["type"])
            if message["type"] == "output_chunk":
                assert message["position"] == length[message["machine"]]
                length[message["machine"]] += len(message["chunk"])
                assert abs(length["db01"] - length["db02"]) <= 160_000
            if len(kinds) == 4:
                scene.post(NextSlot(job="other", slot=None), Configured(config=config(job("third")), at=now()))
        assert "config" in kinds[4:-1]


async def test_maintenance_by_hand_is_told_when_it_begins_and_when_it_runs_out(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await greeted(client)
        began = now()
        await client.say(maintenance={"set": {"machine": "db01", "reason": "new disk", "until": "now+1h"}}, id=1)
        messages = await client.hear_all(5)
        holds = [
            {
                "machine": "db01",
                "reason": "new disk",
                "by": "unknown",
                "since": began.isoformat(),
                "until": (began + timedelta(hours=1)).isoformat(),
            }
        ]
        shown = {"global": False, "machines": ["db01"], "holds": holds}
        assert of_type(messages, "reply")[0]["result"] == shown
        assert of_type(messages, "config")[0]["config"]["maintenance"] == shown
        told = await client.ws.get_message()
        assert trio.current_time() == pytest.approx(3600, abs=1)
        assert '"holds":[]' in told
        await client.say(maintenance={"set": {"machine": ""}})
        assert (await client.hear())["config"]["maintenance"]["global"]
        await client.say(maintenance={"end": {"machine": ""}})
        assert not (await client.hear())["config"]["maintenance"]["global"]


async def test_signals_and_pauses_reach_the_engine_and_show(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01", "db02")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe="backup")
        await client.hear_all(5)
        await client.say(pause={"cron": "backup", "job_instance": RUN}, id=1)
        told = {"runs": [{"job_instance": RUN, "machines": ["db01", "db02"], "told": ["db01"]}]}
        assert (await client.hear())["result"] == told
        scene.post(Paused(execution=DB01, paused=True))
        results = (await client.hear())["data"]["results"]
        assert (results["db01"]["paused"], results["db02"]["paused"]) == (True, False)
        await client.say(signal={"cron": "backup", "signal": "USR1", "machine": "db01"}, id=2)
        assert (await client.hear())["id"] == 2
    assert scene.asked == [
        ("signal", "backup", "unknown", "STOP", None, RUN),
        ("signal", "backup", "unknown", "USR1", ("db01",), None),
    ]


async def test_one_request_may_name_many_machines(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    names = [f"{number:04}.{'x' * 240}.example" for number in range(MAX_NAMES)]  # as long as names of hosts may be
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(killCron={"cron": "backup", "machines": names}, id=1)
        assert (await client.hear())["ok"]
        await client.say(killCron={"cron": "backup", "machines": [*names, "another"]}, id=2)
        assert (await client.hear())["error"] == {
            "code": "bad_value",
            "message": "killCron.machines must be a name, or a list of at most 1000",
        }
        await client.say(pause={"cron": "backup", "machines": ["db01", "db02"]}, id=3)
        assert (await client.hear())["ok"]
    assert scene.asked == [
        ("kill", "backup", "unknown", tuple(names), None, Manner()),
        ("signal", "backup", "unknown", "STOP", ("db01", "db02"), None),
    ]


async def test_a_kill_may_be_harder_than_the_job_says(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(killCron={"cron": "backup", "signal": "KILL", "grace": 0}, id=1)
        assert (await client.hear())["ok"]
    assert scene.asked == [("kill", "backup", "unknown", None, None, Manner("KILL", 0.0))]


async def test_who_comes_back_gets_what_it_missed(autojump_clock: MockClock) -> None:
    """A reconnecting client says up to where it has the output, in the units that a browser counts in."""
    scene = Scene()
    scene.start("db01", "db02")
    scene.write(DB01, "größer 😀 than".encode())
    scene.write(DB02, b"else")
    async with dial(scene.front()) as client:
        await greeted(client)
        wanted = {"cron": "backup", "machine": "db01", "job_instance": RUN, "position": 9}
        await client.say(subscribe=wanted)
        [chunk] = of_type(await client.hear_all(5), "output_chunk")
        assert (chunk["machine"], chunk["chunk"], chunk["position"]) == ("db01", " than", 9)
        await client.say(subscribe="backup")  # all machines again; what was sent is not sent twice
        [chunk] = of_type(await client.hear_all(5), "output_chunk")
        assert (chunk["machine"], chunk["chunk"], chunk["position"]) == ("db02", "else", 0)


async def test_one_run_can_be_followed_while_others_come_and_go(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe={"cron": "backup", "job_instance": RUN})
        await client.hear_all(5)
        newer = "backup_1762346050"
        scene.start("db01", run=newer)
        scene.write(ExecutionId(newer, "db01"), b"the newer one\n")
        scene.write(DB01, b"the one that is followed\n")
        scene.end(DB01)
        scene.post(RunEnded(run=RUN, verdict=Verdict.SUCCEEDED, at=now()))
        messages = await client.hear_all(5)
        [chunk] = of_type(messages, "output_chunk")
        assert (chunk["chunk"], chunk["instance"], chunk["is_complete"]) == ("the one that is followed\n", RUN, True)
        assert {message["data"]["job_instance"] for message in of_type(messages, "details")} == {RUN}
        await client.say(subscribe={"cron": "other", "job_instance": RUN}, id=1)
        assert (await client.hear())["error"]["code"] == "unknown_run"
        await client.say(subscribe=["nothing", "backup"], id=2)
        messages = await client.hear_all(5)
        assert of_type(messages, "reply")[0]["error"]["code"] == "unknown_job"
        assert of_type(messages, "details")[-1]["data"]["job_instance"] == newer


async def test_a_retrys_output_follows_its_predecessors(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    again = ExecutionId(RUN, "db01", 2)
    async with dial(scene.front()) as client:
        await greeted(client)
        await client.say(subscribe="backup")
        scene.write(DB01, b"first\n")
        scene.end(DB01, outcomes.LOST)
        scene.post(Retrying(execution=again, at=now()))
        scene.write(again, b"second\n")
        scene.end(again)
        chunks = of_type(await client.hear_all(5), "output_chunk")
        assert "".join(chunk["chunk"] for chunk in chunks) == "first\nsecond\n"
        assert [chunk["is_complete"] for chunk in chunks][-1:] == [True]


async def test_questions_are_answered_in_their_turn(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    async with dial(scene.front()) as client:
        await greeted(client)
        asked: dict[str, Any] = {
            "getRuns": {},
            "getRun": RUN,
            "getOutput": {"job_instance": RUN, "machine": "db01"},
            "getTimeline": {"start_date": "now-1h", "end_date": "now"},
            "next": {"count": 2},
            "why": {"cron": "backup", "at": "now"},
            "stats": "backup",
            "maintenance": {"show": True},
        }
        for verb, value in asked.items():
            await client.say(**{verb: value}, id=verb)
        replies = of_type(await client.hear_all(5), "reply")
        assert [reply["id"] for reply in replies] == list(asked)
        assert all(reply["ok"] for reply in replies)
        await client.say(getRun="backup_1", id=1)
        assert (await client.hear())["error"] == {"code": "unknown_run", "message": "there is no run 'backup_1'"}


async def test_a_client_that_does_not_read_is_dropped_and_nobody_else_waits(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    for _ in range(200):
        scene.write(DB01, b"x" * 50_000)
    front = scene.front()
    with trio.fail_after(60):
        stuck, theirs = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.converse, theirs)
            await stuck.send_all(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b"101" in await stuck.receive_some(1000)
            async with dial(front) as client:
                await greeted(client)
                assert trio.current_time() < 1
        assert 30 <= trio.current_time() < 40  # one message's deadline


async def test_raw_output_is_byte_for_byte_also_inside_a_character(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    pieces = [b"gr\xc3", b"\xb6\xc3\x9fer\x00", b"\xff\n"]
    for piece in pieces:
        scene.write(DB01, piece)
    asked = {"job_instance": RUN, "machine": "db01", "raw": True, "limit": 1}
    async with dial(scene.front()) as client:
        await greeted(client)
        position = 0
        got: list[bytes] = []
        while len(got) < len(pieces):
            await client.say(getOutput={**asked, "position": position}, id=1)
            page = (await client.hear())["result"]
            assert (page.keys(), page["is_complete"]) == ({"data_b64", "next", "is_complete", "total_length"}, False)
            got.append(base64.b64decode(page["data_b64"]))
            position = page["next"]
        scene.end(DB01)
        await client.hear_all(5)
        await client.say(getOutput={**asked, "position": position}, id=2)
        assert (await client.hear())["result"] == {
            "data_b64": "",
            "next": 3,
            "is_complete": True,
            "total_length": sum(map(len, pieces)),
        }
    assert got == pieces
