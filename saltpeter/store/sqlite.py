"""The store on SQLite: `ledger.sqlite` for runs, and one file of output for each day of runs."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from saltpeter.domain.events import ExecutionId, Launched, LedgerEvent, RunStarted
from saltpeter.domain.job import Hold
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.engine.clock import now
from saltpeter.engine.storage import (
    Active,
    Alike,
    Answer,
    Bars,
    Done,
    LogLine,
    MachineRecord,
    Matrix,
    Passed,
    Piece,
    StoreHealth,
    Stretch,
    Tally,
)
from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store import (
    alike,
    bars,
    codec,
    fleet,
    forgetting,
    glances,
    history,
    lives,
    output,
    rules,
    streams,
    summaries,
    why,
)
from saltpeter.store.checkup import make_sure_of
from saltpeter.store.forgetting import Doomed
from saltpeter.store.ledger import facts_of
from saltpeter.store.places import Places, size_of
from saltpeter.store.process import writing
from saltpeter.store.readers import Readers
from saltpeter.store.schema import LARGE_PAGE, LEDGER, OUTPUT
from saltpeter.store.scribe import Family, Work
from saltpeter.store.streams import Addition, Note, Remark, Word
from saltpeter.store.writer import Writer

LEAVE_FREE = 64 * 1024**2  # bytes of the disk that are for the ledger only
PATIENCE_S = 60.0  # for the ledger to begin writing something; what has begun is waited for
log = logging.getLogger(__name__)

_MAX_DAYS = 20_000  # runs whose day is remembered

T = TypeVar("T")


def _nobody(_problem: str | None) -> None:
    pass


@asynccontextmanager
async def open_store(
    statedir: Path,
    version: str = "",
    now: Callable[[], datetime] = now,
    fares: Callable[[str | None], None] = _nobody,
    logdir: Path | None = None,
) -> AsyncIterator[SqliteStore]:
    """The store in `statedir`, which is made if need be. At the end, what is waiting is written.

    What becomes durable is copied into the text logs in `logdir`, if that is given.

    A damaged file is replaced by a new one. `version` is this saltpeter's. `fares` is told what keeps the store from
    writing when something begins to, and None when nothing does any more. Raises StoreError when the directory
    cannot be used, another process has it open, or a newer saltpeter has written it.
    """
    places = Places(statedir)
    families = (
        Family(LEDGER, version),
        Family(OUTPUT, version, leave_free=LEAVE_FREE, replaceable=True, page_bytes=LARGE_PAGE),
    )
    async with (
        _occupied(places, now, version) as lock,
        writing(families, logdir, holding=lock) as (ledger_lane, output_lane),
    ):
        store = SqliteStore(
            places,
            ledger_writer=Writer(ledger_lane, patience_s=PATIENCE_S, now=now),
            output_writer=Writer(output_lane, now=now),
        )
        store.ledger_writer.fares = store.output_writer.fares = lambda: fares(store.problem())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.ledger_writer.run, name="write the ledger")
            nursery.start_soon(store.output_writer.run, name="write output")
            try:
                yield store
            finally:
                store.readers.close()  # first, so that the writers' connections are the last and tidy up
                store.ledger_writer.close()
                store.output_writer.close()


@asynccontextmanager
async def _occupied(places: Places, now: Callable[[], datetime], version: str) -> AsyncIterator[int]:
    with ExitStack() as held:
        yield await trio.to_thread.run_sync(_occupy, held, places, now(), version)


def _occupy(held: ExitStack, places: Places, at: datetime, version: str) -> int:
    """Make sure of the directory, of being alone in it, and of a usable ledger. Returns the lock of who writes."""
    try:
        lock = held.enter_context(places.occupied())
        _warn_if_open(places)
        make_sure_of(places, at, version)
    except (OSError, sqlite3.Error) as exc:
        raise StoreError(f"{places.statedir} cannot be used: {exc}") from exc
    return lock


def _warn_if_open(places: Places) -> None:
    """It is not closed here: where a setting is wrong, the directory may be anybody's."""
    if not (open_bits := places.openness()):
        return
    who, where = "change" if open_bits & 0o022 else "look into", places.statedir
    text = "%s: others on this host may %s the state directory; `chmod 700 %s` keeps them out"
    log.warning(text, where, who, where, extra=fields("store.open", path=str(where)))


