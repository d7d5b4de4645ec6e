"""From publishing to confirmation: Salt may be slow, down or forgetful; machines may be dead."""

from __future__ import annotations

import json
import math

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId, Launched
from saltpeter.domain.outcome import End
from saltpeter.engine.launcher import AskStatus, Call, StartWrapper
from sp_wrapper import codes
from tests.helpers.bottle import Bottle, Script, bottle, fleet, job
from tests.helpers.fake_launcher import Reply


async def test_a_dead_machine_is_255_and_delays_nobody(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("dead", "m1", "m2")) as b:
        b.fleet.machines["dead"].up = False
        outcomes = await b.see()
        assert (outcomes["dead"].end, outcomes["dead"].code) == (End.NO_RESPONSE, 255)
        run = b.board.state.last["backup"].id
        assert b.store.text(ExecutionId(run, "dead")) == "Target did not respond\n"
        ends = b.end_times(run)
        assert max(ends["m1"], ends["m2"]) < 2
        assert ends["dead"] == pytest.approx(15, abs=1)


async def test_a_machine_that_answers_slowly_is_waited_for_without_limit(autojump_clock: MockClock) -> None:
    """An hour in phase 1 counts towards neither the timeout nor the lease."""
    async with bottle(job(timeout_s=60.0)) as b:
        machine = b.fleet.machines["m1"]
        machine.on_start = lambda name, call: b.start_wrapper(name, call) or Reply(0, after_s=3600.0)
        machine.on_call = never_seen  # it waits in the minion's queue
        b.play("m1", Script(lasts_s=30, connects_after_s=3600.5))
        outcomes = await b.see()
        assert outcomes["m1"].succeeded
        assert b.end_times(b.board.state.last["backup"].id)["m1"] == pytest.approx(3630, abs=5)


async def test_the_salt_master_being_down_counts_against_no_machine(autojump_clock: MockClock) -> None:
    async with bottle(job(timeout_s=60.0)) as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(master_is_down, b, 0.05, 3600.0)
            outcomes = await b.see()
        assert outcomes["m1"].succeeded
        assert len(b.fleet.machines["m1"].starts) == 1


async def test_a_master_that_restarts_in_phase_1_loses_the_answer_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with bottle(job()) as b:
        b.fleet.machines["m1"].answers_lost = True
        b.play("m1", Script(lasts_s=20))
        outcomes = await b.see()  # the wrapper's own first word confirms it
        assert outcomes["m1"].succeeded


async def test_a_publish_that_times_out_is_repeated_under_the_same_ticket(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.fleet.publish_times_out = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publishing_works_again, b, 5.0)
            outcomes = await b.see()
        assert outcomes["m1"].succeeded
        tickets = {ticket for ticket, call, _ in b.fleet.published if isinstance(call, StartWrapper)}
        assert len(b.fleet.machines["m1"].starts) == 1
        assert [launched.ticket for launched in b.of(Launched)] == list(tickets)


async def test_a_start_that_never_got_there_is_given_again(autojump_clock: MockClock) -> None:
    """A publish just after a master's restart reaches nobody, though Salt names the machine as a target."""
    async with bottle(job()) as b:
        machine = b.fleet.machines["m1"]
        machine.up, machine.on_call = False, never_seen
        async with trio.open_nursery() as nursery:
            nursery.start_soon(comes_up, b, "m1", 2.0)
            outcomes = await b.see()
        assert outcomes["m1"].succeeded
        assert len(machine.starts) == 1
        assert len(b.of(Launched)) == 1


