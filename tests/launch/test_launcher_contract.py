"""What every launcher does, whatever is behind it: the fake, this host, and a real Salt."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import (
    UNTOLD,
    Answer,
    AskStatus,
    Call,
    FindPlain,
    KillPlain,
    KillThroughWrapper,
    Ping,
    StartWrappers,
    again,
    ask,
    place,
)
from saltpeter.errors import LaunchError
from tests.launch.fleets import MACHINES, Fleet, fake_fleet, local_fleet, plain, salt_fleet, wrapper

RUN = f"contract-{uuid.uuid4().hex}"  # a kill looks at every process of the host

MakeFleet: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Fleet]]


@pytest.fixture(params=["fake", "local", pytest.param("salt", marks=pytest.mark.salt)])
def make_fleet(request: pytest.FixtureRequest) -> MakeFleet:
    if request.param == "salt":
        return partial(salt_fleet, handle=request.getfixturevalue("salt_lab"))
    return fake_fleet if request.param == "fake" else local_fleet


@pytest.fixture
async def fleet(make_fleet: MakeFleet, tmp_path: Path) -> AsyncIterator[Fleet]:
    with trio.fail_after(60):
        async with make_fleet(tmp_path) as made:
            yield made


async def gather(answers: trio.MemoryReceiveChannel[Answer], count: int) -> list[Answer]:
    """The next `count` answers, in the machines' order."""
    return sorted([await answers.receive() for _ in range(count)], key=lambda answer: answer.machine)


async def asked(fleet: Fleet, call: Call, machines: Collection[str] = MACHINES) -> list[Answer]:
    """What they say, in the order of `machines`."""
    heard = await ask(fleet.launcher, call, machines)
    return [heard[machine] for machine in machines]


def codes(answers: Sequence[Answer]) -> list[int]:
    return [answer.code for answer in answers]


async def test_names_are_matched_sorted(fleet: Fleet) -> None:
    assert await fleet.launcher.match(Target("m2,m1", TargetType.LIST)) == ("m1", "m2")
    assert await fleet.launcher.match(Target("m1", TargetType.GLOB)) == ("m1",)


async def test_a_target_that_makes_no_sense_is_refused(fleet: Fleet) -> None:
    with pytest.raises(LaunchError):
        await fleet.launcher.match(Target("(", TargetType.PCRE))


async def test_every_ticket_is_new(fleet: Fleet) -> None:
    assert len({fleet.launcher.ticket() for _ in range(1000)}) == 1000


async def test_the_way_to_the_machines_is_open(fleet: Fleet) -> None:
    assert await fleet.launcher.reachable()


async def test_each_machine_answers_a_ping(fleet: Fleet) -> None:
    assert await asked(fleet, Ping()) == [Answer("m1", 0, ""), Answer("m2", 0, "")]


async def test_a_call_reaches_only_the_machines_it_is_for(fleet: Fleet) -> None:
    assert await asked(fleet, wrapper(fleet.good, RUN), ["m2"]) == [Answer("m2", 0, f"start {RUN} on m2")]
    assert fleet.starts() == [f"m2 {RUN}"]


async def test_answers_given_before_anybody_listened_are_delivered_too(fleet: Fleet) -> None:
    ticket = fleet.launcher.ticket()
    async with fleet.launcher.answers(ticket) as answers:
        await fleet.launcher.publish(ticket, Ping(), MACHINES)
        first = await gather(answers, 2)
    async with fleet.launcher.answers(ticket) as answers, fleet.launcher.answers(ticket) as again:
        assert await gather(answers, 2) == await gather(again, 2) == first


async def test_each_wrapper_knows_which_machine_it_is_on(fleet: Fleet) -> None:
    answers = await asked(fleet, wrapper(fleet.good, RUN))
    assert answers == [Answer("m1", 0, f"start {RUN} on m1"), Answer("m2", 0, f"start {RUN} on m2")]


async def test_a_wrapper_that_refuses_says_so(fleet: Fleet) -> None:
    assert codes(await asked(fleet, wrapper(fleet.good, RUN, code=254))) == [254, 254]


async def test_a_missing_wrapper_is_127_with_a_text(fleet: Fleet) -> None:
    [answer] = await asked(fleet, wrapper(fleet.missing, RUN), ["m1"])
    assert answer.code == 127
    assert fleet.missing in answer.text
    assert "No such file or directory" in answer.text


async def test_a_wrapper_that_may_not_be_executed_is_126_with_a_text(fleet: Fleet) -> None:
    [answer] = await asked(fleet, wrapper(fleet.not_executable, RUN), ["m1"])
    assert answer.code == 126
    assert "Permission denied" in answer.text


async def test_publishing_the_same_ticket_again_does_nothing_twice(fleet: Fleet) -> None:
    ticket, call = fleet.launcher.ticket(), wrapper(fleet.good, RUN)
    async with fleet.launcher.answers(ticket) as answers:
        for _ in range(3):
            await fleet.launcher.publish(ticket, call, MACHINES)
        assert codes(await gather(answers, 2)) == [0, 0]
        await asked(fleet, Ping())  # whatever was sent before this has been acted on now
        with pytest.raises(trio.WouldBlock):
            answers.receive_nowait()
    assert fleet.starts() == [f"m1 {RUN}", f"m2 {RUN}"]


async def test_an_order_that_is_given_again_is_answered_again(fleet: Fleet) -> None:
    """By its second name, which a machine that knows the first does not drop."""
    ticket = fleet.launcher.ticket()
    async with fleet.launcher.answers(ticket) as answers:
        await fleet.launcher.publish(ticket, wrapper(fleet.good, RUN), ["m1"])
        assert codes(await gather(answers, 1)) == [0]
        for _ in range(2):
            await fleet.launcher.publish(again(ticket), wrapper(fleet.good, RUN, code=254), ["m1"])
        assert codes(await gather(answers, 1)) == [254]
    async with fleet.launcher.answers(ticket) as answers:
        assert codes(await gather(answers, 2)) == [0, 254]