@attrs.define
class SqliteStore:
    """See `saltpeter.engine.storage` for what the methods promise. Output and ledger are written side by side, so that
    no launch waits for a flood of output."""

    places: Places
    ledger_writer: Writer
    output_writer: Writer
    readers: Readers = attrs.field(factory=Readers, init=False)
    _days: dict[str, str] = attrs.field(factory=dict, init=False)  # run -> day of its start
    _life: int | None = attrs.field(default=None, init=False)  # in the ledger, from the first `seen` on

    # --- writing ---------------------------------------------------------------------------------

    async def commit(self, *events: LedgerEvent) -> None:
        await self.ledger_writer.contribute(self.places.ledger, rules.record_all, facts_of(events), insists=True)
        for event in events:
            if isinstance(event, RunStarted):
                self._remember_day(event.run, codec.day(event.at))

    async def seen(self, at: datetime, *, ending: bool = False) -> None:
        """The daemon lives at `at`, and stops then if it is `ending`.

        From the first time on, whatever is written to the ledger shows that it lives.
        """
        see = partial(lives.see, life=self._life, at=at, ending=ending)
        self._life = await self.ledger_writer.submit(self.places.ledger, see)
        self.ledger_writer.seal = partial(lives.mark, life=self._life)

    async def remove_output(self, day: str) -> None:
        """Forget all output of the runs of that day."""
        await self.output_writer.remove(self.places.output(day))
        self.readers.let_go()

    async def forget(self, runs: Sequence[Doomed], days: Collection[str]) -> None:
        """Forget `runs`, and what they wrote on any of `days`, which have output."""
        for day in {each.day for each in runs} & set(days):
            names = [each.run for each in runs if each.day == day]
            work = partial(streams.forget, runs=names)
            await self.output_writer.submit(self.places.output(day), work, frees=True)
        await self.ledger_writer.submit(self.places.ledger, partial(forgetting.forget, runs=runs))
        for each in runs:
            self._days.pop(each.run, None)

    async def append(
        self, execution: ExecutionId, offset: int, *data: bytes, cut: int = 0, limit: int | None = None
    ) -> int:
        addition = Addition(output.name_of(execution), offset, data, cut, limit)
        return await self._write_output(addition, addition.size)

    async def note(self, execution: ExecutionId, text: str, *, limit: int | None = None) -> None:
        await self._write_output(Note(output.name_of(execution), text, limit))

    async def log(
        self, execution: ExecutionId, at: datetime, level: str, text: str, *, limit: int | None = None
    ) -> None:
        await self._write_output(Remark(output.name_of(execution), codec.to_us(at), level, text, limit))

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

    async def waiting(self) -> dict[str, datetime]:
        return await self._read_ledger(history.waiting)

    # --- what people ask --------------------------------------------------------------------------

    async def run(self, run: str) -> RunState | None:
        found = await self._read_ledger(lambda connection: history.find_run(connection, run))
        return found and (await self._with_lengths([found]))[0]

    async def runs(
        self,
        job: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        failed: bool | None = None,
        *,
        among: Collection[str] | None = None,
    ) -> Sequence[RunState]:
        return await self._read_ledger(
            lambda connection: history.runs(connection, job, since, until, limit, failed=failed, among=among)
        )

    async def tallies(self, runs: Sequence[str]) -> Mapping[str, Tally]:
        return await self._read_ledger(lambda connection: summaries.tallies(connection, runs))

    async def stretches(
        self, since: datetime, until: datetime, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Stretch]:
        return await self._read_ledger(lambda connection: summaries.stretches(connection, since, until, limit, among))

    async def latest(self, jobs: Sequence[str], count: int) -> Mapping[str, Sequence[RunState]]:
        return await self._read_ledger(lambda connection: glances.latest(connection, jobs, count))

    async def matrix(self, runs: Sequence[str], machines: int) -> Matrix:
        return await self._read_ledger(lambda connection: glances.matrix(connection, runs, machines))

    async def alike(self, executions: Collection[ExecutionId]) -> Sequence[Alike]:
        anyone = next(iter(executions), ExecutionId("", ""))
        return await self._read_output(anyone, lambda connection: alike.alike(connection, executions), [])

    async def active(self, since: datetime, until: datetime) -> Mapping[str, Active]:
        return await self._read_ledger(lambda connection: bars.active(connection, since, until))

    async def bars(self, jobs: Sequence[str], since: datetime, until: datetime, grain: timedelta) -> Bars:
        return await self._read_ledger(lambda connection: bars.bars(connection, jobs, since, until, grain))

    async def machines(
        self, since: datetime | None = None, among: Collection[str] | None = None
    ) -> Sequence[MachineRecord]:
        if among is None:
            return await self._read_ledger(lambda connection: fleet.machines(connection, since))
        return await self._read_ledger(lambda connection: fleet.machines_of(connection, since, among))

    async def done_on(self, machine: str, among: Collection[str] | None = None) -> Sequence[Done]:
        if among is None:
            return await self._read_ledger(lambda connection: fleet.done_on(connection, machine))
        return await self._read_ledger(lambda connection: fleet.done_of(connection, machine, among))

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        found = await self._read_ledger(lambda connection: history.attempts(connection, run))
        work = partial(output.lengths, runs=[run])
        lengths: output.Lengths = await self._read_output(ExecutionId(run, ""), work, {})
        output.set_lengths(found, lengths)
        return found

    async def launches(self, run: str) -> Sequence[Launched]:
        return await self._read_ledger(lambda connection: history.launches(connection, run))

    async def passed(self, job: str, limit: int = 100) -> Sequence[Passed]:
        return await self._read_ledger(lambda connection: history.passed(connection, job, limit))

    async def logs(self, execution: ExecutionId) -> Sequence[LogLine]:
        return await self._read_output(execution, lambda connection: output.logs(connection, execution), [])

    async def why(self, job: str, at: datetime) -> Answer:
        found = await self._read_ledger(lambda connection: why.answer(connection, job, at))
        if found.run is not None:
            await self._with_lengths([found.run])
        return found

    def problem(self) -> str | None:
        """What cannot be written, since when and why; None where all can."""
        parts = (("ledger", self.ledger_writer.writing), ("output", self.output_writer.writing))
        failing = [
            f"the {name} cannot be written since {writing.failing_since.isoformat()}: {writing.why}"
            for name, writing in parts
            if writing.failing_since is not None
        ]
        return "; ".join(failing) or None

    async def health(self) -> StoreHealth:
        return await trio.to_thread.run_sync(self._health)

    def _health(self) -> StoreHealth:
        return StoreHealth(
            ledger=self.ledger_writer.writing,
            output=self.output_writer.writing,
            ledger_bytes=size_of(self.places.ledger),
            output_bytes=sum(partition.size for partition in self.places.partitions()),
            free_bytes=self.places.free(),
            set_aside=tuple(str(path) for path in self.places.set_aside()),
        )

    # --- where things are -------------------------------------------------------------------------

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

    async def _write_output(self, word: Word, size: int = 0) -> int:
        day = await self._day(word.stream.run)
        if day is None:
            raise StoreError(f"{word.stream}: the ledger does not know this run")
        written = await self.output_writer.contribute(self.places.output(day), streams.write, word, size)
        return written.length

    async def _read_output(self, execution: ExecutionId, work: Work[T], nothing: T) -> T:
        day = await self._day(execution.run)
        return nothing if day is None else await self._read_day(day, work, nothing)

    async def _read_day(self, day: str, work: Work[T], nothing: T) -> T:
        try:
            return await self.readers.read(self.places.output(day), work)
        except FileNotFoundError:
            return nothing

    async def _read_ledger(self, work: Work[T]) -> T:
        return await self.readers.read(self.places.ledger, work)

    async def _with_lengths(self, runs: Sequence[RunState]) -> Sequence[RunState]:
        by_day: dict[str, list[RunState]] = {}
        for run in runs:
            day = codec.day(run.started_at)
            self._remember_day(run.id, day)
            by_day.setdefault(day, []).append(run)
        for day, of_it in by_day.items():
            lengths: output.Lengths = await self._read_day(
                day, partial(output.lengths, runs=[run.id for run in of_it]), {}
            )
            for run in of_it:
                output.set_lengths(run.executions.values(), lengths)
        return runs