@pytest.mark.parametrize("connects_after_s", [5.1, 7.0])
async def test_the_second_copy_of_an_order_is_refused_and_the_first_one_counts(
    autojump_clock: MockClock, connects_after_s: float
) -> None:
    """A minion that was slow to begin, and restarts, acts on both; its claim holds the second one off."""
    async with bottle(job(), machines=fleet("m1", "silent")) as b:
        machine = b.fleet.machines["m1"]
        b.fleet.machines["silent"].up = False

        def starts(name: str, call: Call) -> Reply:
            machine.restart()
            if len(machine.starts) > 1:
                return Reply(codes.REFUSED, "refused: it was claimed on this machine before", after_s=0.5)
            return b.start_wrapper(name, call) or Reply(0, after_s=math.inf)

        machine.on_start, machine.on_call = starts, never_seen
        b.play("m1", Script(connects_after_s=connects_after_s, lasts_s=30, code=3))
        outcomes = await b.see()
        assert len(machine.starts) == 2
        assert (outcomes["m1"].end, outcomes["m1"].code) == (End.EXITED, 3)


@pytest.mark.parametrize(
    ("state", "end"), [("lost", End.FAILED), ("refused", End.REFUSED), ("running", End.LOST), ("finished", End.LOST)]
)
async def test_a_start_that_stays_unconfirmed_is_looked_into(autojump_clock: MockClock, state: str, end: End) -> None:
    async with bottle(job()) as b:
        machine = b.fleet.machines["m1"]
        machine.on_start = lambda machine, call: Reply(0, after_s=math.inf)
        machine.on_call = lambda machine, call: Reply(0, json.dumps({"state": state}))
        outcomes = await b.see()
        assert outcomes["m1"].end is end


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (Reply(127, "/w: No such file or directory"), Reply(127, "/w: No such file or directory")),
        (Reply(126, "/w: Permission denied"), Reply(126, "/w: Permission denied")),
        (Reply(255, "the order expired"), Reply(0, json.dumps({"state": "never seen"}))),
    ],
)
async def test_what_a_machine_answered_while_the_master_restarted_is_asked_for_again(
    autojump_clock: MockClock, said: Reply, asked: Reply
) -> None:
    """Salt loses such an answer, and its minion drops an order that it has seen."""
    async with bottle(job()) as b:
        machine = b.fleet.machines["m1"]
        machine.on_start = lambda name, call: said
        machine.on_call = lambda name, call: asked
        machine.answers_lost = True
        run = await b.runs.run("backup", "test")
        await trio.sleep(2)
        machine.answers_lost = False
        with trio.fail_after(60):
            await b.ended(run)
        assert (b.outcomes(run)["m1"].code, said.text in b.outcomes(run)["m1"].text) == (said.code, True)


async def test_a_kill_ends_phase_1(autojump_clock: MockClock) -> None:
    async with bottle(job(kill_grace_s=5.0)) as b:
        b.fleet.machines["m1"].on_start = lambda machine, call: Reply(0, after_s=math.inf)
        run = await b.runs.run("backup", "test")
        await trio.sleep(3)
        await b.runs.kill("backup", "test")
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.KILLED
        assert b.end_times(run)["m1"] == pytest.approx(3 + 5 + 2, abs=0.5)


async def test_a_kill_while_salt_cannot_name_the_targets_ends_the_run(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.fleet.master_up = False
        run = await b.runs.run("backup", "test")
        await trio.sleep(30)
        await b.runs.kill("backup", "test")
        assert (await b.ended(run)).value == "killed"


async def test_a_launch_that_salt_refuses_ends_with_its_reason(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        b.fleet.refuse = "not authorised"
        outcomes = await b.see()
        assert outcomes["m1"].end is End.FAILED
        assert "not authorised" in outcomes["m1"].text


def never_seen(machine: str, call: Call) -> Reply | None:
    return Reply(0, json.dumps({"state": "never seen"})) if isinstance(call, AskStatus) else None


async def master_is_down(b: Bottle, since_s: float, until_s: float) -> None:
    await trio.sleep(since_s)
    b.fleet.master_up = False
    await trio.sleep(until_s - since_s)
    b.fleet.master_up = True


async def publishing_works_again(b: Bottle, at_s: float) -> None:
    await trio.sleep(at_s)
    b.fleet.publish_times_out = False


async def comes_up(b: Bottle, machine: str, at_s: float) -> None:
    await trio.sleep(at_s)
    b.fleet.machines[machine].up = True
