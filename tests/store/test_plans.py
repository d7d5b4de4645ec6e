"""However much the ledger holds, what is asked of it is found by index: a look through all runs would take seconds."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from saltpeter.domain.outcome import LOST, MAINTENANCE
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Tally
from saltpeter.store import bars, fleet, forgetting, glances, history, summaries, why
from saltpeter.store.sqlite import open_store
from tests.endpoints.scene import FINE
from tests.endpoints.test_queries import story
from tests.store.test_bars import HOUR, missed, name, ran
from tests.store.test_sqlite import NOON

GROWING = ("runs", "executions", "launches", "kills", "passed")  # the tables with a row for each thing that happens
OF_FEW = ("runs_open", "passed_that_waited")  # indexes that hold only what has not ended, and the slots that waited


class Explaining(sqlite3.Connection):
    """A connection that notes, of each query, by which steps SQLite finds its answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.steps: list[tuple[str, str]] = []  # the query, and a step of its plan

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        for *_, step in super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
            self.steps.append((sql, step))
        return super().execute(sql, parameters)

    def scans(self) -> Iterator[tuple[str, str]]:
        """The steps that look through a growing table, or through an index of one."""
        for query, step in self.steps:
            found = re.match(r"SCAN (?:TABLE )?(\w+)", step)
            if found is not None and found[1] in GROWING and not step.endswith(OF_FEW):
                yield query, step


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    async with open_store(tmp_path) as store:
        await store.commit(*ran("backup", NOON, HOUR), *ran("backup", NOON + HOUR, None), missed("backup", NOON, NOON))
        return store.places.ledger


RUN = name("backup", NOON)
SPAN = (NOON - timedelta(days=1), NOON + timedelta(days=1))

QUESTIONS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "unfinished": history.unfinished,
    "last_runs": history.last_runs,
    "last_slots": history.last_slots,
    "waiting": history.waiting,
    "run": lambda c: history.find_run(c, RUN),
    "runs": lambda c: history.runs(c, None, None, None, 100),
    "runs since": lambda c: history.runs(c, None, *SPAN, 100),
    "runs that failed": lambda c: history.runs(c, None, None, None, 100, failed=True),
    "runs that succeeded": lambda c: history.runs(c, None, None, None, 100, failed=False),
    "runs of a job": lambda c: history.runs(c, "backup", None, None, 100),
    "runs of a job since": lambda c: history.runs(c, "backup", *SPAN, 100),
    "runs of a job that failed": lambda c: history.runs(c, "backup", None, None, 100, failed=True),
    "attempts": lambda c: history.attempts(c, RUN),
    "launches": lambda c: history.launches(c, RUN),
    "passed": lambda c: history.passed(c, "backup", 20),
    "day": lambda c: history.day_of(c, RUN),
    "tallies": lambda c: summaries.tallies(c, [RUN]),
    "stretches": lambda c: summaries.stretches(c, *SPAN, 100),
    "latest": lambda c: glances.latest(c, ["backup"], 20),
    "matrix": lambda c: glances.matrix(c, [RUN], 200),
    "active": lambda c: bars.active(c, *SPAN),
    "bars": lambda c: bars.bars(c, ["backup"], *SPAN, HOUR),
    "machines": lambda c: fleet.machines(c, NOON),
    "done on": lambda c: fleet.done_on(c, "db01"),
    "why": lambda c: why.answer(c, "backup", NOON + HOUR / 2),
    "downtime": lambda c: why.downtime(c, NOON),
    "what is to be forgotten": lambda c: forgetting.doomed(c, forgetting.Cut(0)),
    "what is to be forgotten of a job": lambda c: forgetting.doomed(c, forgetting.Cut(0, job=1)),
    "days of living runs": forgetting.living_days,
}


async def test_the_machines_of_a_run_that_has_ended_are_not_counted_again(ledger: Path, tmp_path: Path) -> None:
    """There may be thousands in each of a hundred runs that are listed."""
    async with open_store(tmp_path) as store:
        run, events = story(NOON + 2 * HOUR, Verdict.FAILED, m1=FINE, m2=LOST, m3=MAINTENANCE)
        await store.commit(*events[:-1])
        assert await store.tallies([run, RUN]) == {run: Tally(3, 1)}
        assert "executions" in looked_at(ledger, run)
        await store.commit(events[-1])
        assert await store.tallies([run, RUN]) == {run: Tally(3, 1)}
        assert "executions" not in looked_at(ledger, run)


def looked_at(ledger: Path, run: str) -> set[str]:
    """The tables that a tally is found in."""
    with closing(sqlite3.connect(ledger, factory=Explaining, isolation_level=None)) as connection:
        summaries.tallies(connection, [run])
        return {word for _, step in connection.steps for word in step.split()}


BY_INDEX = {
    "runs": "runs_by_start",
    "runs since": "runs_by_start",
    "runs that failed": "failures",
    "runs of a job": "runs_of_job",
    "runs of a job since": "runs_of_job",
    "runs of a job that failed": "failures_of_job",
    "latest": "runs_of_job",
    "waiting": "passed_that_waited",
}


def asked(ledger: Path, question: str) -> Explaining:
    with closing(sqlite3.connect(ledger, factory=Explaining, isolation_level=None)) as connection:
        QUESTIONS[question](connection)
        return connection


@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_answer_is_found_by_index(ledger: Path, question: str) -> None:
    connection = asked(ledger, question)
    assert connection.steps
    assert not list(connection.scans())


@pytest.mark.parametrize("question", BY_INDEX)
async def test_it_is_the_index_that_holds_nothing_else(ledger: Path, question: str) -> None:
    assert any(BY_INDEX[question] in step.split() for _, step in asked(ledger, question).steps)
