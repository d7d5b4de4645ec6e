"""The store on SQLite: `ledger.sqlite` for runs, and one file of output for each day of runs."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from saltpeter.domain.job import Hold
from saltpeter.domain.state import (
    ExecutionId,
    ExecutionState,
    Launched,
    LedgerEvent,
    RunStarted,
    RunState,
)
from saltpeter.engine.storage import LogLine, Passed, Piece
from saltpeter.errors import StoreError
from saltpeter.store import history, ledger, output
from saltpeter.store.readers import Readers
from saltpeter.store.schema import LEDGER, OUTPUT, connect
from saltpeter.store.writer import Work, Writer

_LEDGER = "ledger.sqlite"
_OUTPUT = "output"
_MAX_DAYS = 20_000  # runs whose day is remembered

T = TypeVar("T")


@asynccontextmanager
async def open_store(statedir: Path) -> AsyncIterator[SqliteStore]:
    """The store in `statedir`, which is made if need be. At the end, what is waiting is written.

    Raises StoreError when it cannot be used, or another process has it open.
    """
    with await trio.to_thread.run_sync(_occupy, statedir):
        store = SqliteStore(statedir)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.ledger_writer.run, name="write the ledger")
            nursery.start_soon(store.output_writer.run, name="write output")
            try:
                yield store
            finally:
                store.readers.close()  # first, so that the writers' connections are the last and tidy up
                store.ledger_writer.close()
                store.output_writer.close()


def _occupy(statedir: Path) -> ExitStack:
    """Make sure of the directory, of being alone in it, and of a usable ledger; leaving the stack lets go of it."""
    with ExitStack() as stack:
        try:
            (statedir / _OUTPUT).mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((statedir / "store.lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            connect(statedir / _LEDGER, LEDGER).close()
        except BlockingIOError as exc:
            raise StoreError(f"{statedir} is in use by another saltpeter") from exc
        except (OSError, sqlite3.Error) as exc:
            raise StoreError(f"{statedir} cannot be used: {exc}") from exc
        return stack.pop_all()


@attrs.define
class SqliteStore:
    """See `saltpeter.engine.storage` for what the methods promise. Output and ledger are written side by side, so that
    no launch waits for a flood of output."""

    statedir: Path
    ledger_writer: Writer = attrs.field(factory=lambda: Writer(LEDGER), init=False)
    output_writer: Writer = attrs.field(factory=lambda: Writer(OUTPUT), init=False)
    readers: Readers = attrs.field(factory=Readers, init=False)
    _days: dict[str, str] = attrs.field(factory=dict, init=False)  # run -> day of its start

    # --- writing ---------------------------------------------------------------------------------

    async def commit(self, *events: LedgerEvent) -> None:
        await self.ledger_writer.submit(self._ledger_path, lambda connection: ledger.record(connection, events))
        for event in events:
            if isinstance(event, RunStarted):
                self._remember_day(event.run, history.day(event.at))

    async def open_output(self, execution: ExecutionId, limit: int) -> None:
        """Keep only the first and the last half of `limit` bytes of its output. To be called before any output."""
        await self._write_output(execution, lambda connection: output.open_stream(connection, execution, limit))

    async def append(self, execution: ExecutionId, offset: int, data: bytes, cut: int = 0) -> int:
        return await self._write_output(
            execution, lambda connection: output.append(connection, execution, offset, data, cut), len(data)
        )

    async def note(self, execution: ExecutionId, text: str) -> None:
        await self._write_output(execution, lambda connection: output.note(connection, execution, text))

    async def log(self, execution: ExecutionId, at: datetime, level: str, text: str) -> None:
        await self._write_output(execution, lambda connection: output.log(connection, execution, at, level, text))

    # --- what the daemon asks ---------------------------------------------------------------------

    async def length(self, execution: ExecutionId) -> int:
        return await self._read_output(execution, lambda connection: output.length(connection, execution), 0)

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        return await self._read_output(
            execution, lambda connection: output.pieces(connection, execution, first, limit), []
        )

    async def unfinished(self) -> Sequence[RunState]:
        return await self._with_lengths(await self._read_ledger(history.unfinished))

    async def last_runs(self) -> Sequence[RunState]:
        return await self._with_lengths(await self._read_ledger(history.last_runs))

    async def holds(self) -> list[Hold]:
        return await self._read_ledger(history.holds)

    async def last_slots(self) -> dict[str, datetime]:
        return await self._read_ledger(history.last_slots)

    # --- what people ask --------------------------------------------------------------------------

    async def run(self, run: str) -> RunState | None:
        found = await self._read_ledger(lambda connection: history.find_run(connection, run))
        return found and (await self._with_lengths([found]))[0]

    async def runs(
        self, job: str | None = None, since: datetime | None = None, until: datetime | None = None, limit: int = 100
    ) -> Sequence[RunState]:
        return await self._read_ledger(lambda connection: history.runs(connection, job, since, until, limit))

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        found = await self._read_ledger(lambda connection: history.attempts(connection, run))
        lengths = await self._lengths(run)
        for execution in found:
            execution.output_length = lengths.get(execution.id, 0)
        return found

    async def launches(self, run: str) -> Sequence[Launched]:
        return await self._read_ledger(lambda connection: history.launches(connection, run))

    async def passed(self, job: str, limit: int = 100) -> Sequence[Passed]:
        return await self._read_ledger(lambda connection: history.passed(connection, job, limit))

    async def logs(self, execution: ExecutionId) -> Sequence[LogLine]:
        return await self._read_output(execution, lambda connection: output.logs(connection, execution), [])

    # --- where things are -------------------------------------------------------------------------

    @property
    def _ledger_path(self) -> Path:
        return self.statedir / _LEDGER

    def _output_path(self, day: str) -> Path:
        return self.statedir / _OUTPUT / f"output-{day}.sqlite"

    async def _day(self, run: str) -> str | None:
        """The day of the run's start; None for a run that the ledger does not know."""
        if run not in self._days:
            day = await self._read_ledger(lambda connection: history.day_of(connection, run))
            if day is None:
                return None
            self._remember_day(run, day)
        return self._days[run]

    def _remember_day(self, run: str, day: str) -> None:
        self._days[run] = day
        if len(self._days) > _MAX_DAYS:
            del self._days[next(iter(self._days))]

    async def _write_output(self, execution: ExecutionId, work: Work[T], size: int = 0) -> T:
        day = await self._day(execution.run)
        if day is None:
            raise StoreError(f"{execution}: the ledger does not know this run")
        return await self.output_writer.submit(self._output_path(day), work, size)

    async def _read_output(self, execution: ExecutionId, work: Work[T], nothing: T) -> T:
        day = await self._day(execution.run)
        if day is None:
            return nothing
        try:
            return await self.readers.read(self._output_path(day), work)
        except FileNotFoundError:
            return nothing

    async def _read_ledger(self, work: Work[T]) -> T:
        return await self.readers.read(self._ledger_path, work)

    async def _lengths(self, run: str) -> dict[ExecutionId, int]:
        anyone = ExecutionId(run, "")
        return await self._read_output(anyone, lambda connection: output.lengths(connection, run), {})

    async def _with_lengths(self, runs: Sequence[RunState]) -> Sequence[RunState]:
        for run in runs:
            self._remember_day(run.id, history.day(run.started_at))
            lengths = await self._lengths(run.id)
            for execution in run.executions.values():
                execution.output_length = lengths.get(execution.id, 0)
        return runs
