"""Forgets what the operator does not want to keep, in small steps between which others write.

Output goes by whole days, whose files are removed. Only where a day has to be kept for something else on it is
anything deleted from a file.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import accumulate
from pathlib import Path

import attrs
import trio

from saltpeter.domain.job import Retention as Policy
from saltpeter.errors import StoreError
from saltpeter.logs import fields
from saltpeter.store import forgetting, output, streams
from saltpeter.store.codec import day
from saltpeter.store.forgetting import Cuts, Doomed
from saltpeter.store.places import Partition, Places
from saltpeter.store.schema import connect_for_reading, give_back
from saltpeter.store.sqlite import SqliteStore
from saltpeter.store.writer import Writer

log = logging.getLogger(__name__)

LOOK_EVERY_S = 600.0
PAUSE_S = 0.05  # between two steps
_MAX_BYTES = 16 * 1024**2  # of output deleted in one step
_MAX_RUNS = 200  # whose output is deleted in one step
_PAGES = 2000  # given back to the file system in one step


@attrs.frozen(kw_only=True)
class Pruned:
    """What was forgotten, or would be. `bytes` are those of the output."""

    runs: int = 0
    passed: int = 0
    days: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.passed} notes of slots that did not run, {self.days} whole days of output;"
            f" {self.bytes} bytes of output in all"
        )


@attrs.frozen(kw_only=True)
class Plan:
    """What is to go: whole days, runs, and `excess` bytes of the output that is left."""

    cuts: Cuts
    drop: tuple[Partition, ...]
    keep: tuple[Partition, ...]  # oldest first
    excess: int


def choose(
    partitions: Sequence[Partition], *, oldest_day: str, budget: float, needed: Collection[str]
) -> tuple[Partition, ...]:
    """Which of the days, oldest first, go whole: those before `oldest_day`, and then so many that the others fit
    into `budget` bytes. A day that is `needed` stays."""
    may_go = [partition for partition in partitions if partition.day not in needed]
    old = [partition for partition in may_go if partition.day < oldest_day]
    young = may_go[len(old) :]
    excess = _size(partitions) - _size(old) - budget
    freed_before = accumulate((partition.size for partition in young), initial=0)
    large = [partition for partition, freed in zip(young, freed_before, strict=False) if freed < excess]
    return (*old, *large)


def _used(partition: Partition) -> int:
    with closing(connect_for_reading(partition.path)) as connection:
        return forgetting.used(connection)


def _size(partitions: Iterable[Partition]) -> int:
    return sum(partition.size for partition in partitions)


def look(places: Places, policy: Policy, at: datetime) -> tuple[Plan, Pruned]:
    """What `policy` asks for at `at`, and what that would cost. Only reads. Raises sqlite3.Error and OSError."""
    with closing(connect_for_reading(places.ledger)) as connection:
        connection.execute("BEGIN")
        found = forgetting.cuts(connection, policy, at)
        runs, passed = forgetting.count(connection, found)
        needed = forgetting.living_days(connection) | {day(at)}
        used = forgetting.used(connection)
    budget = float("inf") if policy.bytes is None else policy.bytes - min(used, policy.bytes // 2)
    oldest = forgetting.first_day(policy, at)
    partitions = places.partitions()
    drop = choose(partitions, oldest_day="" if oldest is None else day(oldest), budget=budget, needed=needed)
    keep = tuple(partition for partition in partitions if partition not in drop)
    excess = 0
    if _size(keep) > budget:  # a file is still large where its journal knows already what was deleted
        excess = max(0, int(sum(_used(partition) for partition in keep) - budget))
    size = _size(drop) + excess
    return (
        Plan(cuts=found, drop=drop, keep=keep, excess=excess),
        Pruned(runs=runs, passed=passed, days=len(drop), bytes=size),
    )


@attrs.define(eq=False)
class Retention:
    """Keeps to the `policy` of the moment. `now` is the wall clock."""

    policy: Callable[[], Policy]
    store: SqliteStore
    now: Callable[[], datetime]
    _stirred: trio.Event = attrs.field(factory=trio.Event, init=False)

    def stir(self) -> None:
        """Look now, not some minutes later."""
        self._stirred.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service: look every LOOK_EVERY_S seconds, until cancelled."""
        task_status.started()
        while True:
            self._stirred = trio.Event()
            try:
                await self.prune()
            except StoreError as error:
                text = str(error)
                log.warning("Cannot forget what is old: %s", text, extra=fields("store.prune_failed", error=text))
            with trio.move_on_after(LOOK_EVERY_S):
                await self._stirred.wait()

    async def prune(self) -> Pruned:
        """Forget what is to be forgotten now; returns what that was. Raises StoreError when it cannot."""
        try:
            with self.store.places.forgetting() as may_forget:
                if not may_forget:
                    raise StoreError("a backup is being made, and nothing is forgotten meanwhile")
                return await self._prune(self.policy(), self.now())
        except OSError as error:
            raise StoreError(f"{self.store.places.statedir}: {error}") from error

    async def _prune(self, policy: Policy, at: datetime) -> Pruned:
        try:
            plan, _ = await trio.to_thread.run_sync(look, self.store.places, policy, at)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.store.places.ledger}: {error}") from error
        for partition in plan.drop:
            await self.store.remove_output(partition.day)
        runs = await self._forget_runs(plan)
        passed = await self._forget_passed(plan, forgetting.first_day(policy, at))
        freed = _size(plan.drop) + await self._thin(plan)
        done = Pruned(runs=runs, passed=passed, days=len(plan.drop), bytes=freed)
        if done != Pruned():
            log.info("Forgotten: %s", done, extra=fields("store.pruned", **attrs.asdict(done)))
        return done

    async def _forget_runs(self, plan: Plan) -> int:
        """Forget runs; of days that are kept for others, their output too."""
        kept = {partition.day: partition for partition in plan.keep}
        forgotten: list[Doomed] = []
        for cut in plan.cuts.runs:
            while runs := await self.store.readers.read(self.store.places.ledger, partial(forgetting.doomed, cut=cut)):
                await self.store.forget(runs, kept.keys())
                forgotten += runs
                await trio.sleep(PAUSE_S)
        for touched in {each.day for each in forgotten} & kept.keys():
            await self._shrink(self.store.output_writer, kept[touched].path)
        return len(forgotten)

    async def _forget_passed(self, plan: Plan, oldest: datetime | None) -> int:
        writer, path = self.store.ledger_writer, self.store.places.ledger
        forgotten = 0
        for cut in plan.cuts.passed:
            while gone := await writer.submit(path, partial(forgetting.forget_passed, cut=cut)):
                forgotten += gone
                await trio.sleep(PAUSE_S)
        if oldest is not None:
            await writer.submit(path, partial(forgetting.forget_lives, before=oldest))
            await writer.submit(path, partial(forgetting.forget_machines, before=oldest))
        await self._shrink(writer, path)
        return forgotten

    async def _thin(self, plan: Plan) -> int:
        """Where whole days are not enough, delete the output of the oldest runs that have ended; returns its bytes."""
        living = {run.id for run in await self.store.unfinished()} if plan.excess else set()
        freed = 0
        for partition in plan.keep:
            while freed < plan.excess and (batch := await self._oldest(partition, living, plan.excess - freed)):
                runs = [run for run, _ in batch]
                await self.store.output_writer.submit(partition.path, partial(streams.forget, runs=runs), frees=True)
                await self._shrink(self.store.output_writer, partition.path)
                freed += sum(size for _, size in batch)
        return freed

    async def _oldest(self, partition: Partition, living: Collection[str], wanted: int) -> list[tuple[str, int]]:
        """The runs whose output is to go next, with its bytes: about as many as are `wanted`, or as one step takes."""
        limit = _MAX_RUNS + len(living)
        found = await self.store.readers.read(partition.path, partial(output.oldest, limit=limit))
        ended = [(run, size) for run, size in found if run not in living][:_MAX_RUNS]
        before = accumulate((size for _, size in ended), initial=0)
        return [each for each, sum_before in zip(ended, before, strict=False) if sum_before < min(wanted, _MAX_BYTES)]

    async def _shrink(self, writer: Writer, path: Path) -> None:
        """Give back to the file system what nothing is in any more."""
        left, before = 1, 0
        while left and left != before:  # a file of an early day does not shrink, but its room is used again
            left, before = await writer.submit(path, partial(give_back, pages=_PAGES), frees=True), left
            await trio.sleep(PAUSE_S)
