"""A store that cannot write says so, since when and why; and is well again as soon as there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from saltpeter.domain.events import Ended, RunEnded
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import Writing
from saltpeter.errors import SlotTaken, StoreError
from saltpeter.store.sqlite import SqliteStore, open_store
from saltpeter.store.vitals import REMEMBERED, Vitals
from saltpeter.store.writer import CROWD, PACE_S, PROBE_S
from tests.store.test_sqlite import DB01, NOON, RUN, started, targeted

MIB = 1024**2


def test_vitals_tell_the_latest_commits_and_the_first_failure() -> None:
    vitals = Vitals()
    assert vitals.writing(0) == Writing()
    for number in range(REMEMBERED + 100):
        vitals.committed(0.001 * number)
    vitals.failed("no room", NOON)
    vitals.failed("still no room", NOON + timedelta(hours=1))
    now = vitals.writing(7)
    assert (now.failing_since, now.why, now.waiting, now.commits) == (NOON, "still no room", 7, REMEMBERED + 100)
    assert (round(now.median_s, 3), round(now.longest_s, 3)) == (0.356, 0.611)
    assert now.median_s < now.p99_s < now.longest_s
    vitals.committed(0.001)
    assert (vitals.writing(0).failing_since, vitals.writing(0).why) == (None, "")


async def test_a_store_at_work_is_well(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        with pytest.raises(SlotTaken):  # whose fault this is, is not the store's
            await store.commit(started("backup_7"))
        await store.append(DB01, 0, bytes(MIB))
        health = await store.health()
        assert health.ok
        assert (health.ledger.commits, health.output.commits, health.ledger.waiting) == (2, 1, 0)
        assert 0 < health.ledger.median_s <= health.ledger.longest_s < 10
        assert health.output_bytes > MIB > health.ledger_bytes > 0
        assert health.free_bytes > 0
        assert health.set_aside == ()


async def test_what_comes_in_a_storm_goes_together(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        before, begun_at = (await store.health()).ledger.commits, trio.current_time()
        async with trio.open_nursery() as nursery:
            for burst in range(50):
                for number in range(CROWD):
                    nursery.start_soon(store.commit, targeted(f"m{burst}-{number}"))
                await trio.sleep(0.001)
        commits, took_s = (await store.health()).ledger.commits - before, trio.current_time() - begun_at
        assert commits <= 2 * took_s / PACE_S + 5  # and not one for each burst, or two
        [run] = await store.unfinished()
        assert len(run.executions) == 50 * CROWD


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system to fill")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system to fill: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Take all that is left of the disk."""
    path = directory / "somebody-else's"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


async def write_until_refused(store: SqliteStore) -> int:
    """Returns the bytes of output that were taken."""
    length = 0
    try:
        while True:
            length = await store.append(DB01, length, bytes(MIB // 4))
    except StoreError as refused:
        assert "not for output" in str(refused)  # noqa: PT017  the length is what matters
        return length


async def test_output_leaves_the_last_of_the_disk_to_the_ledger(tmp_path: Path) -> None:
    with small_disk(tmp_path, "16m"):
        async with open_store(tmp_path / "state") as store:
            await store.commit(started(), targeted("db01"))
            length = await write_until_refused(store)
            assert length > 12 * MIB
            for number in range(20):
                await store.commit(started(f"backup_{number}", slot=None))
            health = await store.health()
            assert (health.ledger.failing_since, health.output.failing_since is None) == (None, False)
            assert await store.length(DB01) == length
            ended = Ended(execution=DB01, outcome=Outcome(end=End.EXITED, code=0), at=NOON)
            await store.commit(ended, RunEnded(run=RUN, verdict=Verdict.SUCCEEDED, at=NOON))
            await store.remove_output("20251105")  # as retention does
            assert await store.append(DB01, 0, b"room again") == 10
            assert (await store.health()).ok


async def test_a_ledger_without_any_room_is_well_again_when_there_is_some(tmp_path: Path) -> None:
    with small_disk(tmp_path, "4m"):
        async with open_store(tmp_path / "state") as store:
            await store.commit(started())
            hog = await trio.to_thread.run_sync(fill, tmp_path)
            names = tuple(f"machine-{number}.example.com" for number in range(5000))
            for _ in range(3):
                with pytest.raises(StoreError, match=r"full|I/O"):
                    await store.commit(targeted(*names))
            failing = (await store.health()).ledger
            assert failing.failing_since is not None
            assert failing.why != ""
            assert [run.id for run in await store.unfinished()] == [RUN]  # what is there can still be read
            hog.unlink()
            await store.commit(targeted(*names))
            assert (await store.health()).ok
            assert len((await store.unfinished())[0].executions) == 5000


async def test_a_store_that_fails_says_so_once_and_finds_out_by_itself_when_it_can_again(tmp_path: Path) -> None:
    told: list[str | None] = []
    with small_disk(tmp_path, "4m"):
        async with open_store(tmp_path / "state", fares=told.append) as store:
            await store.commit(started())
            await store.append(DB01, 0, b"text")
            hog = await trio.to_thread.run_sync(fill, tmp_path)
            for _ in range(3):
                with pytest.raises(StoreError):
                    await store.append(DB01, 4, bytes(MIB))
            with pytest.raises(StoreError):
                await store.commit(targeted(*map(str, range(5000))))
            [output, both] = told
            assert output is not None
            assert both is not None
            assert output.startswith("the output cannot be written since ")
            assert "the ledger cannot be written since " in both
            assert output in both
            await trio.sleep(1.2 * PROBE_S)  # it has tried, and could not
            assert told[-1] is not None
            hog.unlink()
            with trio.fail_after(60):
                while told[-1] is not None:  # noqa: ASYNC110  what tells is what is tested
                    await trio.sleep(0.05)
            assert (await store.health()).ok
            assert await store.append(DB01, 4, b" and more") == 13
