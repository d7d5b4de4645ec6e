"""Whatever happens to the connection: nothing lost, nothing twice, in order, and never too much in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper.outbox import LARGEST_WINDOW, WINDOW, Outbox
from sp_wrapper.wire import RemoteProtocolError


class Model:
    """A daemon that stores what is new of each message, over connections that lose what is under way."""

    def __init__(self) -> None:
        self.outbox = Outbox(window=3)
        self.written = 0
        self.held = 0
        self.to_daemon: list[tuple[int, int, int]] = []
        self.to_wrapper: list[int] = []

    def write(self) -> None:
        self.written += 7

    def send(self) -> None:
        if self.outbox.has_room and self.outbox.position < self.written:
            start = self.outbox.position
            end = min(self.written, start + 5)
            self.to_daemon.append((self.outbox.sent(end, 0.0), start, end))
            assert len(self.to_daemon) + len(self.to_wrapper) <= self.outbox.window

    def arrive(self) -> None:
        if self.to_daemon:
            seq, start, end = self.to_daemon.pop(0)
            assert start <= self.held, "a gap"
            self.held = max(self.held, end)
            self.to_wrapper.append(seq)

    def answer(self) -> None:
        if self.to_wrapper:
            self.outbox.ack(self.to_wrapper.pop(0), 0.0)
            assert self.outbox.acked <= self.held

    def reconnect(self) -> None:
        self.to_daemon.clear()
        self.to_wrapper.clear()
        self.outbox.connected(self.held, self.written)

    def confuse(self) -> None:
        """The daemon counts otherwise, having lost what was under way."""
        self.to_daemon.clear()
        self.to_wrapper.clear()
        self.outbox.nack(0)


EVENTS = ("write", "send", "arrive", "answer", "reconnect", "confuse")


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_everything_arrives_in_every_order_of_events(events: list[str]) -> None:
    model = Model()
    for event in events:
        getattr(model, event)()
        assert model.outbox.acked <= model.outbox.position <= model.written
    model.reconnect()
    while model.held < model.written or model.outbox.is_waiting:
        model.send()
        model.arrive()
        model.answer()
    assert model.outbox.acked == model.held == model.written


def test_an_ack_stands_for_all_before_it() -> None:
    outbox = Outbox()
    for end in (10, 20, 30):
        outbox.sent(end, 0.0)
    outbox.ack(1, 0.0)
    assert outbox.acked == 20
    outbox.ack(0, 0.0)
    assert outbox.acked == 20, "an old ack changes nothing"


def test_more_is_in_flight_where_acks_are_quick() -> None:
    outbox, at = Outbox(), 0.0
    windows = [outbox.window]
    for took_s in [0.01] * 40 + [1.0] * 10:
        seq = outbox.sent(outbox.position + 10, at)
        at += took_s
        outbox.ack(seq, at)
        windows.append(outbox.window)
    assert windows == [*range(WINDOW, LARGEST_WINDOW + 1), *[LARGEST_WINDOW] * 16, *[WINDOW] * 10]


def test_an_ack_of_what_was_never_sent_breaks_the_protocol() -> None:
    with pytest.raises(RemoteProtocolError, match="ack of 0, but only 0 were made"):
        Outbox().ack(0, 0.0)


def test_a_daemon_cannot_hold_more_than_was_written() -> None:
    with pytest.raises(RemoteProtocolError, match="holds 11 bytes, but only 10 were written"):
        Outbox().connected(11, 10)


def test_a_nack_of_something_in_flight_goes_back_to_it() -> None:
    outbox = Outbox()
    for end in (10, 20, 30):
        outbox.sent(end, 0.0)
    outbox.nack(1)
    assert (outbox.position, outbox.next_seq) == (10, 1)


def test_a_nack_of_something_unknown_goes_back_to_what_is_certain() -> None:
    outbox = Outbox()
    for end in (10, 20, 30):
        outbox.sent(end, 0.0)
    outbox.ack(0, 0.0)
    outbox.nack(17)
    assert (outbox.position, outbox.next_seq) == (10, 17)
