from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.job import Target
from saltpeter.engine.launcher import Ping
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.launch.counted import CountedLauncher
from tests.helpers.fake_launcher import FakeLauncher, FakeMachine


async def test_what_fails_is_counted_and_nothing_else_changes(autojump_clock: MockClock) -> None:
    failures: list[None] = []
    fleet = FakeLauncher({"m1": FakeMachine()})
    launcher = CountedLauncher(fleet, lambda: failures.append(None))
    assert await launcher.match(Target("*")) == ("m1",)
    ticket = launcher.ticket()
    async with launcher.answers(ticket) as answers:
        await launcher.publish(ticket, Ping(), ["m1"])
        with trio.fail_after(5):
            assert (await answers.receive()).machine == "m1"
    assert await launcher.reachable()
    assert failures == []
    fleet.master_up = False
    with pytest.raises(LaunchUnknown):
        await launcher.match(Target("*"))
    fleet.refuse = "no such user"
    with pytest.raises(LaunchError):
        await launcher.publish(launcher.ticket(), Ping(), ["m1"])
    assert len(failures) == 2
