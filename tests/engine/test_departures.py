"""Launches to the same machines that are ready together leave together; each keeps its own ticket and its own end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from saltpeter.domain.events import Launched
from saltpeter.domain.job import Overlap
from saltpeter.domain.outcome import End
from saltpeter.engine.departures import FORGET_S, MOST_CHARS, MOST_ORDERS, Departures, Passage, how_many
from saltpeter.engine.execution import Execution
from saltpeter.engine.launcher import AskStatus, Call, StartPlain, StartWrapper, StartWrappers, job_of
from saltpeter.errors import LaunchError, SaltpeterError
from sp_wrapper import codes
from tests.helpers.bottle import Bottle, bottle, fleet, job
from tests.helpers.fake_launcher import MISSING, FakeLauncher, Reply
from tests.helpers.memory_store import MemoryStore

JOBS = tuple(f"job{number:02}" for number in range(40))


def starts(launcher: FakeLauncher) -> list[Call]:
    """What was published to start wrappers, oldest first."""
    return [call for _, call, _ in launcher.published if isinstance(call, (StartWrapper, StartWrappers))]


def orders(launcher: FakeLauncher) -> int:
    return sum(len(call.orders) if isinstance(call, StartWrappers) else 1 for call in starts(launcher))


async def run_all(b: Bottle, names: Collection[str] = JOBS) -> list[str]:
    """All of them at once, as at the same second."""
    runs: list[str] = []

    async def run(name: str) -> None:
        runs.append(await b.runs.run(name, "test"))

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(run, name)
    for each in runs:
        await b.ended(each)
    return sorted(runs)


async def test_forty_jobs_of_one_machine_leave_in_a_few_publishes(autojump_clock: MockClock) -> None:
    async with bottle(*map(job, JOBS)) as b:
        runs = await run_all(b)
        assert [b.outcomes(run)["m1"].succeeded for run in runs] == [True] * 40
        assert orders(b.fleet) == 40
        assert len(starts(b.fleet)) <= 3
        tickets = {launched.run: launched.ticket for launched in b.of(Launched)}
        assert len(set(tickets.values())) == 40, "each launch has a ticket of its own"
        assert {job_of(ticket) for ticket in tickets.values()} == {ticket for ticket, *_ in b.fleet.published}


async def test_a_launch_alone_goes_out_as_it_always_did(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        await b.see()
        [(ticket, call, machines)] = b.fleet.published
        assert isinstance(call, StartWrapper)
        assert ([launched.ticket for launched in b.of(Launched)], machines) == ([ticket], ("m1",))


async def test_a_launch_to_other_machines_waits_for_nobody(autojump_clock: MockClock) -> None:
    """The first publish hangs; who has the same machines waits for it, and nobody else."""
    two = job("two", targets="m2")
    async with bottle(job("one", targets="m1"), two, machines=fleet("m1", "m2")) as b:
        b.fleet.publish_s = 60.0
        await b.runs.run("one", "test")
        await trio.sleep(1)
        b.fleet.publish_s = 0.02
        run = await b.runs.run("two", "test")
        await b.ended(run)
        assert trio.current_time() < 10


async def test_more_than_a_publish_takes_go_in_the_next_one(autojump_clock: MockClock) -> None:
    names = [f"many{number}" for number in range(MOST_ORDERS * 2 + 10)]
    async with bottle(*map(job, names)) as b:
        await run_all(b, names)
        assert orders(b.fleet) == len(names)
        assert max(len(call.orders) for call in starts(b.fleet) if isinstance(call, StartWrappers)) == MOST_ORDERS
        assert len(starts(b.fleet)) <= 5


async def test_plain_launches_go_each_by_itself(autojump_clock: MockClock) -> None:
    async with bottle(*(job(name, use_wrapper=False) for name in JOBS)) as b:
        await run_all(b)
        assert len([call for _, call, _ in b.fleet.published if isinstance(call, StartPlain)]) == 40


async def test_wrappers_at_different_places_are_started_apart(autojump_clock: MockClock) -> None:
    jobs = [job(name) for name in JOBS[:10]]
    places = [attrs.evolve(each, wrapper=attrs.evolve(each.wrapper, path=f"/opt/{each.name[-1]}")) for each in jobs]
    async with bottle(*places) as b:
        await run_all(b, JOBS[:10])
        assert all(isinstance(call, StartWrapper) for call in starts(b.fleet))
        assert len(starts(b.fleet)) == 10


async def test_an_end_that_is_one_orders_own_is_nobody_elses(autojump_clock: MockClock) -> None:
    async with bottle(*map(job, JOBS)) as b:
        refused = Reply(codes.REFUSED, "refused: job07_0 holds its lock")

        def start(machine: str, call: Call) -> Reply | None:
            assert isinstance(call, StartWrapper)
            return refused if call.env["SP_JOB_NAME"] == "job07" else b.start_wrapper(machine, call)

        b.fleet.machines["m1"].on_start = start
        runs = await run_all(b)
        ends = {run.partition("_")[0]: b.outcomes(run)["m1"] for run in runs}
        assert ends.pop("job07").end is End.REFUSED
        assert all(end.succeeded for end in ends.values())


@attrs.define(eq=False)
class Sender:
    """Whoever launches something that `departures` takes along; where it `fails`, its order cannot be made twice."""

    name: str
    chars: int = 1
    fails: str = ""
    issued: int = 0

    async def issue(self, machines: Collection[str]) -> StartWrapper:
        self.issued += 1
        if self.fails and self.issued > 1:
            raise LaunchError(self.fails)
        return StartWrapper(path="/w", env={self.name: "x" * (self.chars - 1)})

    async def send(self, passage: Passage, came: dict[str, str]) -> None:
        try:
            await passage.depart(self.issue, [cast("Execution", Alive())])
            came[self.name] = "out"
        except LaunchError as error:
            came[self.name] = str(error)


@attrs.define(eq=False)
class Alive:
    """All that a departure wants to know of an execution."""

    kill: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@asynccontextmanager
async def departures() -> AsyncIterator[Departures]:
    made = Departures()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.serve)
        yield made
        nursery.cancel_scope.cancel()


async def test_an_order_that_cannot_be_made_anew_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    """Each time that it is handed out an order is made as of then: it expires, and may be signed."""
    salt, came = fleet(), dict[str, str]()
    salt.publish_times_out = True
    senders = [Sender("first"), Sender("a"), Sender("b", fails="the key is gone"), Sender("c")]
    async with departures() as made, trio.open_nursery() as nursery:
        passages = [made.board(salt, "/w", ["m1"]) for _ in senders]
        assert [job_of(each.ticket) == each.ticket for each in passages] == [True, False, False, False]
        nursery.start_soon(senders[0].send, passages[0], came)
        await trio.sleep(0.5)
        salt.publish_times_out = False
        await trio.sleep(2)
        assert came == {"first": "out"}
        salt.publish_times_out = True
        for sender, passage in zip(senders[1:], passages[1:], strict=True):
            nursery.start_soon(sender.send, passage, came)
        await trio.sleep(0.5)
        salt.publish_times_out = False
    assert came == {"first": "out", "a": "out", "b": "the key is gone", "c": "out"}
    [*_, (ticket, before, _), (again, after, _)] = salt.published
    assert isinstance(before, StartWrappers)
    assert isinstance(after, StartWrappers)
    assert ticket == again
    assert [len(before.orders), len(after.orders)] == [3, 2]
    assert before.orders.keys() > after.orders.keys()


async def test_who_boards_and_does_not_come_holds_up_nobody(autojump_clock: MockClock) -> None:
    """A run that is killed while its launch is being written down releases its place."""
    salt, came = fleet(), dict[str, str]()
    async with departures() as made, trio.open_nursery() as nursery:
        passages = {name: made.board(salt, "/w", ["m1"]) for name in ("first", "a", "b", "c")}
        for name in ("first", "b"):
            passages[name].release()
        for name in ("a", "c"):
            nursery.start_soon(Sender(name).send, passages[name], came)
    assert came == {"a": "out", "c": "out"}
    [(_, call, _)] = salt.published
    assert isinstance(call, StartWrappers)
    assert [dict(env) for env in call.orders.values()] == [{"a": ""}, {"c": ""}]


async def test_orders_that_are_too_large_for_one_publish_are_not_forced_into_it(autojump_clock: MockClock) -> None:
    salt, came = fleet(), dict[str, str]()
    senders = [Sender("f"), *(Sender(name, chars=MOST_CHARS // 2) for name in "abcd")]
    async with departures() as made, trio.open_nursery() as nursery:
        for sender in senders:
            nursery.start_soon(sender.send, made.board(salt, "/w", ["m1"]), came)
    assert came == dict.fromkeys("fabcd", "out")
    several = [call for call in starts(salt) if isinstance(call, StartWrappers)]
    assert [len(call.orders) for call in several] == [2]
    assert orders(salt) == 5


async def test_a_machine_with_an_older_wrapper_is_given_each_order_by_itself(autojump_clock: MockClock) -> None:
    async with bottle(*map(job, JOBS)) as b:
        b.fleet.machines["m1"].takes_several = False
        runs = await run_all(b)
        assert trio.current_time() < 5, "at once, and not when somebody looks after silent machines"
        assert [b.outcomes(run)["m1"].succeeded for run in runs] == [True] * 40
        assert len(b.fleet.machines["m1"].starts) == 40
        b.fleet.published.clear()
        await run_all(b)
        assert all(isinstance(call, StartWrapper) for call in starts(b.fleet)), "that is remembered"
        b.fleet.machines["m1"].takes_several = True
        await trio.sleep(FORGET_S)
        b.fleet.published.clear()
        await run_all(b)
        assert len(starts(b.fleet)) <= 3, "for a while"


async def test_a_whole_fleet_with_older_wrappers_is_not_given_orders_machine_by_machine(
    autojump_clock: MockClock,
) -> None:
    names = [f"m{number}" for number in range(200)]
    async with bottle(*map(job, JOBS[:2]), machines=fleet(*names)) as b:
        for machine in b.fleet.machines.values():
            machine.takes_several = False
        for run in await run_all(b, JOBS[:2]):
            assert all(outcome.succeeded for outcome in b.outcomes(run).values())
        assert len(starts(b.fleet)) <= 6, "one for the first job, and a few for the second"


async def test_a_missing_wrapper_is_said_of_each_run(autojump_clock: MockClock) -> None:
    async with bottle(*map(job, JOBS[:5])) as b:
        b.fleet.machines["m1"].wrapper = MISSING
        runs = await run_all(b, JOBS[:5])
        assert {(b.outcomes(run)["m1"].code, "No such file" in b.outcomes(run)["m1"].text) for run in runs} == {
            (127, True)
        }


async def test_who_is_killed_while_waiting_for_the_publish_before_is_not_launched(autojump_clock: MockClock) -> None:
    """The master is down: the first launch is tried again and again, and the others wait behind it."""
    async with bottle(*map(job, JOBS[:4])) as b:
        b.fleet.master_up = True
        b.fleet.publish_s = 30.0
        runs = {name: await b.runs.run(name, "test") for name in JOBS[:4]}
        await trio.sleep(5)
        await b.runs.kill("job02", "test")
        with trio.fail_after(8):  # the grace, and a little
            await b.ended(runs["job02"])
        b.fleet.publish_s = 0.02
        for run in runs.values():
            await b.ended(run)
        assert b.outcomes(runs["job02"])["m1"].end is End.KILLED
        assert [b.outcomes(runs[name])["m1"].succeeded for name in ("job00", "job01", "job03")] == [True] * 3
        started = [call.env["SP_JOB_NAME"] for call in b.fleet.machines["m1"].starts if isinstance(call, StartWrapper)]
        assert sorted(started) == ["job00", "job01", "job03"]


async def test_a_publish_of_several_that_times_out_is_repeated_under_the_same_ticket(
    autojump_clock: MockClock,
) -> None:
    async with bottle(*map(job, JOBS)) as b:
        b.fleet.publish_times_out = True
        b.fleet.machines["m1"].start_delay_s = 3.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works_again, b, 8.0)
            runs = await run_all(b)
        assert [b.outcomes(run)["m1"].succeeded for run in runs] == [True] * 40
        assert len(b.fleet.machines["m1"].starts) == 40
        assert len({ticket for ticket, *_ in b.fleet.published}) < len(starts(b.fleet))


async def works_again(b: Bottle, at_s: float) -> None:
    await trio.sleep(at_s)
    b.fleet.publish_times_out = False


async def test_the_next_daemon_finds_the_answer_of_each_of_several(autojump_clock: MockClock) -> None:
    """The daemon dies after the publish. The answer to all of it is there, and each run finds its own in it."""
    store, machines = MemoryStore(), fleet()
    machine = machines.machines["m1"]

    def start(name: str, call: Call) -> Reply:
        assert isinstance(call, StartWrapper)
        return Reply(255, f"not {call.env['SP_JOB_NAME']}", after_s=1)

    machine.on_start = start
    async with bottle(*map(job, JOBS), store=store, machines=machines) as b:
        runs = [await b.runs.run(name, "test") for name in JOBS]
        await trio.sleep(0.5)
        assert orders(machines) == 40
    await trio.sleep(5)
    async with bottle(*map(job, JOBS), store=store, machines=machines) as b:
        for run in runs:
            await b.ended(run)
        ends = [b.outcomes(run)["m1"] for run in runs]
        assert [end.text.rpartition("not ")[2].strip() for end in ends] == list(JOBS)
        assert orders(machines) == 40, "nothing is launched again"


@pytest.mark.parametrize("died_after_s", [0.0, 0.005, 0.015, 0.03, 0.08, 0.12, 0.16])
@pytest.mark.parametrize("takes_several", [True, False])
async def test_a_death_at_any_point_neither_loses_nor_repeats_one_of_several(
    autojump_clock: MockClock, died_after_s: float, takes_several: bool
) -> None:
    """Before they are recorded, before they are published, before the machine acts, and before it has answered."""
    store, machines, jobs = MemoryStore(), fleet(), list(map(job, JOBS[:8]))
    machine = machines.machines["m1"]
    machine.takes_several = takes_several
    async with bottle(*jobs, store=store, machines=machines) as b:
        runs = [await b.runs.run(name, "test") for name in JOBS[:8]]
        await trio.sleep(died_after_s)
    await trio.sleep(1)
    before = [call.env["SP_JOB_INSTANCE"] for call in machine.starts if isinstance(call, StartWrapper)]
    machine.on_call = lambda name, call: Reply(
        0, json.dumps({"state": "finished" if isinstance(call, AskStatus) and call.run in before else "never seen"})
    )
    async with bottle(*jobs, store=store, machines=machines) as b:
        for run in runs:
            await b.ended(run)
        ends = {run: b.outcomes(run)["m1"].end for run in runs}
    started = Counter(call.env["SP_JOB_INSTANCE"] for call in machine.starts if isinstance(call, StartWrapper))
    assert started == Counter(runs)
    assert ends == {run: End.LOST if run in before else End.EXITED for run in runs}


# --- in any order --------------------------------------------------------------------------------


@attrs.define
class Guarded:
    """A machine whose wrappers claim each run before they start it, as real ones do."""

    b: Bottle
    claims: Counter[str] = attrs.field(factory=Counter)
    refused: int = 0

    def start(self, machine: str, call: Call) -> Reply | None:
        assert isinstance(call, StartWrapper)
        run = call.env["SP_JOB_INSTANCE"]
        if run in self.claims:
            self.refused += 1
            return Reply(codes.REFUSED, f"refused: {run} (attempt 1) was claimed on this machine before")
        self.claims[run] += 1
        return self.b.start_wrapper(machine, call)

    def asked(self, machine: str, call: Call) -> Reply | None:
        if not isinstance(call, AskStatus):
            return None
        return Reply(0, json.dumps({"state": "finished" if call.run in self.claims else "never seen"}))


STEPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(JOBS[:8])),
    st.tuples(st.just("kill"), st.sampled_from(JOBS[:8])),
    st.tuples(st.just("master"), st.booleans()),
    st.tuples(st.just("times out"), st.booleans()),
    st.tuples(st.just("slow"), st.sampled_from([0.02, 3.0])),
    st.tuples(st.just("several"), st.booleans()),
    st.tuples(st.just("minion restarts"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.02, 0.3, 7.0])),
)


async def play(b: Bottle, guard: Guarded, steps: Sequence[tuple[str, Any]]) -> tuple[list[str], set[str]]:
    """Answers the runs, and those that somebody killed."""
    machine = b.fleet.machines["m1"]
    machine.on_start, machine.on_call = guard.start, guard.asked
    runs: dict[str, list[str]] = {}
    killed: set[str] = set()
    for what, value in steps:
        match what:
            case "run":
                runs.setdefault(value, []).append(await b.runs.run(value, "test"))
            case "kill":
                killed.update(runs.get(value, ()))
                with suppress(SaltpeterError):
                    await b.runs.kill(value, "test")
            case "master":
                b.fleet.master_up = value
            case "times out":
                b.fleet.publish_times_out = value
            case "slow":
                b.fleet.publish_s = value
            case "several":
                machine.takes_several = value
            case "minion restarts":
                machine.restart()
            case _:
                await trio.sleep(value)
    b.fleet.master_up, b.fleet.publish_times_out = True, False
    return [run for each in runs.values() for run in each], killed


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_in_any_order_nobody_is_launched_twice_or_lost(steps: Sequence[tuple[str, Any]]) -> None:
    """Runs begin and are killed at any moment; a publish may be slow, time out, or find the master down."""

    async def main() -> None:
        async with bottle(*(job(name, overlap=Overlap.ALLOW) for name in JOBS[:8])) as b:
            guard = Guarded(b)
            runs, killed = await play(b, guard, steps)
            with trio.fail_after(3600):
                for run in runs:
                    await b.ended(run)
            assert set(guard.claims.values()) <= {1}
            for run in set(runs) - killed:
                assert b.outcomes(run)["m1"].succeeded, run
                assert guard.claims[run] == 1

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(st.lists(st.integers(1, MOST_CHARS * 2), min_size=1, max_size=20))
def test_a_publish_stays_within_what_salt_carries(sizes: Sequence[int]) -> None:
    waiting = [Passage("t", (), order=StartWrapper(path="/w", env={"a": "x" * (size - 1)})) for size in sizes]
    while waiting:
        taken = how_many(waiting)
        assert taken == 1 or sum(each.chars for each in waiting[:taken]) <= MOST_CHARS
        assert taken == len(waiting) or sum(each.chars for each in waiting[: taken + 1]) > MOST_CHARS
        waiting = waiting[taken:]
