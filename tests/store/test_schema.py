"""A database file grows with the program that uses it, one whole step at a time.

`ledger_v1.sql` and `output_v1.sql` are what the first saltpeter wrote. They stay as they are.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.outcome import End
from saltpeter.engine.storage import Piece
from saltpeter.errors import StoreError
from saltpeter.store.places import Places
from saltpeter.store.schema import LEDGER, OUTPUT, connect, connect_for_reading, give_back, pragma
from saltpeter.store.sqlite import open_store
from tests.store.test_sqlite import NOON, RUN

FIRST_LEDGER = Path(__file__).with_name("ledger_v1.sql").read_text()
FIRST_OUTPUT = Path(__file__).with_name("output_v1.sql").read_text()

FIRST = "CREATE TABLE things (name TEXT)"
SECOND = "ALTER TABLE things ADD COLUMN size INTEGER; UPDATE things SET size = 1"


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [found] = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    with closing(connect(path, [FIRST])) as connection:
        connection.execute("INSERT INTO things VALUES ('old')")
    with closing(connect(path, [FIRST, SECOND])) as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [("old", 1)]
    assert version(path) == 2
    with pytest.raises(StoreError, match="newer"):
        connect(path, [FIRST])


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    connect(path, [FIRST]).close()
    with pytest.raises(sqlite3.OperationalError):
        connect(path, [FIRST, "CREATE TABLE more (name TEXT); INSERT INTO nowhere VALUES (1)"])
    with closing(connect(path, [FIRST])) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("steps",), ("things",)]


@pytest.mark.parametrize("migrations", [LEDGER, OUTPUT])
def test_what_is_committed_is_on_the_disk(tmp_path: Path, migrations: list[str]) -> None:
    with closing(connect(tmp_path / "file", migrations)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert version(tmp_path / "file") == len(migrations)


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "a %41?#.sqlite"
    connect(path, [FIRST]).close()
    with closing(connect_for_reading(path)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO things VALUES ('x')")


def test_a_newer_file_says_which_saltpeter_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "things.sqlite"
    connect(path, [FIRST, SECOND], "2.1.0").close()
    with pytest.raises(StoreError, match=r"written by saltpeter 2\.1\.0 \(schema 2, this one knows 1\)"):
        connect(path, [FIRST], "1.0.0")


def old_file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(text)
    return path


@pytest.mark.parametrize(("text", "migrations"), [(FIRST_LEDGER, LEDGER), (FIRST_OUTPUT, OUTPUT)])
def test_files_of_the_first_version_become_what_new_ones_are(tmp_path: Path, text: str, migrations: list[str]) -> None:
    """A change of a step that has been released would show here: files that have taken it never take it again."""

    def shape(path: Path) -> set[tuple[str, str, str]]:
        with closing(connect(path, migrations)) as connection:
            found = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name <> 'steps'")
            return {(kind, name, " ".join(sql.replace('"', "").split())) for kind, name, sql in found}

    assert shape(old_file(tmp_path / "old.sqlite", text)) == shape(tmp_path / "new.sqlite")
    assert version(tmp_path / "old.sqlite") == len(migrations)


async def test_the_first_saltpeters_history_goes_on(tmp_path: Path) -> None:
    places = Places(tmp_path)
    old_file(places.ledger, FIRST_LEDGER)
    old_file(places.output("20251105"), FIRST_OUTPUT)
    async with open_store(tmp_path, "9") as store:
        first = await store.run(RUN)
        assert first is not None
        assert first.executions["db01"].outcome is not None
        assert (first.executions["db01"].outcome.code, first.executions["db01"].output_length) == (3, 9)
        assert first.executions["db02"].outcome is not None
        assert first.executions["db02"].outcome.end is End.KILLED
        assert (await store.pieces(ExecutionId(RUN, "db01"), 0))[0] == Piece(0, b"one\ntwo\xff\n")
        assert [run.id for run in await store.unfinished()] == ["backup_1762351200", "report_1762344007"]
        assert await store.last_slots() == {"backup": NOON + timedelta(hours=2)}
        assert [hold.machine for hold in await store.holds()] == ["db09"]
        assert (await store.why("backup", NOON + timedelta(minutes=61))).passed is not None
        assert await store.append(ExecutionId(RUN, "db01"), 9, b"late") == 13
        await store.seen(NOON)


def test_what_is_deleted_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "file", ["CREATE TABLE things (data BLOB)"])) as connection:
        connection.executemany("INSERT INTO things VALUES (?)", [(bytes(4000),) for _ in range(100)])
        before = pragma(connection, "page_count")
        connection.execute("DELETE FROM things")
        left = give_back(connection, 40)
        assert left > 0
        assert give_back(connection, 1000) == 0
        assert pragma(connection, "page_count") < before / 10
