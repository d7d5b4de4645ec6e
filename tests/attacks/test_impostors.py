"""A machine that is hostile, with a run's token in its hands: what it can say for others, and for how long."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from saltpeter.domain.events import Bound, CameLate, ExecutionId, Retrying, RunStarted
from saltpeter.domain.outcome import LEASE_S, End
from saltpeter.endpoints.machines import MachinesEndpoint
from saltpeter.engine.execution import LOG_CHARS, BadToken, UnknownExecution
from saltpeter.engine.latecomers import MOST_ATTEMPTS, ORPHAN_S
from sp_wrapper import wire
from tests.endpoints.rig import Peer, dial
from tests.helpers.bottle import Bottle, PlayedWrapper, Script, bottle, fleet, job, now
from tests.helpers.memory_store import MemoryStore

SILENT = Script(lasts_s=math.inf, connects_after_s=math.inf)


async def begun(b: Bottle, *machines: str) -> tuple[str, str]:
    """A run that has been launched and whose wrappers have said nothing yet, and its token."""
    for machine in machines or ("m1",):
        b.play(machine, SILENT)
    run = await b.runs.run("backup", "test")
    await trio.sleep(1)
    return run, b.board.state.runs[run].token


async def connect(peer: Peer, run: str, token: str, secret: str, machine: str = "m1") -> dict[str, Any]:
    await peer.say(**about(run, machine), type="connect", token=token, secret=secret, sent=0)
    return await peer.hear()


def about(run: str, machine: str = "m1") -> dict[str, str]:
    return {"job_name": "backup", "job_instance": run, "machine": machine, "timestamp": now().isoformat()}


async def test_who_speaks_for_a_machine_goes_on_doing_so(autojump_clock: MockClock) -> None:
    """Also after a restart of the daemon, and after the execution's end."""
    store, machines = MemoryStore(), fleet("m1", "m2")
    async with bottle(job(), machines=machines, store=store) as b:
        run, token = await begun(b, "m1", "m2")
        execution = await b.roster.find(run, "m1", 1, token, "its own")
        await execution.tell_the_ledger()
        assert await b.roster.find(run, "m1", 1, token, "its own") is execution
        for secret in ("another's", "", "its own "):
            with pytest.raises(BadToken):
                await b.roster.find(run, "m1", 1, token, secret)
        await b.roster.find(run, "m2", 1, token, "another's")  # its own execution is its own
    async with bottle(job(), machines=machines, store=store) as b:
        await trio.lowlevel.checkpoint()
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, token, "another's")
        await b.roster.find(run, "m1", 1, token, "its own")
        await b.ended(run)
    async with bottle(job(), machines=machines, store=store) as b:
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, token, "another's")
        await b.roster.find(run, "m1", 1, token, "its own")
    assert [bound.execution.machine for bound in b.of(Bound)] == ["m1"]


