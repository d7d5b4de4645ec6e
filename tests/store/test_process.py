"""The process that writes is small, and lives as long as its daemon."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from exceptiongroup import ExceptionGroup

from saltpeter.errors import StoreError
from saltpeter.store.places import Places
from saltpeter.store.sqlite import SqliteStore, open_store
from tests.helpers.daemon import processes
from tests.store.test_sqlite import environment, let_go_on, started

NAME = "saltpeter.store.worker"
HEAVY = ("cattrs", "croniter", "saltpeter.domain.events", "saltpeter.domain.job", "saltpeter.engine", "trio")


def own_id(_connection: sqlite3.Connection) -> int:
    return os.getpid()


async def who_writes(store: SqliteStore) -> int:
    return await store.ledger_writer.submit(store.places.ledger, own_id)


def stumble(_connection: sqlite3.Connection) -> None:
    raise ZeroDivisionError


async def test_a_bug_of_one_task_is_its_own_and_tells_where_it_is(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        with pytest.raises(RuntimeError, match=r"in stumble\n(.*\n)*.*ZeroDivisionError"):
            await store.ledger_writer.submit(store.places.ledger, stumble)
        await store.commit(started())


async def test_it_is_another_process(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        assert await who_writes(store) != os.getpid()


def test_it_needs_little_of_saltpeter() -> None:
    code = "import sys, saltpeter.store.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_what_stops_the_daemon_does_not_stop_who_writes(tmp_path: Path, number: signal.Signals) -> None:
    """systemd, a terminal or supervisord may tell both in the same breath, and before it has even begun."""
    async with open_store(tmp_path) as store:
        [newborn] = [each.pid for each in processes() if each.parent == os.getpid() and NAME in each.arguments]
        os.kill(newborn, number)
        os.kill(await who_writes(store), number)
        await store.commit(started())
        assert [run.id for run in await store.unfinished()] != []


async def test_who_writes_ends_with_the_store(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        pid = await who_writes(store)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not Places(tmp_path).in_use()


@pytest.mark.parametrize(("python", "said"), [("/bin/false", "has ended"), ("/no/python", "cannot be started")])
async def test_a_store_that_nobody_writes_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, said: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises((StoreError, ExceptionGroup)) as raised:
        await _idle(tmp_path)
    group = raised.value if isinstance(raised.value, ExceptionGroup) else ExceptionGroup("", [raised.value])
    assert said in str(group.exceptions)


async def _idle(directory: Path) -> None:
    async with open_store(directory):
        await trio.sleep_forever()


async def test_a_relative_directory_counts_from_the_daemons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store(Path("state")) as store:
        await store.commit(started())
    assert (tmp_path / "state" / "ledger.sqlite").stat().st_size > 0


async def test_a_daemon_whose_writing_process_dies_ends(tmp_path: Path) -> None:
    """At once, though there may be nothing to write. Nobody knows what it had written: the next daemon reads it."""
    with pytest.raises(ExceptionGroup) as raised:
        await _lose_who_writes(tmp_path)
    assert raised.group_contains(StoreError, match="the process that writes the store has ended")
    async with open_store(tmp_path) as store:
        assert [run.id for run in await store.unfinished()] != []


async def _lose_who_writes(directory: Path) -> None:
    async with open_store(directory) as store:
        await store.commit(started())
        os.kill(await who_writes(store), signal.SIGKILL)
        await trio.sleep_forever()


DAEMON = """
import sys
from functools import partial
from pathlib import Path
import trio
from saltpeter.store.sqlite import open_store
from tests.store.test_process import own_id
from tests.store.test_sqlite import read, started

async def main():
    async with open_store(Path(sys.argv[1])) as store, trio.open_nursery() as nursery:
        await store.commit(started())
        busy = partial(read, path=Path(sys.argv[2]))
        nursery.start_soon(store.ledger_writer.submit, store.places.ledger, busy)
        print(await store.output_writer.submit(store.places.output("20251105"), own_id), flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def die_while_writing(statedir: Path, pipe: Path) -> None:
    command = [sys.executable, "-c", DAEMON, str(statedir), str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()  # who writes is busy by now
        daemon.kill()


async def test_the_next_daemon_waits_for_the_last_words_of_one_that_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has begun to write may still come to be: to read the ledger before that would be too early."""
    statedir, pipe = tmp_path / "state", tmp_path / "pipe"
    os.mkfifo(pipe)
    die_while_writing(statedir, pipe)
    assert Places(statedir).in_use()
    opened = trio.Event()

    async def start_anew() -> None:
        async with open_store(statedir):
            opened.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_anew)
        with trio.move_on_after(0.5):
            await opened.wait()
        assert not opened.is_set()
        assert "waiting until what a daemon that died" in caplog.text
        await let_go_on(pipe)
        with trio.fail_after(30):
            await opened.wait()
