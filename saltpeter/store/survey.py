"""A look at the store's files, whether a daemon runs or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import attrs

from saltpeter.errors import StoreError
from saltpeter.store.checkup import damage
from saltpeter.store.codec import from_us
from saltpeter.store.places import Partition, Places, size_of
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


def _last_seen(ledger: sqlite3.Connection) -> int | None:
    try:
        [seen_us] = ledger.execute("SELECT max(seen_us) FROM lives").fetchone()
    except sqlite3.OperationalError:  # a ledger of an early day, which no newer daemon has opened yet
        return None
    return None if seen_us is None else int(seen_us)
