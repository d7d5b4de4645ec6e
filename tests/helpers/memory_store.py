"""A store without a disk, for virtual time: a thread that writes a file is invisible to the virtual clock.

`tests/store/test_store_contract.py` keeps it true to the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs
import trio

from saltpeter.domain.events import (
    Awaited,
    ExecutionId,
    LedgerEvent,
    Reason,
    Retrying,
    RunStarted,
    SlotPassed,
    Targeted,
)
from saltpeter.domain.job import Config, Hold, Settings
from saltpeter.domain.state import ExecutionState, RunState, State, apply
from saltpeter.engine.storage import Piece
from saltpeter.errors import RunTaken, SlotTaken, StoreError

NO_CONFIG = Config(jobs={}, settings=Settings(statedir="", logdir=""))


@attrs.define
class _Replay:
    """All runs and executions that the events tell of, in the states that they ended up in."""

    state: State
    runs: dict[str, RunState] = attrs.field(factory=dict)
    executions: dict[ExecutionId, ExecutionState] = attrs.field(factory=dict)

    def apply(self, event: LedgerEvent) -> None:
        apply(self.state, event)
        self.runs.update(self.state.runs)
        if isinstance(event, (Targeted, Retrying)):
            run = self.runs[event.run if isinstance(event, Targeted) else event.execution.run]
            self.executions.update({known.id: known for known in run.executions.values()})


@attrs.define
class MemoryStore:
    """Implements `saltpeter.engine.storage.Store`, and of `History` what the engine asks for.

    `broken` is the text of the error that every write meets.
    """

    commit_s: float = 0.0
    broken: str = ""
    events: list[LedgerEvent] = attrs.field(factory=list)
    output: dict[ExecutionId, list[Piece]] = attrs.field(factory=dict)
    logs: dict[ExecutionId, list[str]] = attrs.field(factory=dict)
    _lengths: dict[ExecutionId, int] = attrs.field(factory=dict, init=False)
    _runs: set[str] = attrs.field(factory=set, init=False)
    _slots: set[tuple[str, datetime | None]] = attrs.field(factory=set, init=False)

    async def commit(self, *events: LedgerEvent) -> None:
        with trio.CancelScope(shield=True):
            await self._write()
        for event in events:
            if isinstance(event, RunStarted):
                self._refuse_twins(event)
        self.events.extend(events)

    def _refuse_twins(self, event: RunStarted) -> None:
        if event.slot is not None and (event.job, event.slot) in self._slots:
            raise SlotTaken(f"{event.job} has a run for {event.slot}")
        if event.run in self._runs:
            raise RunTaken(f"there is a run {event.run}")
        self._runs.add(event.run)
        self._slots.add((event.job, event.slot))

    async def append(
        self, execution: ExecutionId, offset: int, *data: bytes, cut: int = 0, limit: int | None = None
    ) -> int:
        await self._write()  # of what fits into a test, everything is kept
        gap = offset - await self.length(execution)
        if gap > 0:
            if gap != cut:
                raise StoreError(f"{gap} bytes are missing before {offset}")
            self._add_line(execution, f"[SALTPETER: {gap} bytes of output were cut here]")
            self._lengths[execution] = offset
        whole = b"".join(data)
        if fresh := whole[max(0, -gap) :]:
            self._add(execution, fresh, system=False)
            self._lengths[execution] = offset + len(whole)
        return await self.length(execution)

    async def note(self, execution: ExecutionId, text: str, *, limit: int | None = None) -> None:
        await self._write()
        self._add_line(execution, text)

    async def log(
        self, execution: ExecutionId, at: datetime, level: str, text: str, *, limit: int | None = None
    ) -> None:
        await self._write()
        self.logs.setdefault(execution, []).append(text)

    async def length(self, execution: ExecutionId) -> int:
        return self._lengths.get(execution, 0)

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        return self.output.get(execution, [])[first : first + limit]

    async def unfinished(self) -> Sequence[RunState]:
        return list(self._replayed().state.runs.values())

    async def last_runs(self) -> Sequence[RunState]:
        return list(self._replayed().state.last.values())

    async def holds(self) -> Sequence[Hold]:
        return list(self._replayed().state.holds.values())

    async def last_slots(self) -> dict[str, datetime]:
        slots: dict[str, datetime] = {}
        for event in self.events:
            if isinstance(event, (RunStarted, SlotPassed)) and event.slot is not None:
                newest = event.slot if isinstance(event, RunStarted) else event.last or event.slot
                slots[event.job] = max(newest, slots.get(event.job, newest))
            elif isinstance(event, Awaited):
                slots[event.job] = max(event.at, slots.get(event.job, event.at))
        return slots

    async def waiting(self) -> dict[str, datetime]:
        newest: dict[str, datetime] = {}
        for event in self.events:
            if isinstance(event, SlotPassed) and event.reason is Reason.WAITING and not self._settled(event):
                newest[event.job] = max(event.slot, newest.get(event.job, event.slot))
        return newest

    def _settled(self, waits: SlotPassed) -> bool:
        """Is more known of a slot than that it waits?"""
        passed = [event for event in self.events if isinstance(event, SlotPassed) and event.job == waits.job]
        passed = [event for event in passed if event.reason is not Reason.WAITING]
        ran = (waits.job, waits.slot) in self._slots
        return ran or any(event.slot <= waits.slot <= (event.last or event.slot) for event in passed)

    async def run(self, run: str) -> RunState | None:
        return self._replayed().runs.get(run)

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        return [known for known in self._replayed().executions.values() if known.id.run == run]

    def text(self, execution: ExecutionId) -> str:
        """The output as people see it."""
        return b"".join(piece.data for piece in self.output.get(execution, [])).decode(errors="replace")

    def _replayed(self) -> _Replay:
        replay = _Replay(State(NO_CONFIG))
        for event in self.events:
            replay.apply(event)
        return replay

    def _add(self, execution: ExecutionId, data: bytes, *, system: bool) -> None:
        pieces = self.output.setdefault(execution, [])
        pieces.append(Piece(len(pieces), data, system))

    def _add_line(self, execution: ExecutionId, text: str) -> None:
        before = self.output.get(execution, [])
        begun = b"\n" if before and not before[-1].data.endswith(b"\n") else b""
        self._add(execution, begun + f"{text}\n".encode(), system=True)

    async def _write(self) -> None:
        await trio.sleep(self.commit_s)
        if self.broken:
            raise StoreError(self.broken)
