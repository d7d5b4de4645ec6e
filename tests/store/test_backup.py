"""A copy that is taken while all goes on is a store like any other."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from saltpeter.cli import main
from saltpeter.cli.store import in_words
from saltpeter.domain.state import ExecutionId, RunEnded
from saltpeter.domain.verdict import Verdict
from saltpeter.errors import StoreError
from saltpeter.store.backup import back_up, survey
from saltpeter.store.places import Places
from saltpeter.store.sqlite import open_store
from tests.store.test_sqlite import DB01, NOON, RUN, started, targeted


def saltpeter(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["store", *map(str, arguments)], prog_name="saltpeter")


async def test_a_copy_of_a_store_that_is_written_is_consistent(tmp_path: Path) -> None:
    """Each run's output is written before its end is: so must it be in the copy, wherever that was cut off."""
    state, copy = tmp_path / "state", tmp_path / "copy"

    async def work(number: int) -> None:
        run = f"backup_{number}"
        await store.commit(started(run, slot=None))
        await store.append(ExecutionId(run, "m"), 0, b"x" * 5000)
        await store.commit(RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=NOON))

    async def keep_working(task_status: trio.TaskStatus[None]) -> None:
        for number in range(100_000):
            await work(number)
            if number == 9:
                task_status.started()

    async with open_store(state) as store, trio.open_nursery() as nursery:
        await nursery.start(keep_working)
        (state / "some.key").write_bytes(b"secret")
        size = await trio.to_thread.run_sync(back_up, Places(state), copy, lambda _: None)
        nursery.cancel_scope.cancel()
    assert size > 0
    async with open_store(copy) as store:
        runs = await store.runs(limit=100_000)
        assert len(runs) >= 10
        for run in runs:
            if run.ended_at is not None:
                assert await store.length(ExecutionId(run.id, "m")) == 5000
    assert (copy / "some.key").read_bytes() == b"secret"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (copy, copy / "output", copy / "ledger.sqlite")] == [
        0o700,
        0o700,
        0o600,
    ]


async def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state") as store:
        await store.commit(started(), targeted("db01"))
        await store.append(DB01, 0, b"text")
    places, copy = Places(tmp_path / "state"), tmp_path / "copy"
    with pytest.raises(StoreError, match="holds no ledger"):
        back_up(Places(tmp_path / "elsewhere"), copy, lambda _: None)
    (tmp_path / "copy.partial").mkdir()
    with pytest.raises(StoreError, match="was not finished"):
        back_up(places, copy, lambda _: None)
    (tmp_path / "copy.partial").rmdir()
    back_up(places, copy, lambda _: None)
    with pytest.raises(StoreError, match="exists already"):
        back_up(places, copy, lambda _: None)
    assert survey(Places(copy)).runs == survey(places).runs == 1


async def test_people_learn_what_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_store(state) as store:
        await store.commit(started(), targeted("db01"))
        await store.append(DB01, 0, bytes(100_000))
        await store.seen(NOON)
        said = await trio.to_thread.run_sync(saltpeter, "info", "--statedir", state)
        assert said.exit_code == 0
        assert f"{state}, in use, schema" in said.output
        assert "1 runs, 1 of them not ended" in said.output
        assert "1 days, 20251105 to 20251105" in said.output
    with (state / "output" / "output-20251105.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 12288)
    said = saltpeter("info", "--statedir", state)
    assert said.exit_code == 1
    assert "not in use" in said.output
    assert "DAMAGED" in said.output
    assert saltpeter("info", "--statedir", tmp_path / "none").exit_code == 1


async def test_pruning_by_hand_is_for_a_store_that_nobody_else_prunes(tmp_path: Path) -> None:
    state, conf_d = tmp_path / "state", tmp_path / "conf.d"
    conf_d.mkdir()
    settings = conf_d / "settings.yaml"
    settings.write_text(f"saltpeter_config: {{statedir: {state}, executor: local, retention: {{days: 30}}}}")
    async with open_store(state) as store:
        for run in (RUN, "backup_7"):
            await store.commit(started(run, slot=None), RunEnded(run=run, verdict=Verdict.FAILED, at=NOON))
        said = await trio.to_thread.run_sync(saltpeter, "prune", "-c", conf_d, "--dry-run")
        assert said.output.startswith("would forget 1 runs, ")
        said = await trio.to_thread.run_sync(saltpeter, "prune", "-c", conf_d)
        assert (said.exit_code, "in use by a daemon" in said.output) == (1, True)
    copied = saltpeter("backup", "-c", conf_d, tmp_path / "copy")
    assert (copied.exit_code, survey(Places(tmp_path / "copy")).runs) == (0, 2)
    said = await trio.to_thread.run_sync(saltpeter, "prune", "-c", conf_d)
    assert (said.exit_code, survey(Places(state)).runs) == (0, 1)
    settings.write_text("saltpeter_config: {retention: {days: forever}}")
    said = saltpeter("prune", "-c", conf_d)
    assert (said.exit_code, "forever" in said.output) == (1, True)


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * 1024**5, "3072.0 TiB")]
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
