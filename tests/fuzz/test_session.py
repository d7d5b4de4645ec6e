"""What a wrapper may say in any order, and a daemon that must hold together: nothing lost, nothing twice, no bug."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from saltpeter.endpoints.intake import Intake
from saltpeter.endpoints.machines import MachinesEndpoint
from sp_wrapper import wire
from sp_wrapper.outbox import Outbox
from tests.endpoints.rig import Peer, dial, now
from tests.endpoints.test_machines import WHO, Known, Watched, connect
from tests.fuzz.test_corpus import JSON


class OverAnyConnections(RuleBasedStateMachine):
    """Outbox and Intake between them move a command's output, through cuts of the connection and of the output."""

    @initialize()
    def begin(self) -> None:
        self.length = 0  # of what the command has written
        self.outbox = Outbox()
        self.durable = 0
        self.wire: list[wire.Output] = []  # on their way to the daemon
        self.acks: list[int] = []  # and back
        self.reconnect(0)

    @rule(size=st.integers(1, 1000))
    def write(self, size: int) -> None:
        self.length += size

    @precondition(lambda self: self.outbox.has_room and self.outbox.position < self.length)
    @rule(size=st.integers(1, 300), cut=st.integers(0, 100))
    def send(self, size: int, cut: int) -> None:
        at = self.outbox.position
        start = min(at + cut, self.length - 1)
        data = bytes(min(size, self.length - start))
        seq = self.outbox.sent(start + len(data), 0.0)
        self.wire.append(wire.Output(seq=seq, data=data, offset=start, cut=start - at))

    @precondition(lambda self: self.wire)
    @rule()
    def arrive(self) -> None:
        output = self.wire.pop(0)
        verdict = self.intake.judge(output)
        assert not isinstance(verdict, wire.Nack), "an honest wrapper leaves no gap"
        if isinstance(verdict, wire.Output):
            assert verdict.offset is not None
            assert verdict.offset - verdict.cut <= self.durable
            self.durable = verdict.offset + len(verdict.data)
        self.acks.append(output.seq)

    @precondition(lambda self: self.acks)
    @rule()
    def acknowledge(self) -> None:
        self.outbox.ack(self.acks.pop(0), 0.0)

    @rule(lost=st.integers(0, 5))
    def reconnect(self, lost: int) -> None:
        """What was on its way is lost, from some message on."""
        for _ in range(len(self.wire) - lost):
            self.arrive()
        self.wire.clear()
        self.acks.clear()
        self.intake = Intake(self.durable)
        self.outbox.connected(self.durable, self.length)

    @invariant()
    def nothing_is_acknowledged_that_is_not_held(self) -> None:
        assert self.outbox.acked <= self.durable <= self.length
        assert self.intake.length == self.durable


TestOverAnyConnections = OverAnyConnections.TestCase
TestOverAnyConnections.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


HONEST: dict[str, dict[str, Any]] = {
    "start": {"pid": 7},
    "output": {"seq": 0, "offset": 0, "data": "0123456789"},
    "heartbeat": {"rss": 1, "cpu": 0.5},
    "sync_request": {"last_acked_seq": -1, "next_seq": 0},
    "complete": {"retcode": 0, "outcome": "exited", "length": 10},
    "killed": {"receipt": {}},
    "log": {"text": "x", "level": "debug"},
    "error": {"error": "x"},
    "connect": {"token": "sesame"},
}


@st.composite
def said(draw: st.DrawFn) -> dict[str, Any]:
    """A message that is right, or almost."""
    kind = draw(st.sampled_from(sorted(HONEST)))
    message = {**WHO, "type": kind, **HONEST[kind]}
    if kind == "output":
        message |= {"seq": draw(st.integers(0, 5)), "offset": draw(st.integers(0, 30)), "cut": draw(st.integers(0, 30))}
    if draw(st.integers(0, 5)) == 0:
        message[draw(st.sampled_from(sorted(message)))] = draw(JSON)
    return message


@given(messages=st.lists(said(), max_size=12))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_whatever_a_wrapper_says_it_is_answered_or_shown_out(
    messages: list[dict[str, Any]], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    watched = Watched(commit_s=0.01)
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        answers = await talk(wrapper, messages)
    assert {answer["type"] for answer in answers} <= {"ack", "nack", "sync_response", "error"}
    assert not any("Traceback" in json.dumps(answer) for answer in answers)
    assert [answer["type"] for answer in answers[:-1]].count("error") == 0, "after an error there is nothing more"
    assert len(watched.held) + watched.cut <= 40 + 30 * len(messages)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def talk(wrapper: Peer, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say it all; what is answered within some seconds."""
    answers: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        for message in messages:
            await wrapper.say(**message)
    with suppress(ConnectionClosed), trio.move_on_after(5):
        while True:
            answers.append(json.loads(await wrapper.ws.get_message()))
    return answers
