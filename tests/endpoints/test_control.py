from __future__ import annotations

from collections.abc import Collection, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.job import Config, Job, Settings, Target
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import (
    Configured,
    Ended,
    Event,
    ExecutionId,
    NextSlot,
    OutputGrew,
    RunEnded,
    RunStarted,
    Started,
    State,
    Targeted,
)
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.control import MERGE_S, ControlEndpoint
from saltpeter.endpoints.http import Front
from saltpeter.engine.board import Board
from saltpeter.engine.commands import HandedOver
from saltpeter.engine.storage import Piece
from saltpeter.errors import CommandRefused, StoreError
from sp_wrapper import wire
from tests.endpoints.rig import NOON, Peer, dial, exchange, now

RUN = "backup_1762346049"
DB01, DB02 = ExecutionId(RUN, "db01"), ExecutionId(RUN, "db02")
FINE = Outcome(end=End.EXITED, code=0)
KILLED = Outcome(end=End.KILLED, code=143, receipt=wire.Receipt(ended=(wire.Process(7, "sleep"),)))


def job(name: str, **written: object) -> Job:
    return Job(
        name=name,
        group="nightly",
        path="/etc/nightly.yaml",
        line=1,
        schedule=Schedule(Fields.parse("0 3 * * *")),
        command="true",
        target=Target("*"),
        written=MappingProxyType({"command": "true", **written}),
    )


def config(*jobs: Job) -> Config:
    return Config(jobs={each.name: each for each in jobs}, settings=Settings(statedir="/s", logdir="/l"))


@attrs.define(eq=False)
class Scene:
    """A daemon's inside as the control socket sees it: a board, output, and an engine that does as it is told."""

    board: Board = attrs.field(factory=lambda: Board(State(config(job("backup"), job("other")))))
    output: dict[ExecutionId, list[Piece]] = attrs.field(factory=dict)
    asked: list[tuple[object, ...]] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)

    def front(self) -> Front:
        return ControlEndpoint(self.board, self, self, "1.0", now).front()

    def post(self, *events: Event) -> None:
        for event in events:
            self.board.post(event)

    def start(self, *machines: str) -> None:
        self.post(
            RunStarted(run=RUN, job="backup", slot=None, by="x", token="secret!", at=now()),
            Targeted(run=RUN, machines=machines, at=now()),
        )

    def write(self, execution: ExecutionId, data: bytes) -> None:
        pieces = self.output.setdefault(execution, [])
        pieces.append(Piece(len(pieces), data))
        length = sum(len(piece.data) for piece in pieces)
        self.post(OutputGrew(execution=execution, length=length, at=now()))

    def end(self, execution: ExecutionId, outcome: Outcome = FINE) -> None:
        self.post(Ended(execution=execution, outcome=outcome, at=now()))

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        await trio.sleep(0.001)
        return self.output.get(execution, [])[first : first + limit]

    async def run(self, job: str, by: str, machines: Collection[str] | None = None) -> str:
        if job == "broken":
            raise StoreError("the disk is full")
        if job not in self.board.state.config.jobs:
            raise CommandRefused("unknown_job", f"there is no job {job!r}")
        self.asked.append(("run", job, by, machines))
        return RUN

    async def kill(
        self, job: str, by: str, machine: str | None = None, instance: str | None = None
    ) -> Sequence[HandedOver]:
        self.asked.append(("kill", job, by, machine, instance))
        return [HandedOver(RUN, (DB01,), (DB01,))]

    async def ended(self, handed: HandedOver) -> Sequence[tuple[ExecutionId, Outcome]]:
        await self.done.wait()
        return [(execution, KILLED) for execution in handed.executions]

    def reload(self, by: str) -> None:
        self.asked.append(("reload", by))


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
        assert told_config["config"]["crons"]["backup"] == {"command": "true", "group": "nightly"}
        assert told_config["config"]["maintenance"] == {"global": False, "machines": []}
        assert status == {
            "type": "status",
            "running": {RUN: {"name": "backup", "started": NOON.isoformat(), "machines": ["db01"]}},
            "last_state": {
                "backup": {"last_run": NOON.isoformat(), "result_ok": True},
                "other": {"last_run": "", "result_ok": True},
            },
            "sp_version": "1.0",
        }
        assert await client.hear_all(60) == []


async def test_secrets_are_not_shown(autojump_clock: MockClock) -> None:
    env = {"DB_PASSWORD": "x1", "api_key": "x2", "HOME": "/root"}
    scene = Scene(Board(State(config(job("backup", env=env, secret_env={"MORE": {"file": "/x3"}})))))
    async with dial(scene.front()) as client:
        told, _status = await greeted(client)
    assert told["config"]["crons"]["backup"]["env"] == {"DB_PASSWORD": "***", "api_key": "***", "HOME": "/root"}
    assert "secret_env" not in told["config"]["crons"]["backup"]


async def test_what_changes_is_told_together_and_not_too_often(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await greeted(client)
        await trio.sleep(10)
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
        assert (await client.hear())["last_state"] == {"new": {"last_run": "", "result_ok": True}}


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


@pytest.mark.parametrize("path", ["/version", "/healthz", "/config", "/running", "/status"])
async def test_plain_http_answers_too(path: str, autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    answer = await exchange(scene.front(), f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"secret!" not in answer
    shown = {"/version": b'{"version": "1.0"}', "/healthz": b'"status": "ok"', "/config": b'"crons"'}
    assert shown.get(path, RUN.encode()) in answer


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
                b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b"101" in await stuck.receive_some(200)
            async with dial(front) as client:
                await greeted(client)
                assert trio.current_time() < 1
        assert 30 <= trio.current_time() < 40  # one message's deadline
