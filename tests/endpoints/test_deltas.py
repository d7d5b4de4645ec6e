"""Protocol 2: who puts together what was told has what is there, at the price of what has changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from saltpeter.domain.changes import Changes
from saltpeter.domain.events import (
    CameLate,
    Configured,
    Ended,
    Event,
    ExecutionId,
    HoldEnded,
    HoldSet,
    KillRequested,
    Launched,
    NextSlot,
    OutputGrew,
    Paused,
    Retrying,
    RunEnded,
    RunStarted,
    Started,
    StoreFares,
    Targeted,
)
from saltpeter.domain.job import Hold
from saltpeter.domain.outcome import LOST
from saltpeter.domain.state import State, apply
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.deltas import MERGE_S, Deltas, Texts
from tests.endpoints.rig import NOON, Peer, dial
from tests.endpoints.scene import DB01, DB02, FINE, RUN, Scene, config, job

JOBS = ("backup", "other", "third")


@attrs.define
class Told:
    """What a client has put together."""

    life: str = ""
    serial: int | None = None
    overview: dict[str, Any] = attrs.field(factory=dict)
    run: dict[str, Any] = attrs.field(factory=dict)
    results: dict[str, Any] = attrs.field(factory=dict)
    run_serial: int | None = None

    def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "run":
            self.run_serial = message["serial"]
        match message:
            case {"type": "snapshot", "life": self.life | _}:
                self.serial = message["serial"]
                parts = ("crons", "jobs", "runs", "maintenance", "saltpeter_config", "problems", "store_problem")
                self.overview = {part: message[part] for part in parts}
            case {"type": "changes"}:
                self.serial = message["serial"]
                self._merge(message)
            case {"type": "run", "whole": True}:
                self.run, self.results = message["run"], message["results"]
            case {"type": "run"}:
                self.run |= message.get("run", {})
                self.results |= message.get("results", {})
                for machine, length in message.get("lengths", {}).items():
                    self.results[machine] = {**self.results[machine], "output_length": length}

    def _merge(self, message: dict[str, Any]) -> None:
        for part in ("maintenance", "saltpeter_config", "problems", "store_problem"):
            self.overview[part] = message.get(part, self.overview[part])
        for part in ("crons", "jobs"):
            self.overview[part] |= message.get(part, {})
        for run, told in message.get("runs", {}).items():
            before = self.overview["runs"].get(run, {"machines": {}})
            merged = None if told is None else {**told, "machines": {**before["machines"], **told["machines"]}}
            self.overview["runs"][run] = merged
        for part in ("crons", "runs"):
            self.overview[part] = {name: each for name, each in self.overview[part].items() if each is not None}


def hear(told: Told, viewer: Deltas, state: State, at: float) -> None:
    for text in viewer.due(state, at, NOON):
        told.take(json.loads(text))


def viewer(serial: int | None = None) -> Deltas:
    made = Deltas("1.0", "life", Texts(), serial)
    made.subscribe("backup")
    return made


def shown(state: State) -> Told:
    """What somebody who comes just now is told."""
    told = Told()
    hear(told, viewer(), state, 0)
    return told


# --- whatever happens -----------------------------------------------------------------------------

MACHINES = ("m1", "m2", "m3")
MOVES = ("hear", "hear", "miss", "reconnect", "reconnect to the run", "look at the newest")


def events(state: State, draw: st.DataObject) -> Iterable[Event]:
    """One thing that may happen next."""
    at = NOON + timedelta(seconds=state.serial)
    living = sorted(state.runs)
    kind = draw.draw(st.sampled_from(["start", *["machine"] * 3, "end", "config", "hold", "store", "slot"]))
    name = draw.draw(st.sampled_from(JOBS))
    if kind == "start":
        run = f"{name}_{state.serial}"
        return [
            RunStarted(run=run, job=name, slot=None, by="x", token="t", at=at),
            Targeted(run=run, machines=MACHINES, at=at),
        ]
    if kind in ("machine", "end") and living:
        return _of_a_run(draw.draw(st.sampled_from(living)), kind, at, draw)
    if kind == "config":
        named = draw.draw(st.sets(st.sampled_from(JOBS), min_size=1))
        return [Configured(config=config(*(job(each, owner=str(state.serial % 2)) for each in sorted(named))), at=at)]
    if kind == "hold":
        hold = Hold(machine="m1", reason="", by="x", since=at, until=None)
        return [HoldEnded(machine="m1", by="x", at=at) if "m1" in state.holds else HoldSet(hold=hold, at=at)]
    if kind == "store":
        return [StoreFares(problem=draw.draw(st.sampled_from([None, "full", "damaged"])), at=at)]
    return [NextSlot(job=name, slot=at)]


def _of_a_run(run: str, kind: str, at: datetime, draw: st.DataObject) -> Iterable[Event]:
    if kind == "end":
        return [RunEnded(run=run, verdict=Verdict.FAILED, at=at)]
    execution = ExecutionId(run, draw.draw(st.sampled_from(MACHINES)))
    may_happen: list[Event] = [
        Launched(run=run, ticket="7", attempt=1, machines=(execution.machine,), at=at),
        Started(execution=execution, pid=7, version="1.0", at=at),
        OutputGrew(execution=execution, length=at.second + 1, at=at),
        Paused(execution=execution, paused=True),
        Ended(execution=execution, outcome=LOST, at=at),
        Ended(execution=execution, outcome=FINE, at=at),
        CameLate(execution=execution, outcome=FINE, at=at),
        Retrying(execution=ExecutionId(run, execution.machine, 2), at=at),
        KillRequested(run=run, machines=(), by="x", at=at),
    ]
    return [draw.draw(st.sampled_from(may_happen))]


@settings(max_examples=150, deadline=None)
@given(draw=st.data(), bound=st.sampled_from([3, 10, 1000]))
def test_what_was_told_adds_up_to_what_is_there(draw: st.DataObject, bound: int) -> None:
    state = State(config(*map(job, JOBS)), changes=Changes(bound))
    told, listening, at = Told(), viewer(), 0.0
    for _ in range(draw.draw(st.integers(1, 25))):
        for event in events(state, draw):
            apply(state, event)
        match draw.draw(st.sampled_from(MOVES)):
            case "hear":
                at += draw.draw(st.sampled_from([0.05, 0.2, 2.0]))
                hear(told, listening, state, at)
            case "reconnect":
                listening = viewer(told.serial)
            case "reconnect to the run" if told.run and (run := state.run(told.run["job_instance"])):
                listening = Deltas("1.0", "life", Texts(), told.serial)
                listening.subscribe("backup", run, told.run_serial)
            case "look at the newest":
                listening.subscribe("backup")
    listening.subscribe("backup")
    for _ in range(2):  # how much was written may be told a second later
        at += 2.0
        hear(told, listening, state, at)
    there = shown(state)
    assert told.overview["crons"] == there.overview["crons"]
    assert told.overview["runs"] == there.overview["runs"]
    assert {name: told.overview["jobs"][name] for name in there.overview["jobs"]} == there.overview["jobs"]
    assert told.overview["maintenance"] == there.overview["maintenance"]
    assert told.overview["store_problem"] == there.overview["store_problem"]
    assert (told.run, told.results) == (there.run, there.results)
    for run in state.runs.values():
        outcomes = [each.outcome for each in run.executions.values() if each.outcome is not None]
        assert run.failed == sum(outcome.is_failure for outcome in outcomes)


# --- the price ------------------------------------------------------------------------------------


def price_of_one_end(machines: int) -> tuple[int, int]:
    """Of telling that one machine of so many has ended: calls of functions, and characters."""
    state = State(config(*map(job, JOBS)))
    apply(state, RunStarted(run=RUN, job="backup", slot=None, by="x", token="t", at=NOON))
    names = tuple(f"m{number:05}" for number in range(machines))
    apply(state, Targeted(run=RUN, machines=names, at=NOON))
    listening = viewer()
    listening.due(state, 0, NOON)
    apply(state, Ended(execution=ExecutionId(RUN, names[machines // 2]), outcome=FINE, at=NOON))
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    messages = listening.due(state, 10, NOON)
    sys.setprofile(None)
    assert [json.loads(each)["type"] for each in messages] == ["changes", "run"]
    return calls, sum(map(len, messages))


def test_the_end_of_one_machine_costs_the_same_among_ten_thousand() -> None:
    few_calls, few_characters = price_of_one_end(10)
    many_calls, many_characters = price_of_one_end(10_000)
    assert many_calls == few_calls
    assert many_characters <= few_characters + 20  # some numbers have more digits


def test_many_who_are_due_the_same_share_one_text() -> None:
    state, texts = State(config(*map(job, JOBS))), Texts()
    listeners = [Deltas("1.0", "life", texts) for _ in range(3)]
    first = [listener.due(state, 0, NOON) for listener in listeners]
    apply(state, NextSlot(job="backup", slot=NOON))
    second = [listener.due(state, 10, NOON) for listener in listeners]
    for [one], [other], [third] in (first, second):
        assert one is other is third


# --- over the wire --------------------------------------------------------------------------------


async def greet(client: Peer, **known: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer to a hello, and the first message."""
    await client.say(hello={"protocol": 2, **known}, id="h")
    messages = [await client.hear(), await client.hear()]
    [answer] = [each["result"] for each in messages if each["type"] == "reply"]
    [first] = [each for each in messages if each["type"] != "reply"]
    return answer, first


