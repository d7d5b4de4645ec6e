"""Copies of the store, and a look at its files, whether a daemon runs or not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import attrs

from saltpeter.errors import StoreError
from saltpeter.store.checkup import damage
from saltpeter.store.codec import from_us
from saltpeter.store.places import Partition, Places, size_of, sync
from saltpeter.store.schema import connect_for_reading, pragma

_CHECK_S = 60.0  # for each file


@attrs.frozen(kw_only=True)
class Survey:
    """What the files tell. Sizes in bytes; `damaged` says what is wrong, by file."""

    statedir: Path
    in_use: bool
    schema: int
    runs: int
    unfinished: int
    oldest: datetime | None  # start of the oldest run
    last_seen: datetime | None  # sign of a daemon
    ledger_size: int
    partitions: tuple[Partition, ...]
    free: int
    set_aside: tuple[Path, ...]
    damaged: dict[Path, str]


def back_up(places: Places, target: Path, progress: Callable[[Path], None]) -> int:
    """Copy the store to the new directory `target`; returns the bytes. `progress` is told of each file.

    Each file is copied as of one instant, the ledger first: what it says was written is there. Nobody who writes
    meanwhile has to wait. `target` is there when all of it is, and can be put in place of a state directory.
    Raises StoreError.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        if target.exists():
            raise StoreError(f"{target} exists already")
        if not places.ledger.exists():
            raise StoreError(f"{places.statedir} holds no ledger")
        partial.mkdir(mode=0o700)  # the ledger holds tokens, and nobody knows what the output holds
        size = 0
        for path in (places.ledger, *(partition.path for partition in places.partitions())):
            progress(path)
            size += _copy(path, partial / path.relative_to(places.statedir))
        for path in places.others():
            progress(path)
            shutil.copy2(path, partial / path.name)
        partial.rename(target)
        sync(target.parent)
    except FileExistsError as error:
        raise StoreError(f"{partial} is there from a backup that was not finished, or still runs") from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the backup failed: {error}; what there is of it is in {partial}") from error
    return size


def survey(places: Places) -> Survey:
    """Look at everything. Raises StoreError where there is no ledger that can be read."""
    try:
        with closing(connect_for_reading(places.ledger)) as ledger:
            ledger.execute("BEGIN")
            [runs, unfinished, oldest_us] = ledger.execute(
                "SELECT count(*), count(*) - count(ended_us), min(started_us) FROM runs"
            ).fetchone()
            schema = pragma(ledger, "user_version")
            seen_us = _last_seen(ledger)
        partitions = places.partitions()
        found = {path: damage(path, _CHECK_S) for path in (places.ledger, *(each.path for each in partitions))}
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{places.ledger}: {error}") from error
    return Survey(
        statedir=places.statedir,
        in_use=places.in_use(),
        schema=schema,
        runs=runs,
        unfinished=unfinished,
        oldest=from_us(oldest_us),
        last_seen=from_us(seen_us),
        ledger_size=size_of(places.ledger),
        partitions=tuple(partitions),
        free=places.free(),
        set_aside=tuple(places.set_aside()),
        damaged={path: said for path, said in found.items() if said},
    )


def _copy(source: Path, target: Path) -> int:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.touch(mode=0o600)
    try:
        with closing(connect_for_reading(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)  # all at once, which is one reading of one state
    except sqlite3.OperationalError:
        if not source.exists():  # forgotten since the directory was read
            target.unlink()
            return 0
        raise
    with target.open("rb") as file:
        os.fsync(file.fileno())
    sync(target.parent)
    return size_of(target)


def _last_seen(ledger: sqlite3.Connection) -> int | None:
    try:
        [seen_us] = ledger.execute("SELECT max(seen_us) FROM lives").fetchone()
    except sqlite3.OperationalError:  # a ledger of an early day, which no newer daemon has opened yet
        return None
    return None if seen_us is None else int(seen_us)
