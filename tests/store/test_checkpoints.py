"""Journals are copied into their files beside the writing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from saltpeter.store.checkpoints import Checkpoints
from saltpeter.store.places import size_of, size_of_journal
from saltpeter.store.schema import CHECKPOINT_BYTES, LARGEST_JOURNAL, OUTPUT, connect, connect_for_reading
from saltpeter.store.scribe import Family, Group, Scribe, Task, each
from tests.store.test_sqlite import NOON

MEGABYTE = bytes(1024**2)


def keep(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO pieces (position, system, data) VALUES (0, 0, ?)", [MEGABYTE])


def write_a_megabyte(scribe: Scribe, path: Path) -> None:
    report = scribe.write(Group([Task(path, each, keep, len(MEGABYTE))], NOON))
    assert report.failed is None


@contextmanager
def copying(checkpoints: Checkpoints) -> Iterator[None]:
    """At the end all that was due has been copied."""
    thread = threading.Thread(target=checkpoints.run)
    thread.start()
    try:
        yield
    finally:
        checkpoints.close()
        thread.join()


@pytest.fixture
def scribe() -> Iterator[Scribe]:
    made = Scribe(Family(OUTPUT))
    yield made
    made.close()


def kept(path: Path) -> int:
    with closing(connect_for_reading(path)) as connection:
        [count] = connection.execute("SELECT count(*) FROM pieces").fetchone()
    return int(count)


def test_a_journal_is_copied_beside_the_writing(tmp_path: Path, scribe: Scribe) -> None:
    path = tmp_path / "day.sqlite"
    megabytes = CHECKPOINT_BYTES // len(MEGABYTE) + 1
    with copying(scribe.checkpoints):
        for _ in range(megabytes):
            write_a_megabyte(scribe, path)
    assert size_of(path) - size_of_journal(path) >= CHECKPOINT_BYTES
    assert kept(path) == megabytes


def test_a_journal_does_not_grow_without_end(tmp_path: Path, scribe: Scribe) -> None:
    path, largest = tmp_path / "day.sqlite", 0
    with copying(scribe.checkpoints):
        for _ in range(3 * LARGEST_JOURNAL // len(MEGABYTE)):
            write_a_megabyte(scribe, path)
            largest = max(largest, size_of_journal(path))
    assert largest < 1.5 * LARGEST_JOURNAL
    assert kept(path) == 3 * LARGEST_JOURNAL // len(MEGABYTE)


def test_a_journal_begins_anew_though_it_is_always_being_copied(tmp_path: Path, scribe: Scribe) -> None:
    """Then SQLite does not see to it."""
    path, largest = tmp_path / "day.sqlite", 0
    write_a_megabyte(scribe, path)
    scribe._connection(path).execute("PRAGMA wal_autocheckpoint = 0")
    with copying(scribe.checkpoints):
        for _ in range(4 * LARGEST_JOURNAL // len(MEGABYTE)):
            write_a_megabyte(scribe, path)
            largest = max(largest, size_of_journal(path))
    assert largest < 1.5 * LARGEST_JOURNAL
    assert kept(path) == 4 * LARGEST_JOURNAL // len(MEGABYTE) + 1


def test_a_file_that_is_gone_or_no_database_harms_nobody(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    (tmp_path / "text").write_text("not a database, " * 100)
    connect(tmp_path / "sound", OUTPUT).close()
    with copying(checkpoints), closing(sqlite3.connect(":memory:")) as connection:
        for name in ("gone", "text", "sound"):
            checkpoints.wrote(tmp_path / name, LARGEST_JOURNAL, connection)
    assert not (tmp_path / "gone").exists()


def test_a_day_may_be_removed_while_it_is_copied(tmp_path: Path, scribe: Scribe) -> None:
    path = tmp_path / "day.sqlite"
    with copying(scribe.checkpoints):
        for _ in range(4):
            for _ in range(CHECKPOINT_BYTES // len(MEGABYTE)):
                write_a_megabyte(scribe, path)
            scribe.write(Group([Task(path, None)], NOON))
        write_a_megabyte(scribe, path)
    assert kept(path) == 1