async def test_changes_are_merged_and_told_within_a_tenth_of_a_second(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await greet(client)
        await trio.sleep(10)
        began = trio.current_time()
        scene.start("db01", "db02")
        scene.end(DB01)
        told = await client.hear()
        assert trio.current_time() == pytest.approx(began + MERGE_S)
        assert told["runs"][RUN]["machines"] == {"db01": "ended", "db02": "waiting"}
        scene.end(DB02)
        assert (await client.hear())["runs"][RUN]["machines"] == {"db02": "ended"}
        assert trio.current_time() <= began + 3 * MERGE_S
        assert await client.hear_all(60) == []  # and nothing is told twice


async def test_a_connection_that_comes_back_goes_on_from_its_serial(autojump_clock: MockClock) -> None:
    scene = Scene()
    front = scene.front()
    async with dial(front) as client:
        answer, first = await greet(client)
        assert (answer["resumed"], first["because"]) == (False, "new")
    scene.start("db01")
    async with dial(front) as client:
        answer, first = await greet(client, life=answer["life"], serial=first["serial"])
        assert answer["resumed"]
        assert list(first["runs"]) == [RUN]
        assert "crons" not in first


@pytest.mark.parametrize("since", ["heard", "restarted", "too old"])
async def test_a_run_is_gone_on_with_where_that_is_possible(autojump_clock: MockClock, since: str) -> None:
    scene = Scene()
    front = scene.front()
    scene.start("db01", "db02", "db03")
    about = {"cron": "backup", "job_instance": RUN, "output": False}
    async with dial(front) as client:
        answer, first = await greet(client)
        await client.say(subscribe=about)
        told = await client.hear()
        assert (told["whole"], list(told["results"])) == (True, ["db01", "db02", "db03"])
    scene.end(DB01)
    scene.write(DB02, b"12345")
    if since == "too old":
        scene.board.state.changes.bound = 0
        scene.post(NextSlot(job="other", slot=NOON))
    life = "another" if since == "restarted" else answer["life"]
    async with dial(front) as client:
        await client.say(hello={"protocol": 2, "life": life, "serial": first["serial"]})
        await client.say(subscribe={**about, "serial": told["serial"]}, id=1)
        runs = [each for each in await client.hear_all(5) if each["type"] == "run"]
    if since != "heard":
        assert [each["whole"] for each in runs] == [True]
        return
    part, growth = runs
    assert (part["whole"], list(part["results"]), part["run"]["machines"]) == (False, ["db01"], 3)
    assert growth["lengths"] == {"db02": 5}
    assert part["serial"] < growth["serial"], "who goes on from the first must hear the second"


async def test_who_knows_all_of_a_run_is_told_nothing_of_it(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    front = scene.front()
    about = {"cron": "backup", "job_instance": RUN, "output": False}
    async with dial(front) as client:
        answer, _ = await greet(client)
        await client.say(subscribe=about)
        told = await client.hear()
    async with dial(front) as client:
        await client.say(hello={"protocol": 2, "life": answer["life"], "listen": False})
        await client.say(subscribe={**about, "serial": told["serial"]}, id=1)
        assert [each["type"] for each in await client.hear_all(5)] == ["reply"]
        scene.end(DB01)
        part = (await client.hear_all(5))[0]
        assert (part["type"], part["whole"], part["results"]["db01"]["state"]) == ("run", False, "ended")
        await client.say(subscribe={"cron": "backup", "serial": told["serial"]}, id=2)
        error = (await client.hear())["error"]
        assert (error["code"], "subscribe.job_instance is missing" in error["message"]) == ("bad_value", True)


@pytest.mark.parametrize(("life", "because"), [("another", "restarted"), (None, "restarted"), ("same", "too_old")])
async def test_who_cannot_go_on_is_told_everything_and_why(
    autojump_clock: MockClock, life: str | None, because: str
) -> None:
    scene = Scene()
    scene.board.state.changes.bound = 1
    front = scene.front()
    async with dial(front) as client:
        answer, _ = await greet(client)
    scene.start("db01")
    async with dial(front) as client:
        answer, first = await greet(client, life=answer["life"] if life == "same" else life, serial=0)
        assert not answer["resumed"]
        assert (first["type"], first["because"], list(first["runs"])) == ("snapshot", because, [RUN])


def test_who_comes_late_gets_the_newest_and_not_all() -> None:
    state, names = State(config(*map(job, JOBS))), [f"m{number}" for number in range(200)]
    apply(state, RunStarted(run=RUN, job="backup", slot=None, by="x", token="t", at=NOON))
    apply(state, Targeted(run=RUN, machines=tuple(names), at=NOON))
    listening = viewer()
    listening.due(state, 0, NOON)
    for name in names:
        for length in range(1, 20):
            apply(state, OutputGrew(execution=ExecutionId(RUN, name), length=length, at=NOON))
        apply(state, Ended(execution=ExecutionId(RUN, name), outcome=FINE, at=NOON))
    changes, run, lengths = map(json.loads, listening.due(state, 10, NOON))
    assert (changes["runs"][RUN]["open"], len(run["results"])) == (0, 200)
    assert set(lengths["lengths"].values()) == {19}
    assert listening.due(state, 20, NOON) == []


async def test_who_wants_only_answers_is_told_nothing_else(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with dial(scene.front()) as client:
        await client.say(hello={"protocol": 2, "listen": False}, id=1)
        assert (await client.hear())["ok"]
        scene.start("db01")
        assert await client.hear_all(5) == []
        await client.say(subscribe="backup")
        told = await client.hear()
        assert (told["type"], told["whole"], list(told["results"])) == ("run", True, ["db01"])


@pytest.mark.parametrize(
    ("request_", "code", "names"),
    [
        ({"hello": {"protocol": 3}}, "bad_value", "hello.protocol"),
        ({"hello": {}}, "bad_value", "hello.protocol"),
        ({"hello": {"protocol": 2, "seriel": 7}}, "unknown_field", "hello.seriel"),
        ({"helo": {"protocol": 2}}, "unknown_verb", "helo"),
    ],
)
async def test_a_hello_that_makes_no_sense_is_refused_by_name(
    autojump_clock: MockClock, request_: dict[str, Any], code: str, names: str
) -> None:
    async with dial(Scene().front()) as client:
        await client.say(**request_, id=1)
        error = (await client.hear())["error"]
        assert error["code"] == code
        assert names in error["message"]


async def test_hello_comes_first(autojump_clock: MockClock) -> None:
    async with dial(Scene().front()) as client:
        await client.say(subscribe=["backup"])
        await client.hear_all(1)
        await client.say(hello={"protocol": 2}, id=1)
        assert (await client.hear())["error"]["code"] == "bad_request"


async def test_protocol_1_may_be_asked_for_by_name(autojump_clock: MockClock) -> None:
    async with dial(Scene().front()) as client:
        await client.say(hello={"protocol": 1}, id=1)
        heard = {message["type"] for message in await client.hear_all(1)}
        assert heard == {"reply", "config", "status"}


async def test_output_of_one_machine_can_be_added_and_left(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01", "db02")
    about = {"cron": "backup", "job_instance": RUN}
    async with dial(scene.front()) as client:
        await greet(client)
        await client.say(subscribe={**about, "output": False})
        scene.write(DB01, b"one\n")
        scene.write(DB02, b"two\n")
        assert not [each for each in await client.hear_all(5) if each["type"] == "output_chunk"]
        scene.end(DB01)
        scene.end(DB02)
        await client.hear_all(5)
        await client.say(subscribe={**about, "machine": "db01"})
        [chunk] = await client.hear_all(5)  # and the run is not told anew
        assert (chunk["chunk"], chunk["is_complete"]) == ("one\n", True)
        await client.say(unsubscribe={"cron": "backup", "machine": "db01"}, id=1)
        assert (await client.hear())["result"] == {"subscribed": ["backup"]}
        await client.say(subscribe={**about, "machine": "db02", "output": False}, id=2)
        assert (await client.hear())["error"]["code"] == "bad_value"
        await client.say(subscribe={**about, "machine": "db02"})
        [chunk] = await client.hear_all(5)
        assert chunk["machine"] == "db02"
