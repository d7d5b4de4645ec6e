"""Journals are copied into their files beside the writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import trio
import trio.testing

from saltpeter.store.checkpoints import Checkpoints
from saltpeter.store.places import size_of, size_of_journal
from saltpeter.store.schema import CHECKPOINT_BYTES, LARGEST_JOURNAL, OUTPUT, connect, connect_for_reading
from saltpeter.store.writer import Writer

MEGABYTE = bytes(1024**2)


def keep(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO pieces (position, system, data) VALUES (0, 0, ?)", [MEGABYTE])


async def run(writer: Writer, path: Path, megabytes: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for _ in range(megabytes):
            await writer.submit(path, keep, len(MEGABYTE))
        with trio.fail_after(30):
            while size_of(path) - size_of_journal(path) < CHECKPOINT_BYTES:  # noqa: ASYNC110  a thread copies it
                await trio.sleep(0.01)
        writer.close()


def kept(path: Path) -> int:
    with closing(connect_for_reading(path)) as connection:
        [count] = connection.execute("SELECT count(*) FROM pieces").fetchone()
    return int(count)


async def test_a_journal_is_copied_while_the_writer_is_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "day.sqlite"
    megabytes = CHECKPOINT_BYTES // len(MEGABYTE) + 1
    await run(Writer(OUTPUT), path, megabytes)
    assert kept(path) == megabytes


async def test_a_journal_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "day.sqlite"
    largest, writer = 0, Writer(OUTPUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for _ in range(3 * LARGEST_JOURNAL // len(MEGABYTE)):
            await writer.submit(path, keep, len(MEGABYTE))
            largest = max(largest, size_of_journal(path))
        writer.close()
    assert largest < 1.5 * LARGEST_JOURNAL
    assert kept(path) == 3 * LARGEST_JOURNAL // len(MEGABYTE)


async def test_a_file_that_is_gone_or_no_database_harms_nobody(tmp_path: Path, nursery: trio.Nursery) -> None:
    checkpoints = Checkpoints()
    (tmp_path / "text").write_text("not a database, " * 100)
    nursery.start_soon(checkpoints.run)
    for name in ("gone", "text"):
        checkpoints.wrote(tmp_path / name, CHECKPOINT_BYTES)
    await trio.testing.wait_all_tasks_blocked()
    connect(tmp_path / "sound", OUTPUT).close()
    checkpoints.wrote(tmp_path / "sound", CHECKPOINT_BYTES)
    await trio.testing.wait_all_tasks_blocked()
    assert not (tmp_path / "gone").exists()


async def test_a_day_may_be_removed_while_it_is_copied(tmp_path: Path) -> None:
    path, writer = tmp_path / "day.sqlite", Writer(OUTPUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for _ in range(4):
            for _ in range(CHECKPOINT_BYTES // len(MEGABYTE)):
                await writer.submit(path, keep, len(MEGABYTE))
            await writer.remove(path)
        await writer.submit(path, keep)
        writer.close()
    assert kept(path) == 1
