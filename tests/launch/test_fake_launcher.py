"""The misfortunes that the fake can play, which the other launchers only meet."""

from __future__ import annotations

from math import inf

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import Answer, Ping, StartPlain, StartWrapper
from saltpeter.errors import LaunchError, LaunchUnknown
from tests.helpers.fake_launcher import MISSING, FakeLauncher, FakeMachine, Reply

START = StartWrapper(path="/opt/w", env={})


async def heard(fleet: FakeLauncher, ticket: str, within_s: float = 60) -> dict[str, int]:
    """Who answers in time, and with which code."""
    codes = {}
    with trio.move_on_after(within_s):
        async with fleet.answers(ticket) as answers:
            async for answer in answers:
                codes[answer.machine] = answer.code
    return codes


async def test_a_machine_that_is_down_never_answers_not_even_later(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"up": FakeMachine(), "down": FakeMachine(up=False)})
    await fleet.publish("t", START, ["up", "down", "nobody"])
    fleet.machines["down"].up = True
    assert await heard(fleet, "t") == {"up": 0}


async def test_answers_take_as_long_as_they_are_told_to(autojump_clock: MockClock) -> None:
    slow = FakeMachine(start_delay_s=2, answer_delay_s=3, on_start=lambda _machine, _call: Reply(254, "no", after_s=5))
    fleet = FakeLauncher({"m": slow}, publish_s=0)
    async with fleet.answers("t") as answers:
        await fleet.publish("t", START, ["m"])
        assert await answers.receive() == Answer("m", 254, "no")
    assert trio.current_time() == 10


async def test_an_answer_that_is_lost_was_acted_on_all_the_same(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"m": FakeMachine(answers_lost=True)})
    await fleet.publish("t", START, ["m"])
    assert await heard(fleet, "t") == {}
    assert fleet.machines["m"].starts == [START]


async def test_while_the_master_is_down_nothing_goes_in_or_out(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"m": FakeMachine(answer_delay_s=10)})
    await fleet.publish("t", START, ["m"])
    fleet.master_up = False
    assert not await fleet.reachable()
    with pytest.raises(LaunchUnknown):
        await fleet.publish("u", START, ["m"])
    with pytest.raises(LaunchUnknown):
        await fleet.match(Target("*"))
    assert await heard(fleet, "t") == {}


async def test_a_publish_that_times_out_may_have_gone_out(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"m": FakeMachine()}, publish_times_out=True)
    with pytest.raises(LaunchUnknown):
        await fleet.publish("t", START, ["m"])
    assert await heard(fleet, "t") == {"m": 0}


async def test_a_refusal_is_final(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"m": FakeMachine()}, refuse="not you")
    with pytest.raises(LaunchError, match="not you"):
        await fleet.publish("t", START, ["m"])


async def test_a_restarted_machine_acts_on_an_old_ticket_but_a_plain_start_goes_out_once(
    autojump_clock: MockClock,
) -> None:
    plain = StartPlain(command="true", run="r", job="j", user=None, cwd=None, env={}, timeout_s=inf)
    fleet = FakeLauncher({"m": FakeMachine()})
    for _ in range(2):
        await fleet.publish("t", START, ["m"])
        await fleet.publish("u", plain, ["m"])
        await trio.sleep(1)
        fleet.machines["m"].restart()
    assert fleet.machines["m"].starts == [START, plain, START]


async def test_a_missing_wrapper_stays_missing(autojump_clock: MockClock) -> None:
    fleet = FakeLauncher({"m": FakeMachine(wrapper=MISSING)})
    await fleet.publish("p", Ping(), ["m"])
    await fleet.publish("t", START, ["m"])
    assert (await heard(fleet, "p"), await heard(fleet, "t")) == ({"m": 0}, {"m": 127})


@pytest.mark.parametrize(
    ("kind", "expression", "names"),
    [
        (TargetType.GLOB, "w*", ("w1", "w2")),
        (TargetType.PCRE, "w[1]", ("w1",)),
        (TargetType.LIST, "w2,db,x", ("db", "w2")),
        (TargetType.NODEGROUP, "web", ("w1", "w2")),
    ],
)
async def test_targets(kind: TargetType, expression: str, names: tuple[str, ...], autojump_clock: MockClock) -> None:
    machines = {name: FakeMachine() for name in ("w2", "w1", "db")}
    fleet = FakeLauncher(machines, nodegroups={"web": ["w1", "w2", "w3"]})
    assert await fleet.match(Target(expression, kind)) == names
