"""A database file grows with the program that uses it, one whole step at a time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from saltpeter.errors import StoreError
from saltpeter.store.schema import LEDGER, OUTPUT, connect, connect_for_reading

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
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("things",)]


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
