"""That it has started and whose secret counts are written down together, and neither is forgotten for the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Bound, Confirmed, ExecutionId
from saltpeter.domain.outcome import LEASE_S
from saltpeter.domain.state import State
from saltpeter.engine.board import Board
from saltpeter.engine.execution import Execution
from saltpeter.engine.leases import Leases
from saltpeter.engine.record import Recorder
from tests.helpers.bottle import NOON, NoCopy, job
from tests.helpers.memory_store import NO_CONFIG, MemoryStore

Learn = Callable[[Execution], object]


def confirm(execution: Execution) -> None:
    execution.confirm()


def recognise(execution: Execution) -> None:
    assert execution.recognises("s" * 32)


def of(store: MemoryStore) -> Execution:
    record = Recorder(store, Board(State(NO_CONFIG)), NoCopy())
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


async def test_both_are_one_commit_whoever_asks_first(autojump_clock: MockClock) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = of(store)
    confirm(execution)
    recognise(execution)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.bind)
        nursery.start_soon(execution.bind)
    assert {type(event) for event in store.events} == {Confirmed, Bound}
    assert (len(store.events), trio.current_time()) == (2, 1.0)


@pytest.mark.parametrize(("first", "second"), [(confirm, recognise), (recognise, confirm)])
async def test_what_is_learnt_meanwhile_is_written_next(autojump_clock: MockClock, first: Learn, second: Learn) -> None:
    store = MemoryStore(commit_s=1.0)
    execution = of(store)
    first(execution)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execution.bind)
        await trio.sleep(0.5)
        second(execution)
        nursery.start_soon(execution.bind)
    assert {type(event) for event in store.events} == {Confirmed, Bound}
    assert (len(store.events), trio.current_time()) == (2, 2.0)
