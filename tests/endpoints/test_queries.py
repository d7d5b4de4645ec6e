"""What people ask about the past, over the real store; and about the future."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import pytest

from saltpeter.domain.events import (
    Confirmed,
    Ended,
    ExecutionId,
    KillRequested,
    Launched,
    LedgerEvent,
    Reason,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Targeted,
)
from saltpeter.domain.job import Job
from saltpeter.domain.outcome import LOST, MAINTENANCE, End, Outcome
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import State
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints import verbs
from saltpeter.endpoints.forms import BadRequest, Moment
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.queries import Queries
from saltpeter.endpoints.vitals import AllVitals
from saltpeter.engine.board import Board
from saltpeter.errors import CommandRefused
from saltpeter.jsontext import dump, load
from saltpeter.store.sqlite import SqliteStore, open_store
from tests.endpoints.rig import NOON
from tests.endpoints.scene import FINE, config, job

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
NOW = NOON + HOUR


def second(at: datetime) -> int:
    return int(at.timestamp())


def story(at: datetime, verdict: Verdict, **outcomes: Outcome) -> tuple[str, list[LedgerEvent]]:
    """A run of `backup` for the slot `at` that took 10 seconds, with each machine's end."""
    run = f"backup_{second(at)}"
    events: list[LedgerEvent] = [
        RunStarted(run=run, job="backup", slot=at, by="schedule", token="t", at=at),
        Targeted(run=run, machines=tuple(outcomes), at=at),
        Launched(run=run, ticket="1", attempt=1, machines=tuple(outcomes), at=at),
    ]
    for machine, outcome in outcomes.items():
        events.append(Confirmed(execution=ExecutionId(run, machine), at=at + SECOND))
        events.append(Ended(execution=ExecutionId(run, machine), outcome=outcome, at=at + 9 * SECOND))
    return run, [*events, RunEnded(run=run, verdict=verdict, at=at + 10 * SECOND)]


@attrs.define
class Library:
    board: Board
    store: SqliteStore
    queries: Queries

    async def tell(self, at: datetime, verdict: Verdict, **outcomes: Outcome) -> str:
        run, events = story(at, verdict, **outcomes)
        await self.store.commit(*events)
        return run


@asynccontextmanager
async def library(path: Path, *jobs: Job) -> AsyncIterator[Library]:
    async with open_store(path, "1.0", lambda: NOON - 24 * HOUR) as store:
        board = Board(State(config(*(jobs or (job("backup", "0 * * * *"),)))))
        vitals = AllVitals({}, Pulse(), store.health, lambda: NOW)
        yield Library(board, store, Queries(board, store, lambda: NOW, vitals))