async def test_the_secret_itself_is_written_down_nowhere(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        run, token = await begun(b)
        await (await b.roster.find(run, "m1", 1, token, "its own")).tell_the_ledger()
        assert "its own" not in repr(b.store.events)
        assert "its own" not in repr(wire.Connect(secret="its own"))


async def test_a_wrapper_without_a_secret_is_heard_until_one_is_shown(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        run, token = await begun(b)
        await b.roster.find(run, "m1", 1, token)
        await b.roster.find(run, "m1", 1, token)
        await b.roster.find(run, "m1", 1, token, "its own")
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, token)


async def test_another_machine_cannot_end_it(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as b:
        endpoint = MachinesEndpoint(b.roster, now)
        run, token = await begun(b, "m1", "m2")
        async with dial(endpoint.front(), "/") as own, dial(endpoint.front(), "/") as impostor:
            assert (await connect(own, run, token, "its own"))["ack_type"] == "connect"
            refusal = await connect(impostor, run, token, "another's")
            assert (refusal["code"], await impostor.hear_end()) == ("BAD_TOKEN", 1008)
            await own.say(**about(run), type="complete", retcode=0, outcome="exited", length=0)
            assert (await own.hear())["ack_type"] == "complete"
            assert b.outcomes(run)["m1"].succeeded
        assert "m2" not in b.outcomes(run)


async def test_a_full_disk_keeps_no_machine_out(autojump_clock: MockClock) -> None:
    """The secret counts from its first showing, and is durable before anything else is acked."""
    async with bottle(job()) as b:
        endpoint = MachinesEndpoint(b.roster, now)
        run, token = await begun(b)
        b.store.broken = "no space left on device"
        async with dial(endpoint.front(), "/") as own, dial(endpoint.front(), "/") as impostor:
            assert (await connect(own, run, token, "its own"))["ack_type"] == "connect"
            assert (await connect(impostor, run, token, "another's"))["code"] == "BAD_TOKEN"
            await own.say(**about(run), type="output", seq=0, offset=0, data="x")
            assert await own.hear_all(LEASE_S / 2) == []
            assert not b.of(Bound)
            b.store.broken = ""
            assert (await own.hear())["ack_type"] == "output"
            assert len(b.of(Bound)) == 1


async def test_a_run_that_has_said_its_last_word_says_nothing_more(autojump_clock: MockClock) -> None:
    """What is repeated is acked, so that the machine may stop; nothing is added, nothing changed."""
    store, machines = MemoryStore(), fleet("m1")
    async with bottle(job(), machines=machines, store=store) as b:
        b.play("m1", Script(output=b"the truth\n"))
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await b.ended(run)
    async with bottle(job(), machines=machines, store=store) as b:
        before = len(store.events)
        async with dial(MachinesEndpoint(b.roster, now).front(), "/") as again:
            assert (await connect(again, run, token, ""))["ack_type"] == "connect"
            await again.say(**about(run), type="output", seq=0, offset=10, data="and a lie\n")
            await again.say(**about(run), type="log", text="a lie")
            await again.say(**about(run), type="start", pid=666)
            await again.say(**about(run), type="complete", retcode=1, outcome="exited", length=20)
            assert [message["ack_type"] for message in await again.hear_all(5)] == ["output", "start", "complete"]
        m1 = ExecutionId(run, "m1")
        assert len(store.events) == before
        assert (store.text(m1), store.logs.get(m1)) == ("the truth\n", None)


async def test_a_machine_that_was_thought_dead_is_heard_all_the_same(autojump_clock: MockClock) -> None:
    machines = fleet("m1")
    machines.machines["m1"].up = False
    async with bottle(job(), machines=machines) as b:
        run = await b.runs.run("backup", "test")
        token = b.board.state.runs[run].token
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.NO_RESPONSE
        await PlayedWrapper(Script(code=7), await b.roster.find(run, "m1", 1, token)).play()
        [late] = b.of(CameLate)
        assert late.outcome.code == 7


async def test_the_token_of_a_run_makes_no_machines_up(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1")) as b:
        run, token = await begun(b)
        for machine, attempt in (("made up", 1), ("m1", MOST_ATTEMPTS + 1)):
            with pytest.raises(UnknownExecution):
                await b.roster.find(run, machine, attempt, token)
        assert not b.of(Retrying)


async def test_a_token_does_not_outlive_what_a_ledger_may_lose(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        run, token = await begun(b)
        await trio.sleep(ORPHAN_S - 60)
    async with bottle(job()) as b:  # with an empty store
        await b.roster.find(run, "m1", 1, token)
        assert len(b.of(RunStarted)) == 1
    async with bottle(job()) as b:
        await trio.sleep(120)
        with pytest.raises(UnknownExecution):
            await b.roster.find(run, "m1", 1, token)
        assert not b.of(RunStarted)


async def test_a_talkative_wrapper_fills_no_disk(autojump_clock: MockClock) -> None:
    async with bottle(job()) as b:
        run, token = await begun(b)
        execution = await b.roster.find(run, "m1", 1, token)
        for _ in range(30):
            await execution.log(wire.Log(text="x" * 100_000))
        assert sum(map(len, b.store.logs[execution.id])) == LOG_CHARS
