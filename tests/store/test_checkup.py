"""A damaged file is kept under another name and replaced, and whoever reports goes on as if nothing had been."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trio
from exceptiongroup import ExceptionGroup

from saltpeter.domain.events import LedgerEvent, RunEnded, Targeted
from saltpeter.domain.verdict import Verdict
from saltpeter.errors import StoreError
from saltpeter.store import checkup
from saltpeter.store.checkup import damage, limited
from saltpeter.store.places import Places, put_aside
from saltpeter.store.schema import LEDGER, connect
from saltpeter.store.sqlite import open_store
from tests.store.test_sqlite import DB01, NOON, RUN, started

PAGE = 4096


async def fill(statedir: Path, runs: int = 400) -> Places:
    """A ledger of many pages, one run of which has not ended, and a day of output."""
    async with open_store(statedir) as store:
        events: list[LedgerEvent] = []
        for number in range(runs):
            run, at = f"backup_{number}", NOON + timedelta(minutes=number)
            machines = tuple(f"machine-{name}.example.com" for name in range(5))
            events += [
                started(run, slot=at),
                Targeted(run=run, machines=machines, at=at),
                RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=at),
            ]
        await store.commit(*events)
        await store.commit(started(RUN, "report", NOON), Targeted(run=RUN, machines=("db01",), at=NOON))
        for offset in range(0, 1_000_000, 50_000):
            await store.append(DB01, offset, bytes(50_000))
    return store.places


def flip(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(b"\xa5" * PAGE)


def pages_of(path: Path, table: str) -> Iterator[int]:
    """The places of the table's leaves in the file."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", [table]
            )
        except sqlite3.OperationalError:
            pytest.skip("this SQLite cannot tell where its tables lie (it was built without dbstat)")
        yield from (pageno - 1 for (pageno,) in rows.fetchall())


async def test_a_damaged_ledger_is_replaced_and_most_of_it_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = await fill(tmp_path)
    victim = list(pages_of(places.ledger, "executions"))[3]
    flip(places.ledger, victim)
    before = hashlib.sha256(places.ledger.read_bytes()).digest()
    async with open_store(tmp_path) as store:
        [run] = await store.unfinished()
        assert (run.id, run.executions["db01"].output_length) == (RUN, 1_000_000)
        assert await store.last_slots() == {"backup": NOON + timedelta(minutes=399), "report": NOON}
        assert len(await store.runs("backup", limit=1000)) == 400
        machines = [len(await store.attempts(f"backup_{number}")) for number in range(0, 400, 10)]
        assert 170 < sum(machines) <= 200
        [aside] = (await store.health()).set_aside
        await store.commit(started("backup_x", slot=None))
    assert hashlib.sha256(await trio.Path(aside).read_bytes()).digest() == before
    assert [record.event for record in caplog.records if record.levelno == logging.ERROR] == ["store.corrupt"]  # type: ignore[attr-defined]  # see logs.fields
    assert damage(places.ledger) == ""


@pytest.mark.parametrize("size", [20, 5000, 50_000])
async def test_a_ledger_that_was_cut_off_is_replaced(tmp_path: Path, size: int) -> None:
    places = await fill(tmp_path)
    with places.ledger.open("r+b") as file:
        file.truncate(size)
    async with open_store(tmp_path) as store:
        await store.commit(started("backup_x", slot=None))
        assert await store.run("backup_x") is not None
    [aside] = places.set_aside()
    assert aside.stat().st_size == size


async def test_something_else_in_the_ledgers_place_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database" * 100)
    async with open_store(tmp_path) as store:
        await store.commit(started())
    [aside] = Places(tmp_path).set_aside()
    assert aside.read_bytes().startswith(b"this is no")


async def test_damaged_output_is_replaced_at_the_start(tmp_path: Path) -> None:
    places = await fill(tmp_path, runs=1)
    flip(places.output("20251105"), 1, 2, 3)
    async with open_store(tmp_path) as store:
        assert await store.length(DB01) == 0
        assert await store.append(DB01, 0, b"again") == 5
        assert [run.id for run in await store.unfinished()] == [RUN]
    [aside] = places.set_aside()
    assert aside.name.startswith("output-20251105.sqlite.damaged-")


async def test_output_that_is_damaged_while_the_daemon_runs_is_replaced_too(tmp_path: Path) -> None:
    places = await fill(tmp_path, runs=1)
    async with open_store(tmp_path) as store:
        flip(places.output("20251105"), 0, 1, 2, 3)
        with pytest.raises(StoreError, match=r"malformed|not a database"):
            await store.append(DB01, 1_000_000, b"more")
        assert (await store.health()).output.why != ""
        assert await store.length(DB01) == 0
        assert await store.append(DB01, 0, b"again") == 5
        health = await store.health()
        assert (health.ok, len(health.set_aside)) == (True, 1)


async def test_a_ledger_that_is_damaged_while_the_daemon_runs_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what it knows cannot be made again under way. The next one begins a new ledger, even unasked."""
    places = await fill(tmp_path, runs=1)
    with pytest.raises(ExceptionGroup) as raised:
        await _write_to_a_damaged_ledger(places)
    assert raised.group_contains(StoreError, match="ledger.sqlite is damaged .*start the daemon again", depth=2)
    monkeypatch.setattr(checkup, "damage", lambda *_: "")  # a check that is too short for a large ledger
    async with open_store(tmp_path) as store:
        [aside] = (await store.health()).set_aside
        await store.commit(started("report_2", "report", NOON + timedelta(minutes=1)))
    async with open_store(tmp_path) as store:
        assert (await store.health()).set_aside == (aside,)
        assert await store.run("report_2") is not None


async def _write_to_a_damaged_ledger(places: Places) -> None:
    async with open_store(places.statedir) as store:
        flip(places.ledger, *range(places.ledger.stat().st_size // PAGE))
        with pytest.raises(StoreError, match=r"malformed|not a database"):
            await store.commit(started("report_2", "report", NOON + timedelta(minutes=1)))
        await trio.sleep_forever()


def test_what_is_wrong_with_a_value_is_no_damage() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="malformed JSON") as raised:
            connection.execute("SELECT json_extract('Infinity]', '$.a')")
        assert not checkup.is_damage(raised.value)


async def test_a_file_that_was_put_aside_keeps_its_journal(tmp_path: Path) -> None:
    """What was committed and not yet copied into the file itself is part of what is left."""
    path = tmp_path / "ledger.sqlite"
    with closing(connect(path, LEDGER)) as connection:
        connection.execute("INSERT INTO jobs (name) VALUES ('in the journal')")
        aside = put_aside(path, datetime(2025, 11, 5, 12, tzinfo=timezone.utc))
        assert aside.name == "ledger.sqlite.damaged-20251105T120000.000000Z"
        with closing(sqlite3.connect(aside)) as kept:
            assert kept.execute("SELECT name FROM jobs").fetchall() == [("in the journal",)]
    assert not path.exists()


async def test_rows_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    places = await fill(tmp_path, runs=3)
    with closing(sqlite3.connect(places.ledger)) as connection:
        connection.execute("DELETE FROM runs WHERE run = 'backup_1'")  # foreign keys are off here
        connection.commit()
    with closing(connect(tmp_path / "fresh.sqlite", LEDGER)) as fresh:
        assert checkup.rescue(places.ledger, fresh) == 2 + 3 + 11  # jobs, runs, and executions of these
        assert fresh.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_check_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with closing(connect(tmp_path / "file", LEDGER)) as connection:
        with limited(connection, 0.05), pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute(endless)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert damage(tmp_path / "file") == damage(tmp_path / "none") == ""