async def test_runs_are_listed_with_how_they_went(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        first = await lib.tell(NOON - 2 * HOUR, Verdict.SUCCEEDED, m1=FINE, m2=MAINTENANCE)
        second_run = await lib.tell(NOON - HOUR, Verdict.FAILED, m1=FINE, m2=LOST, m3=Outcome(end=End.EXITED, code=3))
        found = (await lib.queries.runs(verbs.GetRuns("backup")))["runs"]
        assert [(run["job_instance"], run["machines"], run["failed"]) for run in found] == [
            (second_run, 3, 2),
            (first, 2, 0),
        ]
        assert found[0] == {
            "job_instance": second_run,
            "cron": "backup",
            "slot": (NOON - HOUR),
            "by": "schedule",
            "started": (NOON - HOUR),
            "ended": (NOON - HOUR + 10 * SECOND),
            "verdict": "failed",
            "text": "",
            "machines": 3,
            "failed": 2,
            "duration": 10.0,
        }
        for asked, expected in (
            (verbs.GetRuns(failed=True), [second_run]),
            (verbs.GetRuns(failed=False), [first]),
            (verbs.GetRuns(limit=1), [second_run]),
            (verbs.GetRuns(until=Moment(NOON - HOUR)), [first]),
            (verbs.GetRuns(since=Moment(shift=-HOUR)), []),
        ):
            assert [run["job_instance"] for run in (await lib.queries.runs(asked))["runs"]] == expected
        with pytest.raises(CommandRefused, match="did you mean backup") as refused:
            await lib.queries.runs(verbs.GetRuns("bakcup"))
        assert refused.value.code == "unknown_job"


async def test_a_living_run_is_listed_too(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        _, events = story(NOON, Verdict.SUCCEEDED, m1=FINE)
        await lib.store.commit(*events[:-2])
        [run] = (await lib.queries.runs(verbs.GetRuns()))["runs"]
        assert (run["ended"], run["verdict"], run["duration"], run["machines"], run["failed"]) == (None,) * 3 + (1, 0)


async def test_one_run_is_told_in_full(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        run, events = story(NOON, Verdict.FAILED, m1=LOST, m2=FINE)
        again = ExecutionId(run, "m1", 2)
        killed = KillRequested(run=run, machines=("m1",), by="unix:ops", at=NOON + 9 * SECOND)
        await lib.store.commit(*events[:-1], Retrying(execution=again, at=NOON + 9 * SECOND), killed)
        told = await lib.queries.run(run)
        assert told["results"]["m2"]["outcome"] == "exited"
        assert (told["results"]["m1"]["attempt"], told["results"]["m1"]["state"]) == (2, "waiting")
        stages = [(each["machine"], each["attempt"], each["state"]) for each in told["attempts"]]
        assert stages == [("m1", 1, "ended"), ("m1", 2, "waiting")]
        assert told["attempts"][0]["retcode"] == 253
        assert told["kills"] == [{"machines": ["m1"], "by": "unix:ops", "at": (NOON + 9 * SECOND)}]
        with pytest.raises(CommandRefused) as refused:
            await lib.queries.run("backup_1")
        assert refused.value.code == "unknown_run"


async def test_output_comes_in_pages_that_split_no_character(tmp_path: Path) -> None:
    text = "größer 😀 " * 10
    async with library(tmp_path) as lib:
        run, events = story(NOON, Verdict.SUCCEEDED, m1=FINE)
        await lib.store.commit(*events[:-2])
        data, execution = text.encode(), ExecutionId(run, "m1")
        for offset in range(0, len(data), 7):
            await lib.store.append(execution, offset, data[offset : offset + 7])
        pages, position = [], 0
        for _ in range(100):
            page = await lib.queries.output(verbs.GetOutput(run, "m1", position=position, limit=2))
            assert not page["is_complete"]
            pages.append(page["chunk"])
            position = page["next"]
        assert "".join(pages) == text
        await lib.store.commit(*events[-2:])
        last = await lib.queries.output(verbs.GetOutput(run, "m1", attempt=1, position=position))
        assert last == {"chunk": "", "next": position, "is_complete": True, "total_length": len(data)}


@pytest.mark.parametrize(
    ("machine", "attempt", "words"), [("m9", None, "has no part on 'm9'"), ("m1", 2, "had no attempt 2")]
)
async def test_output_that_cannot_be_is_refused(machine: str, attempt: int | None, words: str, tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        run = await lib.tell(NOON, Verdict.SUCCEEDED, m1=FINE)
        with pytest.raises(CommandRefused, match=words) as refused:
            await lib.queries.output(verbs.GetOutput(run, machine, attempt))
        assert refused.value.code == "unknown_machine"


async def test_statistics_are_of_the_runs_that_ended(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        assert await lib.queries.statistics("backup") == {
            "runs": 0,
            "success_rate": None,
            "p50": None,
            "p95": None,
            "durations": [],
            "verdicts": [],
        }
        await lib.tell(NOON - 3 * HOUR, Verdict.FAILED, m1=LOST)
        await lib.tell(NOON - 2 * HOUR, Verdict.SUCCEEDED, m1=FINE)
        _, events = story(NOON, Verdict.SUCCEEDED, m1=FINE)
        await lib.store.commit(*events[:-2])
        told = await lib.queries.statistics("backup")
        assert (told["runs"], told["success_rate"], told["p50"]) == (2, 0.5, 10.0)
        assert told["verdicts"] == ["failed", "success"]


async def test_the_timeline_has_beginnings_and_ends_in_order(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        run = await lib.tell(NOON, Verdict.FAILED, m1=FINE, m2=LOST)
        await lib.tell(NOON - 2 * HOUR, Verdict.SUCCEEDED, m1=FINE)
        told = await lib.queries.timeline(verbs.GetTimeline(Moment(NOON), Moment(NOON + HOUR), "t1"))
        assert told["id"] == "t1"
        assert [(each["machine"], each["msg_type"], each["ret_code"]) for each in told["content"]] == [
            ("m1", "machine_start", ""),
            ("m2", "machine_start", ""),
            ("m1", "machine_result", 0),
            ("m2", "machine_result", 253),
        ]
        assert {each["job_instance"] for each in told["content"]} == {run}
        with pytest.raises(BadRequest, match="must lie before"):
            await lib.queries.timeline(verbs.GetTimeline(Moment(NOON), Moment(NOON)))


async def test_the_next_slots_of_all_jobs_come_soonest_first(tmp_path: Path) -> None:
    disabled = attrs.evolve(job("never", "* * * * *"), enabled=False)
    async with library(tmp_path, job("hourly", "0 * * * *"), job("often", "*/20 * * * *"), disabled) as lib:

        async def slots(asked: verbs.Next) -> list[tuple[str, str]]:
            return [(slot["cron"], f"{slot['slot']:%H:%M}") for slot in (await lib.queries.next(asked))["slots"]]

        assert await slots(verbs.Next(count=4)) == [
            ("often", "13:20"),
            ("often", "13:40"),
            ("hourly", "14:00"),
            ("often", "14:00"),
        ]
        assert await slots(verbs.Next("hourly", until=Moment(shift=3 * HOUR))) == [
            ("hourly", "14:00"),
            ("hourly", "15:00"),
            ("hourly", "16:00"),
        ]
        assert await slots(verbs.Next("never")) == []
        assert len(await slots(verbs.Next("often", until=Moment(shift=365 * 24 * HOUR)))) == 10_000
        with pytest.raises(CommandRefused, match="there is no job"):
            await lib.queries.next(verbs.Next("nothing"))


async def test_every_slot_has_its_reason(tmp_path: Path) -> None:
    """NOW is 13:00; the daemon began to keep its books a day before noon."""
    disabled = attrs.evolve(job("asleep", "0 * * * *"), enabled=False)
    async with library(tmp_path, job("backup", "0 * * * *"), disabled) as lib:

        async def why(at: datetime, name: str = "backup") -> tuple[str, str]:
            answer = await lib.queries.why(verbs.Why(name, Moment(at)))
            return answer["answer"], answer["text"]

        run = await lib.tell(NOON, Verdict.FAILED, m1=LOST)
        await lib.store.seen(NOON - 24 * HOUR)
        await lib.store.seen(NOW)
        held = "global maintenance is on"
        slot = NOON - HOUR
        await lib.store.commit(
            SlotPassed(job="backup", slot=slot, reason=Reason.MAINTENANCE, text=held, at=slot),
            RunStarted(run="gone_1", job="gone", slot=NOON, by="schedule", token="t", at=NOON),
        )
        assert await why(NOON) == ("ran", f"it ran as {run}, started by schedule, and ended: failed")
        assert await why(NOON + 30 * SECOND) == await why(NOON)
        assert await why(slot) == ("passed", held)
        assert await why(NOON + HOUR / 2) == (
            "not_due",
            "it was not due then; the next slot after that is 2026-11-20T13:00:00+00:00",
        )
        assert await why(NOON + 2 * HOUR) == ("pending", "it is due at 2026-11-20T14:00:00+00:00")
        assert await why(NOON - 48 * HOUR) == ("down", "the first daemon here began at 2026-11-19T12:00:00+00:00")
        assert (await why(NOON, "asleep"))[1] == "the job is disabled (enabled: false)"
        assert await why(NOON, "gone") == ("ran", "it ran as gone_1, started by schedule, and is running")
        assert (await why(NOON - HOUR, "gone"))[1].startswith("there is no such job any more")
        assert (await why(NOON, "nothing"))[0] == "unknown_job"


async def test_jobs_are_seen_at_a_glance(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        assert await lib.queries.latest(verbs.GetLatest(("backup", "nothing"))) == {"crons": {}}
        for hours, verdict in ((3, Verdict.SUCCEEDED), (2, Verdict.FAILED), (1, Verdict.SUCCEEDED)):
            await lib.tell(NOON - hours * HOUR, verdict, m1=FINE)
        living, events = story(NOON, Verdict.SUCCEEDED, m1=FINE)
        await lib.store.commit(*events[:-2])
        [told] = (await lib.queries.latest(verbs.GetLatest(("backup", "nothing"), count=3)))["crons"].values()
        assert told["usual"] == 10.0
        assert [(run["verdict"], run["duration"]) for run in told["runs"]] == [
            (None, None),
            ("success", 10.0),
            ("failed", 10.0),
        ]
        assert told["runs"][0]["job_instance"] == living


async def test_how_long_it_usually_takes_is_learnt_from_success(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        await lib.tell(NOON, Verdict.KILLED, m1=FINE)
        assert (await lib.queries.latest(verbs.GetLatest(("backup",))))["crons"]["backup"]["usual"] is None


async def test_machines_stand_beside_each_other_worst_first(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        older = await lib.tell(NOON - 2 * HOUR, Verdict.FAILED, m1=FINE, m2=LOST, m3=MAINTENANCE)
        newer = await lib.tell(NOON - HOUR, Verdict.FAILED, m1=Outcome(end=End.EXITED, code=3), m2=LOST)
        again = ExecutionId(newer, "m1", 2)
        living, events = story(NOON, Verdict.SUCCEEDED, m1=FINE)
        await lib.store.commit(*events[:-2], Retrying(execution=again, at=NOON))
        await lib.store.commit(Ended(execution=again, outcome=FINE, at=NOON))
        told = await lib.queries.matrix(verbs.GetMatrix("backup"))
        assert [run["job_instance"] for run in told["runs"]] == [living, newer, older]
        fine, lost = {"outcome": "exited", "retcode": 0}, {"outcome": "lost", "retcode": 253}
        going = {"outcome": None, "retcode": None}
        assert list(told["machines"].items())[:2] == [("m2", [None, lost, lost]), ("m1", [going, fine, fine])]
        assert (list(told["machines"])[2], told["total"]) == ("m3", 3)
        few = await lib.queries.matrix(verbs.GetMatrix("backup", machines=1))
        assert (list(few["machines"]), few["total"]) == (["m2"], 3)
        with pytest.raises(CommandRefused, match="there is no job"):
            await lib.queries.matrix(verbs.GetMatrix("nothing"))


async def test_slots_that_did_not_run_are_listed(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        assert await lib.queries.passed(verbs.GetPassed("backup")) == {"passed": []}
        slot = NOON - HOUR
        text = "the last run had not ended"
        await lib.store.commit(SlotPassed(job="backup", slot=slot, reason=Reason.OVERLAP, text=text, at=slot))
        [told] = (await lib.queries.passed(verbs.GetPassed("backup")))["passed"]
        assert (told["first"], told["slots"], told["reason"], told["text"]) == (slot, 1, "overlap", text)
        with pytest.raises(CommandRefused, match="there is no job"):
            await lib.queries.passed(verbs.GetPassed("nothing"))


async def test_the_machine_that_wrote_something_else_stands_out(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        outcomes = dict.fromkeys(("m1", "m2", "m3", "m4", "m5"), FINE)
        run = await lib.tell(NOON, Verdict.SUCCEEDED, **outcomes)
        for machine, pieces in {
            "m1": [b"one\ntwo\n"],
            "m2": [b"one\n", b"two\n"],  # cut otherwise, and the same
            "m3": [b"one\nTWO\n"],  # as long, and not the same
            "m4": [b"one\ntwo\nthree"],
        }.items():
            written = 0
            for piece in pieces:
                written = await lib.store.append(ExecutionId(run, machine), written, piece)
        assert (await lib.queries.alike(run))["groups"] == [
            {"machines": ("m1", "m2"), "length": 8, "line": 0, "text": ""},
            {"machines": ("m3",), "length": 8, "line": 2, "text": "TWO"},
            {"machines": ("m4",), "length": 13, "line": 3, "text": "three"},
            {"machines": ("m5",), "length": 0, "line": 0, "text": ""},
        ]
        with pytest.raises(CommandRefused, match="there is no run"):
            await lib.queries.alike("backup_1")


async def test_the_next_slots_say_what_the_clock_shows(tmp_path: Path) -> None:
    """In Berlin the clocks of 2027 go forward on 28 March and back on 31 October."""
    nightly = attrs.evolve(job("nightly"), schedule=Schedule(Fields.parse("30 2 * * *"), ZoneInfo("Europe/Berlin")))
    async with library(tmp_path, nightly) as lib:

        async def notes(day: str) -> list[tuple[str, str]]:
            asked = verbs.Next("nightly", 3, Moment(datetime.fromisoformat(f"{day}T12:00+00:00")))
            told = json.loads(dump(await lib.queries.next(asked)))
            return [(slot["local"], slot["note"]) for slot in told["slots"]]

        assert await notes("2027-03-26") == [
            ("2027-03-27T02:30:00+01:00", ""),
            ("2027-03-28T03:00:00+02:00", "gap"),
            ("2027-03-29T02:30:00+02:00", ""),
        ]
        assert await notes("2027-10-30") == [
            ("2027-10-31T02:30:00+02:00", "first"),
            ("2027-11-01T02:30:00+01:00", ""),
            ("2027-11-02T02:30:00+01:00", ""),
        ]


def test_what_json_can_hardly_say_is_read_as_it_was_written() -> None:
    value = {"half": "\ud800", "whole": "größer 😀", "none": None}
    assert load(dump(value)) == value
    with pytest.raises(ValueError, match="line 1"):
        load("{")
