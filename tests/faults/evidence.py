"""What is known afterwards: what the machines did, by their own journal, and what the daemon recorded."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.engine.storage import Passed
from saltpeter.store import history, output
from saltpeter.store.places import Places
from saltpeter.store.schema import connect_for_reading

EVERYTHING = 1_000_000


@attrs.define
class Journal:
    """What the commands noted."""

    starts: Counter[ExecutionId] = attrs.field(factory=Counter)
    ends: dict[ExecutionId, int] = attrs.field(factory=dict)  # their exit codes


@attrs.define
class Ledger:
    """What the daemon recorded."""

    runs: dict[str, RunState] = attrs.field(factory=dict)  # with their kills
    attempts: dict[ExecutionId, ExecutionState] = attrs.field(factory=dict)
    passed: dict[str, Sequence[Passed]] = attrs.field(factory=dict)  # by job
    output: dict[ExecutionId, bytes] = attrs.field(factory=dict)  # the command's, without what saltpeter added


def read_journal(path: Path) -> Journal:
    """The journal at `path`; none was begun when no command has run."""
    journal = Journal()
    for line in path.read_text().splitlines() if path.exists() else []:
        run, machine, attempt, what, *code = line.split()
        execution = ExecutionId(run, machine, int(attempt))
        if what == "start":
            journal.starts[execution] += 1
        else:
            journal.ends[execution] = int(*code)
    return journal


def read_ledger(places: Places, jobs: Iterable[str]) -> Ledger:
    with closing(connect_for_reading(places.ledger)) as connection:
        runs = {run.id: run for run in history.runs(connection, None, None, None, EVERYTHING)}
        for run in runs.values():
            found = history.find_run(connection, run.id)
            run.kills = () if found is None else found.kills
        attempts = {each.id: each for run in runs for each in history.attempts(connection, run)}
        passed: dict[str, Sequence[Passed]] = {job: history.passed(connection, job, EVERYTHING) for job in jobs}
    return Ledger(runs, attempts, passed, _read_output(places, attempts))


def _read_output(places: Places, attempts: Mapping[ExecutionId, object]) -> dict[ExecutionId, bytes]:
    found = dict.fromkeys(attempts, b"")
    for partition in places.partitions():
        with closing(connect_for_reading(partition.path)) as connection:
            for execution in attempts:
                found[execution] += _output_of(connection, execution)
    return found


def _output_of(connection: sqlite3.Connection, execution: ExecutionId) -> bytes:
    data, first = b"", 0
    while pieces := output.pieces(connection, execution, first, 256):
        data += b"".join(piece.data for piece in pieces if not piece.system)
        first = pieces[-1].index + 1
    return data
