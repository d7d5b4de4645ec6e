"""What a wrapper shows and says at first is written down together, and nothing of it is forgotten for the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Bound, Confirmed, Ended, ExecutionId, Started
from saltpeter.domain.outcome import KILLED, LEASE_S
from saltpeter.domain.state import State
from saltpeter.engine.board import Board
from saltpeter.engine.execution import TOGETHER_S, Execution
from saltpeter.engine.leases import Leases
from saltpeter.engine.record import Recorder
from sp_wrapper import wire
from tests.helpers.bottle import NOON, Nobody, job
from tests.helpers.memory_store import NO_CONFIG, MemoryStore

Learn = Callable[[Execution], object]


def confirm(execution: Execution) -> None:
    execution.confirm()


def recognise(execution: Execution) -> None:
    assert execution.recognises("s" * 32)


def of(store: MemoryStore) -> Execution:
    record = Recorder(store, Board(State(NO_CONFIG)), Nobody())
    who = ExecutionId("backup_1", "db01")
    return Execution(
        id=who,
        job=job(),
        token="t",
        record=record,
        now=lambda: NOON,
        leases=Leases(LEASE_S),
        forward=lambda _execution, _order: None,
    )


def connected(store: MemoryStore) -> Execution:
    """One whose wrapper has just shown its secret."""
    execution = of(store)
    recognise(execution)
    confirm(execution)
    return execution


async def test_both_are_one_commit_whoever_asks_first(autojump_clock: MockClock) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = connected(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.tell_the_ledger)
        nursery.start_soon(execution.tell_the_ledger)
    assert {type(event) for event in store.events} == {Confirmed, Bound}
    assert (len(store.events), trio.current_time()) == (2, 1.0)


@pytest.mark.parametrize(("first", "second"), [(confirm, recognise), (recognise, confirm)])
async def test_what_is_learnt_meanwhile_is_written_next(autojump_clock: MockClock, first: Learn, second: Learn) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = of(store)
    first(execution)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.tell_the_ledger)
        await trio.sleep(0.5)
        second(execution)
        nursery.start_soon(execution.tell_the_ledger)
    assert {type(event) for event in store.events} == {Confirmed, Bound}
    assert (len(store.events), trio.current_time()) == (2, 2.0)


@pytest.mark.parametrize("after_s", [0.0, 0.8 * TOGETHER_S])
async def test_a_command_that_starts_at_once_is_told_of_with_its_wrapper(
    autojump_clock: MockClock, after_s: float
) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = connected(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.follow)
        await trio.sleep(after_s)
        await execution.started(wire.Start(pid=7, version="1"))
        assert [type(event) for event in store.events] == [Bound, Confirmed, Started]
        assert trio.current_time() == after_s + 1.0
        nursery.cancel_scope.cancel()


async def test_a_command_that_takes_its_time_keeps_nothing_back(autojump_clock: MockClock) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = connected(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.follow)
        await trio.sleep(TOGETHER_S + 1.5)
        assert [type(event) for event in store.events] == [Bound, Confirmed]
        nursery.cancel_scope.cancel()


async def test_what_somebody_was_telling_is_told_though_they_are_gone(autojump_clock: MockClock) -> None:
    """Such as a wrapper whose connection is lost while the store cannot write."""
    store = MemoryStore(broken="full")
    execution = connected(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.follow)
        with trio.move_on_after(TOGETHER_S + 0.5):
            await execution.tell_the_ledger()
        store.broken = ""
        await trio.sleep(60.0)
        assert [type(event) for event in store.events] == [Bound, Confirmed]
        nursery.cancel_scope.cancel()


async def test_an_end_that_comes_first_is_told_last(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    execution = of(store)
    confirm(execution)
    await execution.conclude(KILLED)
    assert [type(event) for event in store.events] == [Confirmed, Ended]


async def test_who_is_given_secrets_is_known_for_good_before(autojump_clock: MockClock) -> None:
    """Its command starts only with them, which may take long; the next daemon must not take another one for it."""
    store = MemoryStore(commit_s=1.0)
    execution = of(store)
    confirm(execution)
    await execution.tell_the_ledger()
    recognise(execution)
    assert await execution.secrets() == wire.Secrets(env={})
    assert [type(event) for event in store.events] == [Confirmed, Bound]
