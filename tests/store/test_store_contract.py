"""What every store promises: run against the real one and against the one that the engine's tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from saltpeter.domain.events import (
    Awaited,
    Ended,
    ExecutionId,
    KillRequested,
    Launched,
    Reason,
    RunEnded,
    RunStarted,
    SlotPassed,
    Targeted,
)
from saltpeter.domain.outcome import KILLED
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Store
from saltpeter.errors import RunTaken, SlotTaken, StoreError
from saltpeter.store.sqlite import open_store
from tests.helpers.bottle import NOON
from tests.helpers.memory_store import MemoryStore

DB01 = ExecutionId("backup_1", "db01")


@asynccontextmanager
async def a_store(kind: str, directory: Path) -> AsyncIterator[Store]:
    if kind == "memory":
        yield MemoryStore()
    else:
        async with open_store(directory) as store:
            yield store


KINDS = pytest.mark.parametrize("kind", ["memory", "sqlite"])


def started(run: str = "backup_1", minute: int | None = 0) -> RunStarted:
    slot = None if minute is None else NOON + timedelta(minutes=minute)
    return RunStarted(run=run, job="backup", slot=slot, by="test", token="t", at=NOON)


@KINDS
async def test_a_slot_and_an_id_are_taken_once(kind: str, tmp_path: Path) -> None:
    async with a_store(kind, tmp_path) as store:
        await store.commit(started())
        with pytest.raises(SlotTaken):
            await store.commit(started("backup_2"))
        with pytest.raises(RunTaken):
            await store.commit(started(minute=5))
        await store.commit(started("backup_3", minute=None))
        await store.commit(started("backup_4", minute=None))


@KINDS
async def test_output_is_added_once_and_without_gaps(kind: str, tmp_path: Path) -> None:
    async with a_store(kind, tmp_path) as store:
        await store.commit(started(), Targeted(run="backup_1", machines=("db01",), at=NOON))
        assert await store.append(DB01, 0, b"hello ", limit=1024) == 6
        assert await store.append(DB01, 3, b"lo world") == 11
        assert await store.append(DB01, 0, b"hello") == 11
        with pytest.raises(StoreError):
            await store.append(DB01, 20, b"far")
        with pytest.raises(StoreError):
            await store.append(DB01, 20, b"far", cut=3)
        assert await store.append(DB01, 20, b"far", cut=9) == 23
        await store.note(DB01, "the end")
        assert await store.length(DB01) == 23
        pieces = await store.pieces(DB01, 0)
        text = b"".join(piece.data for piece in pieces)
        assert text == b"hello world\n[SALTPETER: 9 bytes of output were cut here]\nfar\nthe end\n"
        assert [piece.data for piece in pieces if piece.system][-1] == b"\nthe end\n"
        assert await store.pieces(DB01, pieces[-1].index) == [pieces[-1]]


@KINDS
async def test_what_had_not_ended_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    async with a_store(kind, tmp_path) as store:
        await store.commit(
            started("backup_1", minute=0),
            Targeted(run="backup_1", machines=("db01", "db02"), at=NOON),
            Launched(run="backup_1", ticket="j1", attempt=1, machines=("db01",), at=NOON),
            KillRequested(run="backup_1", machines=(), by="me", at=NOON),
            Ended(execution=DB01, outcome=KILLED, at=NOON),
        )
        await store.commit(started("backup_2", minute=1), RunEnded(run="backup_2", verdict=Verdict.NO_TARGETS, at=NOON))
        [run] = await store.unfinished()
        assert (run.id, run.token, run.open, [kill.by for kill in run.kills]) == ("backup_1", "t", 1, ["me"])
        assert run.executions["db01"].outcome == KILLED
        assert (run.executions["db01"].ticket, run.executions["db02"].ticket) == ("j1", "")
        [last] = await store.last_runs()
        assert (last.id, last.verdict) == ("backup_2", Verdict.NO_TARGETS)


@KINDS
async def test_the_newest_slot_that_has_an_answer(kind: str, tmp_path: Path) -> None:
    async with a_store(kind, tmp_path) as store:
        assert await store.last_slots() == {}
        await store.commit(started())
        missed = NOON + timedelta(minutes=7)
        await store.commit(SlotPassed(job="backup", slot=missed, reason=Reason.MISSED, text="late", at=missed))
        assert await store.last_slots() == {"backup": missed}
        late = NOON + timedelta(days=1)
        await store.commit(
            SlotPassed(job="backup", slot=missed, last=late, reason=Reason.MISSED, text="and all between", at=late)
        )
        assert await store.last_slots() == {"backup": late}
        later = late + timedelta(hours=1)
        await store.commit(Awaited(job="backup", at=later), Awaited(job="new", at=NOON))
        assert await store.last_slots() == {"backup": later, "new": NOON}
        await store.commit(Awaited(job="backup", at=NOON))
        assert await store.last_slots() == {"backup": later, "new": NOON}


@KINDS
async def test_slots_that_wait_until_more_is_known(kind: str, tmp_path: Path) -> None:
    def waits(job: str, minute: int) -> SlotPassed:
        slot = NOON + timedelta(minutes=minute)
        return SlotPassed(job=job, slot=slot, reason=Reason.WAITING, text="for another", at=slot)

    async with a_store(kind, tmp_path) as store:
        await store.commit(waits("backup", 1), waits("backup", 0), waits("report", 5), waits("report", 6))
        assert await store.waiting() == {
            "backup": NOON + timedelta(minutes=1),
            "report": NOON + timedelta(minutes=6),
        }
        await store.commit(started(minute=1), attrs.evolve(waits("report", 6), reason=Reason.OVERLAP))
        assert await store.waiting() == {"backup": NOON, "report": NOON + timedelta(minutes=5)}