def several(fleet: Fleet, path: str = "", **codes: int) -> StartWrappers:
    """An order for each, whose wrapper is to end with that code."""
    envs = {name: wrapper(fleet.good, f"{RUN}_{name}", code).env for name, code in codes.items()}
    return StartWrappers(path=path or fleet.good, orders=envs)


async def test_of_several_orders_each_has_a_ticket_and_an_answer_of_its_own(fleet: Fleet) -> None:
    ticket, call = fleet.launcher.ticket(), several(fleet, a=0, b=254, c=0)
    async with (
        fleet.launcher.answers(place(ticket, "a")) as a,
        fleet.launcher.answers(place(ticket, "b")) as b,
    ):
        for _ in range(2):
            await fleet.launcher.publish(ticket, call, MACHINES)
        assert await gather(a, 2) == [Answer(name, 0, f"start {RUN}_a on {name}") for name in MACHINES]
        assert await gather(b, 2) == [Answer(name, 254, f"start {RUN}_b on {name}") for name in MACHINES]
    async with fleet.launcher.answers(place(ticket, "c")) as c:
        assert codes(await gather(c, 2)) == [0, 0]
    assert fleet.starts() == sorted(f"{machine} {RUN}_{name}" for machine in MACHINES for name in "abc")


async def test_where_several_orders_reach_no_wrapper_nothing_is_told_of_any(fleet: Fleet) -> None:
    """And each may be given by itself, under the second name of its ticket."""
    ticket, call = fleet.launcher.ticket(), several(fleet, fleet.missing, a=0, b=0)
    own = place(ticket, "b")
    async with fleet.launcher.answers(place(ticket, "a")) as others, fleet.launcher.answers(own) as answers:
        await fleet.launcher.publish(ticket, call, ["m1"])
        for answer in (*await gather(others, 1), *await gather(answers, 1)):
            assert answer.code in (UNTOLD, 127)
            assert "No such file or directory" in answer.text
        await fleet.launcher.publish(again(own), wrapper(fleet.good, RUN), ["m1"])
        assert codes(await gather(answers, 1)) == [0]
    assert fleet.starts() == [f"m1 {RUN}"]


async def test_a_call_to_nobody_is_no_trouble(fleet: Fleet) -> None:
    await fleet.launcher.publish(fleet.launcher.ticket(), wrapper(fleet.good, RUN), [])
    assert fleet.starts() == []


async def test_another_ticket_is_another_call(fleet: Fleet) -> None:
    await asked(fleet, wrapper(fleet.good, RUN), ["m1"])
    await asked(fleet, wrapper(fleet.good, f"{RUN}2"), ["m1"])
    assert fleet.starts() == [f"m1 {RUN}", f"m1 {RUN}2"]


async def test_a_wrapper_is_asked_about_its_run(fleet: Fleet) -> None:
    [answer] = await asked(fleet, AskStatus(path=fleet.good, run=RUN), ["m1"])
    assert answer == Answer("m1", 0, f"--attempt=1 --status={RUN}  on m1")


async def test_a_wrapper_that_is_not_connected_is_told_to_kill(fleet: Fleet) -> None:
    [answer] = await asked(fleet, KillThroughWrapper(path=fleet.good, run=RUN), ["m1"])
    assert answer == Answer("m1", 0, f"--attempt=1 --kill={RUN}  on m1")


async def test_a_plain_start_answers_with_its_code_and_all_it_wrote(fleet: Fleet) -> None:
    [answer] = await asked(fleet, plain("echo out; echo err >&2; exit 4", RUN), ["m1"])
    assert answer == Answer("m1", 4, "out\nerr\n")


async def test_a_command_that_dies_of_a_signal_has_the_shells_code(fleet: Fleet) -> None:
    assert codes(await asked(fleet, plain("kill -9 $$", RUN), ["m1"])) == [137]


async def test_a_plain_start_that_takes_too_long_is_124(fleet: Fleet) -> None:
    assert codes(await asked(fleet, plain("sleep 60", RUN, timeout_s=0.2), ["m1"])) == [124]


async def test_a_running_plain_start_is_found_and_killed_on_its_machine_only(fleet: Fleet) -> None:
    ticket = fleet.launcher.ticket()
    async with fleet.launcher.answers(ticket) as answers:
        await fleet.launcher.publish(ticket, plain("sleep 60", RUN), MACHINES)
        with trio.fail_after(20):
            while not all(answer.text for answer in await asked(fleet, FindPlain(ticket=ticket))):  # noqa: ASYNC110
                await trio.sleep(0.05)
        kill = KillPlain(run=RUN, signal="TERM", grace_s=60)
        assert await asked(fleet, kill, ["m1"]) == [Answer("m1", 0, "")]
        assert codes(await gather(answers, 1)) == [143]
        [m1, m2] = await asked(fleet, FindPlain(ticket=ticket))
        assert (m1.text, bool(m2.text)) == ("", True)
        await asked(fleet, kill, ["m2"])
        assert codes(await gather(answers, 1)) == [143]


async def test_a_kill_of_nothing_finds_nothing_left(fleet: Fleet) -> None:
    assert await asked(fleet, KillPlain(run=f"{RUN}0", signal="TERM", grace_s=1), ["m1"]) == [Answer("m1", 0, "")]


async def test_an_error_in_the_block_comes_out_as_it_is(fleet: Fleet) -> None:
    with pytest.raises(ZeroDivisionError):
        async with fleet.launcher.answers(fleet.launcher.ticket()):
            raise ZeroDivisionError
