"""Facts as rows for a view whose triggers are the ledger's rules: a few statements write any number, one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from saltpeter.store import bulk


class Fact(NamedTuple):
    """What happened to a run ("" for none) or, where `machine` is given too, to an execution, to each of several alike;
    the rest is as its kind has it, `more` a JSON object where it is several things.
    """

    kind: str
    run: str
    at_us: int
    machine: str | tuple[str, ...] | None = None
    attempt: int | None = None
    number: int | None = None
    text: str | None = None
    more: str | None = None
    job: str | None = None


# For rules: the row of `executions` that the fact is about.
OF_EXECUTION = "run = (SELECT key FROM runs WHERE run = new.run) AND machine = new.machine AND attempt = new.attempt"
_IS_THERE = "SELECT 1 FROM temp.sqlite_master WHERE name = 'facts'"


def write(connection: sqlite3.Connection, facts: Sequence[Fact], rules: Mapping[str, str]) -> None:
    """Write `facts` by `rules`: statements for each kind, in which `new` is the fact."""
    if connection.execute(_IS_THERE).fetchone() is None:
        _introduce(connection, rules)
    bulk.insert(connection, "facts", list(_rows(facts)))


def _rows(facts: Iterable[Fact]) -> Iterator[tuple[bulk.Value, ...]]:
    for kind, run, at_us, machine, *rest in facts:
        for each in machine if isinstance(machine, tuple) else (machine,):
            yield (kind, run, at_us, each, *rest)


def _introduce(connection: sqlite3.Connection, rules: Mapping[str, str]) -> None:
    """Temporary, so that the file knows nothing of it and each saltpeter brings its own."""
    columns = ", ".join(f"NULL AS {name}" for name in Fact._fields)
    connection.execute(f"CREATE TEMP VIEW facts AS SELECT {columns}")
    for kind, rule in rules.items():
        connection.execute(
            f"CREATE TEMP TRIGGER {kind} INSTEAD OF INSERT ON facts WHEN new.kind = '{kind}' BEGIN {rule} END"
        )
