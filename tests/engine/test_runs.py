"""How a run treats its machines, and how runs of one job treat each other."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.admission import splay
from saltpeter.domain.events import KillRequested, Launched, Reason, Retrying, RunStarted, SlotPassed, Targeted
from saltpeter.domain.job import Maintenance, Overlap, Retry, Share
from saltpeter.domain.outcome import End
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.run import AT_ONCE
from saltpeter.errors import CommandRefused, LaunchError
from tests.helpers.bottle import NOON, Bottle, Script, bottle, fleet, job
from tests.helpers.memory_store import MemoryStore

TEN = tuple(f"m{number}" for number in range(10))


# --- machines -----------------------------------------------------------------------------------------


async def test_machines_that_start_together_are_launched_by_one_publish(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet(*TEN)) as b:
        outcomes = await b.see()
        assert len(outcomes) == 10
        [launched] = b.of(Launched)
        assert set(launched.machines) == set(TEN)


async def test_the_machines_of_a_large_run_begin_in_several_turns(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet(*(f"m{number}" for number in range(1000)))) as b:
        run = await b.runs.run("backup", "test")
        [living] = b.runs._living["backup"]
        begun = len(living.executions)
        assert AT_ONCE <= begun < 1000  # others have their turn meanwhile
        assert await b.ended(run) is Verdict.SUCCEEDED


async def test_only_those_that_begin_now_are_launched_with_the_targets(autojump_clock: MockClock) -> None:
    """Who is held back, by splay, by its batch or by maintenance, has no part in the first launch."""
    held = Maintenance(machines=frozenset({"m3"}))
    spread = job(splay_s=2.0, batch_size=Share(3))
    async with bottle(spread, machines=fleet(*TEN), maintenance=held) as b:
        prompt = [machine for machine in TEN if splay("backup", machine, 2.0) == 0 and machine != "m3"]
        outcomes = await b.see()
        first = b.of(Launched)[0]
        assert first.machines == tuple(prompt[:3])
        assert {m for m, o in outcomes.items() if o.end is End.MAINTENANCE} == {"m3"}
        assert [len(b.fleet.machines[m].starts) for m in TEN] == [0 if m == "m3" else 1 for m in TEN]


async def test_a_run_that_waits_for_its_machines_is_in_the_ledger_before(autojump_clock: MockClock) -> None:
    machines = fleet(*TEN)
    machines.match_s = 5.0
    async with bottle(job(), machines=machines) as b:
        run = await b.runs.run("backup", "test")
        assert trio.current_time() < 1
        assert (len(b.of(RunStarted)), b.of(Targeted), b.board.state.runs[run].executions) == (1, [], {})
        assert await b.ended(run) is Verdict.SUCCEEDED
        assert len(b.outcomes(run)) == 10


async def test_a_kill_while_the_start_is_written_down_publishes_nothing(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="1 12 * * *"), machines=fleet(*TEN), store=MemoryStore(commit_s=5.0)) as b:
        await trio.sleep(61)
        assert not b.of(RunStarted)
        [handed] = await b.runs.kill("backup", "test")
        assert await b.ended(handed.run) is Verdict.KILLED
        assert {o.end for o in b.outcomes(handed.run).values()} == {End.KILLED}
        assert not b.fleet.published


async def test_a_kill_is_in_the_ledger_after_the_run_that_it_ends(autojump_clock: MockClock) -> None:
    """And not lost for a daemon that dies meanwhile, because it came before."""
    machines = fleet("m1")
    machines.match_s = 0.04
    async with bottle(job(schedule="1 12 * * *"), machines=machines) as b:
        await trio.sleep(60.02)
        [handed] = await b.runs.kill("backup", "test")
        assert await b.ended(handed.run) is Verdict.KILLED
        await trio.sleep(1)
        told = [type(event) for event in b.store.events if isinstance(event, (RunStarted, KillRequested))]
        assert told == [RunStarted, KillRequested]


async def test_a_kill_while_the_targets_are_written_down_publishes_nothing(autojump_clock: MockClock) -> None:
    machines = fleet(*TEN)
    machines.match_s = 1.0
    async with bottle(job(), machines=machines, store=MemoryStore(commit_s=5.0)) as b:
        run = await b.runs.run("backup", "test")
        await trio.sleep(1)
        assert not b.of(Targeted)
        await b.runs.kill("backup", "test")
        assert await b.ended(run) is Verdict.KILLED
        assert {o.end for o in b.outcomes(run).values()} == {End.KILLED}
        assert not b.fleet.published


async def test_a_run_goes_on_without_who_asked_for_it(autojump_clock: MockClock) -> None:
    async with bottle(job(), store=MemoryStore(commit_s=5.0)) as b:
        with trio.move_on_after(1):
            await b.runs.run("backup", "test")
        await trio.sleep(10)
        [started] = b.of(RunStarted)
        assert await b.ended(started.run) is Verdict.SUCCEEDED
        with trio.fail_after(60):
            assert (await b.see())["m1"].code == 0  # and is not taken to be running for ever


async def test_a_run_that_could_not_be_recorded_holds_up_no_other(autojump_clock: MockClock) -> None:
    """It had a place among the launches to its machines, and has left it."""
    async with bottle(job(), machines=fleet(*TEN)) as b:
        b.store.broken = "no room"
        with pytest.raises(CommandRefused, match="no room"):
            await b.runs.run("backup", "test")
        b.store.broken = ""
        begun_at = trio.current_time()
        assert {o.code for o in (await b.see()).values()} == {0}
        assert trio.current_time() - begun_at < 5


async def test_a_batch_moves_on_as_machines_end(autojump_clock: MockClock) -> None:
    async with bottle(job(batch_size=Share(20, percent=True)), machines=fleet(*TEN)) as b:
        for machine in TEN:
            b.play(machine, Script(lasts_s=10))
        b.play("m0", Script(lasts_s=100))  # a slow one holds one place, not the batch
        run = await b.runs.run("backup", "test")
        most = 0
        while b.board.state.runs:
            alive = [e for e in b.board.state.runs[run].executions.values() if e.launched_at and not e.ended_at]
            most = max(most, len(alive))
            await trio.sleep(1)
        assert most == 2
        assert max(at for machine, at in b.end_times(run).items() if machine != "m0") < 95
        assert Counter(o.code for o in b.outcomes(run).values()) == {0: 10}


async def test_no_further_machine_is_launched_after_too_many_failures(autojump_clock: MockClock) -> None:
    async with bottle(job(batch_size=Share(1), max_failures=Share(2)), machines=fleet(*TEN)) as b:
        for machine in TEN:
            b.play(machine, Script(code=1))
        outcomes = await b.see()
        assert len([machine for machine in b.fleet.machines.values() if machine.starts]) == 2
        not_launched = [o for o in outcomes.values() if "max_failures" in o.text]
        assert len(not_launched) == 8
        assert b.board.state.last["backup"].verdict is Verdict.FAILED


async def test_splay_spreads_the_starts_the_same_way_every_time(autojump_clock: MockClock) -> None:
    async with bottle(job(splay_s=60.0), machines=fleet(*TEN)) as b:
        await b.see()
        first = {m: at.launched_at for m, at in b.board.state.last["backup"].executions.items()}
        await b.see()
        second = {m: at.launched_at for m, at in b.board.state.last["backup"].executions.items()}
        starts = {m: at - min(v for v in first.values() if v) for m, at in first.items() if at}
        again = {m: at - min(v for v in second.values() if v) for m, at in second.items() if at}
        assert len(set(starts.values())) > 5
        assert max(starts.values()).total_seconds() < 60
        assert starts == again


async def test_failed_machines_are_tried_again_and_only_they(autojump_clock: MockClock) -> None:
    retry = Retry(limit=2, delay_s=10.0, backoff=2.0)
    async with bottle(job(retry=retry), machines=fleet("good", "bad")) as b:
        b.play("bad", Script(lasts_s=1, code=1))
        run = await b.runs.run("backup", "test")
        await b.ended(run)
        assert [(e.execution.machine, e.execution.attempt) for e in b.of(Retrying)] == [("bad", 2), ("bad", 3)]
        assert len(b.fleet.machines["good"].starts) == 1
        assert b.end_times(run)["bad"] == pytest.approx(1 + 10 + 1 + 20 + 1, abs=1.5)


async def test_a_retry_that_succeeds_is_a_success(autojump_clock: MockClock) -> None:
    async with bottle(job(retry=Retry(limit=1, delay_s=10.0))) as b:
        b.play("m1", Script(code=1))
        run = await b.runs.run("backup", "test")
        await trio.sleep(5)
        b.play("m1", Script(code=0))
        assert await b.ended(run) is Verdict.SUCCEEDED


async def test_a_kill_between_attempts_ends_it(autojump_clock: MockClock) -> None:
    async with bottle(job(retry=Retry(limit=5, delay_s=100.0))) as b:
        b.play("m1", Script(code=1))
        run = await b.runs.run("backup", "test")
        await trio.sleep(50)
        await b.runs.kill("backup", "test")
        assert await b.ended(run) is Verdict.KILLED
        assert b.end_times(run)["m1"] == pytest.approx(50)


async def test_a_random_subset_is_drawn_from_machines_that_live(autojump_clock: MockClock) -> None:
    async with bottle(job(number_of_targets=3), machines=fleet(*TEN)) as b:
        for machine in TEN[:5]:
            b.fleet.machines[machine].up = False
        chosen: Counter[str] = Counter()
        for _ in range(20):
            outcomes = await b.see()
            assert len(outcomes) == 3
            chosen.update(outcomes.keys())
        assert set(chosen) == set(TEN[5:])


async def test_a_subset_that_too_few_can_fill_shows_who_is_missing(autojump_clock: MockClock) -> None:
    async with bottle(job(number_of_targets=2), machines=fleet("m1", "m2", "m3")) as b:
        b.fleet.machines["m2"].up = b.fleet.machines["m3"].up = False
        outcomes = await b.see()
        assert outcomes["m1"].succeeded
        assert sorted(o.end.value for o in outcomes.values()) == ["exited", "no_response"]


@pytest.mark.parametrize(
    ("success", "verdict"),
    [
        (Share(100, percent=True), Verdict.FAILED),
        (Share(90, percent=True), Verdict.FAILED),
        (Share(70, percent=True), Verdict.SUCCEEDED),
        (Share(1), Verdict.SUCCEEDED),
    ],
)
async def test_the_verdict_asks_for_as_many_as_the_job_does(
    autojump_clock: MockClock, success: Share, verdict: Verdict
) -> None:
    async with bottle(job(success=success), machines=fleet(*TEN)) as b:
        b.play("m3", Script(code=1))
        b.play("m4", Script(code=1))
        await b.see()
        assert b.board.state.last["backup"].verdict is verdict


async def test_machines_under_maintenance_are_left_out_and_recorded(autojump_clock: MockClock) -> None:
    maintenance = Maintenance(machines=frozenset({"m2", "elsewhere"}))
    async with bottle(job(), machines=fleet("m1", "m2"), maintenance=maintenance) as b:
        outcomes = await b.see()
        assert outcomes["m2"].end is End.MAINTENANCE
        assert not b.fleet.machines["m2"].starts
        assert b.board.state.last["backup"].verdict is Verdict.SUCCEEDED


async def test_no_targets_is_said_so(autojump_clock: MockClock) -> None:
    async with bottle(job(targets="nobody*")) as b:
        assert await b.see() == {}
        assert b.board.state.last["backup"].verdict is Verdict.NO_TARGETS


async def test_a_target_that_makes_no_sense_fails_with_its_reason(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bottle(job()) as b:

        async def match(target: object) -> tuple[str, ...]:
            raise LaunchError("no nodegroup 'web'")

        monkeypatch.setattr(type(b.fleet), "match", staticmethod(match))
        await b.see()
        run = b.board.state.last["backup"]
        assert (run.verdict, run.text) == (Verdict.FAILED, "no nodegroup 'web'")


async def test_a_run_by_hand_may_name_some_of_its_machines(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet(*TEN)) as b:
        run = await b.runs.run("backup", "test", machines=["m1", "m2", "elsewhere"])
        await b.ended(run)
        assert set(b.outcomes(run)) == {"m1", "m2"}


# --- runs of one job ----------------------------------------------------------------------------------


def slots(started: list[RunStarted]) -> list[float]:
    """In seconds after noon."""
    return [(run.slot - NOON).total_seconds() for run in started if run.slot is not None]


async def every_minute(b: Bottle, minutes: int) -> list[RunStarted]:
    await trio.sleep(60 * minutes + 30)
    return b.of(RunStarted)


async def test_skip_passes_over_a_slot_that_comes_while_the_run_lives(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="* * * * *")) as b:
        b.play("m1", Script(lasts_s=90))
        started = await every_minute(b, 4)
        assert slots(started) == [60, 180]
        passed = b.of(SlotPassed)
        assert [(p.slot - NOON).total_seconds() for p in passed] == [120, 240]
        assert {p.reason for p in passed} == {Reason.OVERLAP}
        assert started[0].run in passed[0].text


async def test_queue_keeps_one_slot(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="* * * * *", overlap=Overlap.QUEUE)) as b:
        b.play("m1", Script(lasts_s=200))
        started = await every_minute(b, 5)  # 60 runs to 260; 120 waits; 180 and 240 find a queue
        assert slots(started) == [60, 120]
        reasons = {(p.slot - NOON).total_seconds(): p.reason for p in b.of(SlotPassed)}
        assert reasons == {120: Reason.WAITING, 180: Reason.OVERLAP, 240: Reason.OVERLAP, 300: Reason.WAITING}


async def test_replace_ends_the_living_run_first(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="* * * * *", overlap=Overlap.REPLACE)) as b:
        b.play("m1", Script(lasts_s=math.inf))
        started = await every_minute(b, 2)
        assert slots(started) == [60, 120]
        assert b.outcomes(started[0].run)["m1"].end is End.KILLED
        assert b.end_times(started[0].run)["m1"] <= (started[1].at - NOON).total_seconds()


async def test_allow_lets_runs_overlap(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="* * * * *", overlap=Overlap.ALLOW)) as b:
        b.play("m1", Script(lasts_s=150))
        started = await every_minute(b, 3)
        assert len(started) == 3
        assert len(b.board.state.runs) == 3


async def test_global_maintenance_stops_new_runs_only(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="* * * * *")) as b:
        b.play("m1", Script(lasts_s=90))
        await trio.sleep(65)
        b.configure(job(schedule="* * * * *"), maintenance=Maintenance(everything=True))
        await trio.sleep(120)
        [started] = b.of(RunStarted)
        assert b.outcomes(started.run)["m1"].succeeded
        assert {p.reason for p in b.of(SlotPassed)} == {Reason.MAINTENANCE}
        with pytest.raises(CommandRefused, match="maintenance"):
            await b.runs.run("backup", "test")


async def test_a_run_by_hand_takes_the_next_free_second(autojump_clock: MockClock) -> None:
    async with bottle(job(overlap=Overlap.ALLOW)) as b:
        runs = [await b.runs.run("backup", "test") for _ in range(3)]
        second = int(NOON.timestamp())
        assert runs == [f"backup_{second}", f"backup_{second + 1}", f"backup_{second + 2}"]


async def test_requests_that_cannot_be_met_say_why(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=60))
        with pytest.raises(CommandRefused, match="did you mean 'backup'"):
            await b.runs.run("bakcup", "test")
        with pytest.raises(CommandRefused, match="not running"):
            await b.runs.kill("backup", "test")
        await b.runs.run("backup", "test")
        with pytest.raises(CommandRefused, match="still running"):
            await b.runs.run("backup", "test")
        await trio.sleep(1)
        with pytest.raises(CommandRefused, match="not running on m9"):
            await b.runs.kill("backup", "test", machines=["m9"])


async def test_nothing_is_launched_that_the_store_could_not_record(autojump_clock: MockClock) -> None:
    async with bottle(job(schedule="0 * * * *")) as b:
        await trio.sleep(1)
        b.store.broken = "disk full"
        await trio.sleep(3600 + 61)
        assert not b.fleet.machines["m1"].starts
        with pytest.raises(CommandRefused, match="disk full"):
            await b.runs.run("backup", "test")
        b.store.broken = ""
        await trio.sleep(5)
        [passed] = b.of(SlotPassed)
        assert (passed.reason, "disk full" in passed.text) == (Reason.HELD, True)
