"""Every waiter gets each machine's answer once."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.engine.launcher import Answer
from saltpeter.launch.desk import Desk


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc")))
def test_a_machine_is_heard_once_and_its_first_word_stands(machines: list[str]) -> None:
    desk = Desk()
    with desk.open("t") as inbox:
        for number, machine in enumerate(machines):
            desk.post("t", Answer(machine, number, ""))
        heard = {}
        while True:
            try:
                answer = inbox.receive.receive_nowait()
            except trio.WouldBlock:
                break
            assert answer.machine not in heard
            heard[answer.machine] = answer.code
    assert heard == {machine: machines.index(machine) for machine in machines}


def test_answers_go_to_everybody_who_waits_for_that_ticket() -> None:
    desk = Desk()
    with desk.open("t") as one, desk.open("t") as two, desk.open("u") as other:
        desk.post("t", Answer("a", 0, ""))
        assert one.receive.receive_nowait() == two.receive.receive_nowait()
        with pytest.raises(trio.WouldBlock):
            other.receive.receive_nowait()


def test_nothing_is_kept_for_nobody() -> None:
    desk = Desk()
    with desk.open("t"):
        with desk.open("t"):
            pass
        assert "t" in desk
    assert "t" not in desk
    desk.post("t", Answer("a", 0, ""))
