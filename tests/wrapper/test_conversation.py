"""One connection in virtual time: what the wrapper says when, and how long it waits for an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from exceptiongroup import catch
from trio.testing import MockClock, memory_stream_pair

from sp_wrapper import channel, claim, frames, link, state, wire
from sp_wrapper.account import Account
from sp_wrapper.conversation import Conversation
from sp_wrapper.journal import Journal
from sp_wrapper.order import parse
from sp_wrapper.spool import SpoolReader, SpoolWriter
from tests.wrapper.test_order import LEAST

Answers = Callable[[object], list[wire.FromDaemon]]
Heard = list[tuple[float, Any]]
TIMING = link.Timing()


class Run:
    """A command that has been started, as its reporter sees it."""

    def __init__(self, folder: Path) -> None:
        own = claim.Claim(state.StateDir(str(folder / "state")), "run")
        Path(own.path).mkdir()
        self.asked: list[object] = []
        self.spool = SpoolWriter(own.path, 10**6)
        order = parse(LEAST)
        self.account = Account(channel.Job(own, order, 0, 77, 0.0), Journal(order), self.ask, SpoolReader(own.path))

    async def ask(self, what: object) -> None:
        self.asked.append(what)

    def writes(self, data: bytes) -> None:
        self.spool.write(data)
        self.account.learn(channel.Facts(self.spool.stored))

    def ends(self) -> None:
        self.account.end(wire.Complete(retcode=0, length=self.spool.length))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@asynccontextmanager
async def connected(run: Run, answers: Answers, heard: Heard) -> AsyncIterator[link.Link]:
    """A link to a peer that notes what it hears and when, and answers as told."""
    ours, its = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_peer, its, answers, heard)
        websocket = await trio_websocket.wrap_client_stream(nursery, ours, "daemon", "/", message_queue_size=64)  # type: ignore[arg-type]
        yield link.Link(websocket, run.account.about, TIMING, lambda: datetime.now(timezone.utc))
        nursery.cancel_scope.cancel()


async def _peer(stream: Any, answers: Answers, heard: Heard) -> None:
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        websocket = await request.accept()
        while True:
            frame = frames.decode_from_wrapper(await websocket.get_message())
            heard.append((trio.current_time(), frame.message))
            for answer in answers(frame.message):
                await websocket.send_message(frames.encode(frame.about, answer, frame.at))


def polite(message: object) -> list[wire.FromDaemon]:
    match message:
        case wire.Connect():
            return [wire.Ack(ack_type="connect", offset=0)]
        case wire.Output():
            return [wire.Ack(ack_type="output", seq=message.seq)]
        case wire.Complete():
            return [wire.Ack(ack_type="complete")]
    return []


def only_greets(message: object) -> list[wire.FromDaemon]:
    return polite(message) if isinstance(message, wire.Connect) else []


async def talk(run: Run, answers: Answers) -> tuple[Conversation, Heard]:
    """Talk until the conversation ends, well or not."""
    heard: Heard = []
    conversation = Conversation(run.account, TIMING)
    with catch({link.ERRORS: lambda _: None}):
        async with connected(run, answers, heard) as line:
            await conversation.run(line)
    return conversation, heard


def times(heard: Heard, kind: type) -> list[float]:
    return [at for at, message in heard if isinstance(message, kind)]


async def later(after_s: float, what: Callable[[], None]) -> None:
    await trio.sleep(after_s)
    what()


async def test_a_heartbeat_every_five_seconds_until_the_end(run: Run, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 22, run.ends)
        conversation, heard = await talk(run, polite)
    assert times(heard, wire.Heartbeat) == [0, 5, 10, 15, 20]
    assert (conversation.heard, trio.current_time()) == (True, 22)
    assert [type(message) for _, message in heard[:2]] == [wire.Connect, wire.Start]


async def test_heartbeats_go_on_while_acks_are_slow_and_then_it_dials_anew(run: Run, autojump_clock: MockClock) -> None:
    run.writes(b"x" * wire.MAX_CHUNK * 20)
    conversation, heard = await talk(run, only_greets)
    assert len(times(heard, wire.Output)) == run.account.outbox.window
    assert times(heard, wire.Heartbeat) == [0, 5, 10, 15, 20, 25]
    assert (conversation.heard, trio.current_time()) == (False, TIMING.ack_s)


async def test_a_daemon_that_does_not_answer_the_greeting(run: Run, autojump_clock: MockClock) -> None:
    _, heard = await talk(run, lambda _: [])
    assert trio.current_time() == TIMING.connect_s
    assert [type(message) for _, message in heard] == [wire.Connect]


async def test_small_output_is_gathered_for_the_interval(run: Run, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        for at in (1, 1.05, 1.1, 1.25, 1.35):
            nursery.start_soon(later, at, lambda: run.writes(b"."))
        nursery.start_soon(later, 2, run.ends)
        _, heard = await talk(run, polite)
    assert times(heard, wire.Output) == pytest.approx([1, 1.2, 1.4])
    assert b"".join(message.data for _, message in heard if isinstance(message, wire.Output)) == b"....."


async def test_it_goes_on_from_where_the_daemon_is(run: Run, autojump_clock: MockClock) -> None:
    run.writes(b"0123456789")
    run.ends()
    _, heard = await talk(
        run, lambda m: [wire.Ack(ack_type="connect", offset=6)] if isinstance(m, wire.Connect) else polite(m)
    )
    [output] = [message for _, message in heard if isinstance(message, wire.Output)]
    assert (output.offset, output.data) == (6, b"6789")


async def test_the_end_is_told_after_all_output_was_acknowledged(run: Run, autojump_clock: MockClock) -> None:
    run.writes(b"x" * 10)
    run.ends()
    _, heard = await talk(run, lambda m: [] if isinstance(m, wire.Output) else polite(m))
    assert times(heard, wire.Output)
    assert not times(heard, wire.Complete)


async def test_kills_and_signals_are_handed_to_the_supervisor(run: Run, autojump_clock: MockClock) -> None:
    def commanding(message: object) -> list[wire.FromDaemon]:
        if not isinstance(message, wire.Connect):
            return polite(message)
        orders: list[wire.FromDaemon] = [
            wire.Kill(signal="INT", grace=2.5),
            wire.Signal(signal="STOP"),
            wire.Signal(signal="NONSENSE"),
        ]
        return [*polite(message), *orders]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 1, run.ends)
        await talk(run, commanding)
    assert run.asked == [channel.Kill(2, 2.5), channel.Signal(19)]


async def test_the_start_is_told_when_the_secrets_have_led_to_it(run: Run, autojump_clock: MockClock) -> None:
    run.account.job = run.account.job._replace(pid=0, waiting=True)

    def slow_to_read(message: object) -> list[wire.FromDaemon]:
        secrets = [wire.Secrets(env={"PASSWORD": "x"})] if isinstance(message, wire.Connect) else []
        return [*polite(message), *secrets]

    def begins() -> None:
        run.account.learn(channel.Facts(pid=88, started=5.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 7, begins)
        nursery.start_soon(later, 9, run.ends)
        _, heard = await talk(run, slow_to_read)
    [connect] = [message for _, message in heard if isinstance(message, wire.Connect)]
    [start] = [message for _, message in heard if isinstance(message, wire.Start)]
    assert (connect.wants_secrets, start.pid, times(heard, wire.Start)) == (True, 88, [7])
    assert times(heard, wire.Heartbeat) == [0, 5], "while the command waits, its wrapper is alive"
    assert run.asked == [channel.Secrets({"PASSWORD": "x"}, "")]
    assert not run.account.job.waiting


@pytest.mark.parametrize(
    ("failures", "shortest", "longest"), [(0, 0.125, 0.25), (3, 1, 2), (14, 1, 2), (16, 4, 8), (50, 15, 30)]
)
def test_the_delay_stays_short_for_a_while_and_grows_to_half_a_minute(
    failures: int, shortest: float, longest: float
) -> None:
    assert (TIMING.delay_s(failures, 0), TIMING.delay_s(failures, 1)) == (shortest, longest)
