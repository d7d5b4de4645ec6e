"""Every way for an execution to end, and which one holds when several could."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import CameLate, Ended, ExecutionId, KillRequested, LedgerEvent
from saltpeter.domain.job import Overlap, Retry
from saltpeter.domain.outcome import End
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.execution import FORCE_S, Manner
from saltpeter.engine.launcher import KillThroughWrapper
from saltpeter.errors import CommandRefused
from tests.helpers.bottle import Script, bottle, fleet, job
from tests.helpers.fake_launcher import MISSING, NOT_EXECUTABLE, Reply
from tests.helpers.memory_store import MemoryStore


async def test_the_commands_own_code_is_the_outcome(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        b.play("m1", Script(code=0, output=b"done\n"))
        b.play("m2", Script(code=3))
        outcomes = await b.see()
        assert {m: (o.end, o.code) for m, o in outcomes.items()} == {"m1": (End.EXITED, 0), "m2": (End.EXITED, 3)}
        run = b.board.state.last["backup"]
        assert run.verdict is Verdict.FAILED
        assert b.store.text(ExecutionId(run.id, "m1")) == "done\n"


@pytest.mark.parametrize(("wrapper", "code"), [(MISSING, 127), (NOT_EXECUTABLE, 126)])
async def test_salts_own_failures_arrive_with_their_text(autojump_clock: MockClock, wrapper: Reply, code: int) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        b.fleet.machines["m1"].wrapper = wrapper
        outcomes = await b.see()
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.FAILED, code)
        text = b.store.text(ExecutionId(b.board.state.last["backup"].id, "m1"))
        assert text.startswith("Wrapper execution failed:\nenv:")
        assert outcomes["m2"].succeeded


async def test_a_refusal_is_254(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.fleet.machines["m1"].on_start = lambda machine, call: Reply(254, "backup_1 is claimed already")
        outcomes = await b.see()
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.REFUSED, 254)


async def test_a_timeout_is_124_and_the_wrappers_word_for_it_counts(autojump_clock: MockClock) -> None:
    async with bottle(job(timeout_s=60.0)) as b:
        b.play("m1", Script(lasts_s=math.inf))
        outcomes = await b.see()
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.TIMED_OUT, 124)
        assert outcomes["m1"].receipt is not None
        assert b.end_times(b.board.state.last["backup"].id)["m1"] == pytest.approx(60, abs=1)


async def test_a_timeout_stands_when_the_wrapper_has_no_word(autojump_clock: MockClock) -> None:
    async with bottle(job(timeout_s=60.0, kill_grace_s=5.0)) as b:
        b.play("m1", Script(lasts_s=math.inf, reports=False))
        outcomes = await b.see()
        assert (outcomes["m1"].end, outcomes["m1"].receipt) == (End.TIMED_OUT, None)
        assert b.end_times(b.board.state.last["backup"].id)["m1"] == pytest.approx(60 + 5 + FORCE_S, abs=1)
        assert "[Job exceeded timeout of 60 seconds]" in b.store.text(
            ExecutionId(b.board.state.last["backup"].id, "m1")
        )


async def test_silence_costs_one_lease(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=math.inf, beats_for_s=32))
        outcomes = await b.see()
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.LOST, 253)
        run = b.board.state.last["backup"].id
        assert b.end_times(run)["m1"] == pytest.approx(30 + 15, abs=1)
        assert "no heartbeat for 15 seconds" in b.store.text(ExecutionId(run, "m1"))


async def test_the_truth_may_come_late(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=600, code=4, beats_for_s=10, output=b"after all\n"))
        outcomes = await b.see()
        assert outcomes["m1"].end is End.LOST
        await trio.sleep(600)
        [late] = b.of(CameLate)
        assert (late.outcome.end, late.outcome.code) == (End.EXITED, 4)
        last = b.board.state.last["backup"].executions["m1"]
        assert (last.outcome, last.late) == (outcomes["m1"], late.outcome)
        assert b.store.text(last.id).endswith("after all\n")


async def test_a_kill_is_143_with_a_receipt(autojump_clock: MockClock) -> None:
    async with bottle(job(kill_grace_s=5.0), machines=fleet("m1", "m2")) as b:
        b.play("m1", Script(lasts_s=math.inf))
        b.play("m2", Script(lasts_s=math.inf, dies_on_kill=False))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        [handed] = await b.runs.kill("backup", "someone")
        assert {e.machine for e in handed.told} == {"m1", "m2"}
        ends = dict(await b.runs.ended(handed))
        assert {(o.end, o.code) for o in ends.values()} == {(End.KILLED, 143)}
        assert all(o.receipt and o.receipt.signalled for o in ends.values())
        assert b.end_times(run) == {"m1": pytest.approx(20, abs=0.1), "m2": pytest.approx(25, abs=0.1)}
        assert await b.ended(run) is Verdict.KILLED
        assert [asked.by for asked in b.of(KillRequested)] == ["someone"]


async def test_a_kill_of_one_machine_leaves_the_others(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        b.play("m1", Script(lasts_s=100))
        b.play("m2", Script(lasts_s=100))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        await b.runs.kill("backup", "test", machines=["m1"], instance=run)
        await b.ended(run)
        assert {m: o.code for m, o in b.outcomes(run).items()} == {"m1": 143, "m2": 0}


async def test_one_kill_of_many_machines(autojump_clock: MockClock) -> None:
    async with bottle(job(overlap=Overlap.ALLOW), machines=fleet("m1", "m2", "m3", "m4")) as b:
        for machine, lasts_s in (("m1", 100.0), ("m2", 100.0), ("m3", 10.0), ("m4", 100.0)):
            b.play(machine, Script(lasts_s=lasts_s))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        other = await b.runs.run("backup", "test", ["m1", "m4"])
        await trio.sleep(5)
        handed = await b.runs.kill("backup", "test", ["m2", "m1", "m3", "m2"])
        assert {each.run: [execution.machine for execution in each.executions] for each in handed} == {
            run: ["m2", "m1"],  # m3 has ended
            other: ["m1"],
        }
        await b.ended(run)
        await b.ended(other)
        assert {m: o.code for m, o in b.outcomes(run).items()} == {"m1": 143, "m2": 143, "m3": 0, "m4": 0}
        assert {m: o.code for m, o in b.outcomes(other).items()} == {"m1": 143, "m4": 0}
        asked = {each.run: each.machines for each in b.of(KillRequested)}
        assert asked == {run: ("m2", "m1", "m3"), other: ("m1",)}


async def test_a_kill_that_names_a_stranger_ends_nothing(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        b.play("m1", Script(lasts_s=10))
        b.play("m2", Script(lasts_s=100))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        others = [f"db{number}" for number in range(7)]
        for wanted, text in (
            (["m2", "m9"], "backup is not running on m9; nothing was done on the others"),
            (["m2", *others], "on db0, db1, db2, db3, db4 and 2 more; nothing was done on the others"),
            (["m9"], "backup is not running on m9"),
            (["m1"], "backup is not running on m1: it has ended there"),
        ):
            for refused in (b.runs.kill("backup", "test", wanted), b.runs.signal("backup", "test", "USR1", wanted)):
                with pytest.raises(CommandRefused) as refusal:
                    await refused
                assert refusal.value.code == "not_running"
                assert str(refusal.value).endswith(text)
        await b.ended(run)
        assert {m: o.code for m, o in b.outcomes(run).items()} == {"m1": 0, "m2": 0}
        assert b.of(KillRequested) == []


async def test_a_kill_outranks_the_timeout_that_comes_in_its_grace(autojump_clock: MockClock) -> None:
    async with bottle(job(timeout_s=21.0, kill_grace_s=5.0)) as b:
        b.play("m1", Script(lasts_s=math.inf, dies_on_kill=False, reports=False))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        await b.runs.kill("backup", "test")
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.KILLED


async def test_what_has_ended_cannot_be_killed(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=20))
        run = await b.runs.run("backup", "test")
        await trio.sleep(20)
        await b.runs.kill("backup", "test")  # 0.2 s before its end, of which the wrapper's word is under way
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.KILLED
        with pytest.raises(CommandRefused, match="not running"):
            await b.runs.kill("backup", "test")


async def test_a_kill_of_a_wrapper_that_is_not_connected_goes_through_salt(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=math.inf, connects_after_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(5)
        await b.runs.kill("backup", "test")
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.KILLED
        calls = [call for _, call in b.fleet.machines["m1"].acted_on]
        assert [call.run for call in calls if isinstance(call, KillThroughWrapper)] == [run]


async def test_salt_carries_how_somebody_wants_it_ended(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=math.inf, connects_after_s=math.inf))
        run = await b.runs.run("backup", "test")
        await trio.sleep(5)
        await b.runs.kill("backup", "test", manner=Manner(signal="INT", grace_s=2.0))
        await b.ended(run)
        [kill] = [call for _, call in b.fleet.machines["m1"].acted_on if isinstance(call, KillThroughWrapper)]
        assert (kill.signal, kill.grace_s) == ("INT", 2.0)


async def test_a_kill_while_the_verdict_is_written_says_that_it_came_too_late(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.play("m1", Script(lasts_s=5))
        run = await b.runs.run("backup", "test")
        await trio.sleep(1)
        [living] = b.runs._living["backup"]
        await living.executions["m1"].ended.wait()
        with pytest.raises(CommandRefused, match=f"{run} has just ended on all its machines") as refused:
            await b.runs.kill("backup", "test")
        assert refused.value.code == "not_running"
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.EXITED


@attrs.define
class SlowToEnd(MemoryStore):
    """A store that takes a second to write down an end."""

    async def commit(self, *events: LedgerEvent) -> None:
        if any(isinstance(event, Ended) for event in events):
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        await super().commit(*events)


async def test_a_kill_between_two_attempts_leaves_no_further_one(autojump_clock: MockClock) -> None:
    async with bottle(job(retry=Retry(limit=3, delay_s=1.0, backoff=1.0)), store=SlowToEnd()) as b:
        b.play("m1", Script(lasts_s=5, code=1))
        run = await b.runs.run("backup", "test")
        await trio.sleep(1)
        [living] = b.runs._living["backup"]
        execution = living.executions["m1"]
        await execution._reported.wait()
        await trio.sleep(0.5)  # its end is just being written down
        [handed] = await b.runs.kill("backup", "test")
        assert handed.executions == (execution.id,)
        await b.ended(run)
        assert [each.execution.attempt for each in b.of(Ended)] == [1]


async def test_a_wrapper_that_connects_after_the_kill_is_told_at_once(autojump_clock: MockClock) -> None:
    async with bottle(job(kill_grace_s=5.0)) as b:
        b.play("m1", Script(lasts_s=math.inf, connects_after_s=6))
        run = await b.runs.run("backup", "test")
        await trio.sleep(2)
        await b.runs.kill("backup", "test")
        await b.ended(run)
        await trio.sleep(10)
        [wrapper] = b.wrappers
        assert wrapper.told
        assert b.outcomes(run)["m1"].end is End.KILLED


async def test_a_bug_about_one_machine_leaves_the_others_watched(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from saltpeter.engine.execution import Execution

    follow = Execution.follow

    async def stumble(self: Execution) -> object:
        if self.id.machine == "m2":
            raise ZeroDivisionError("a bug")
        return await follow(self)

    monkeypatch.setattr(Execution, "follow", stumble)
    async with bottle(job(), machines=fleet("m1", "m2", "m3")) as b:
        outcomes = await b.see()
        assert {m: o.code for m, o in outcomes.items()} == {"m1": 0, "m2": 255, "m3": 0}
        assert "ZeroDivisionError" in outcomes["m2"].text
        assert "ZeroDivisionError" in caplog.text
