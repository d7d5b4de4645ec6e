"""A copy that is taken while all goes on becomes a store like any other."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from saltpeter.cli import main
from saltpeter.cli.store import in_words
from saltpeter.domain.events import ExecutionId, RunEnded
from saltpeter.domain.job import Retention as Policy
from saltpeter.domain.verdict import Verdict
from saltpeter.errors import StoreError
from saltpeter.store.backup import back_up, restore
from saltpeter.store.places import SESSION_KEY_FILE, Places
from saltpeter.store.retention import Retention
from saltpeter.store.sqlite import open_store
from saltpeter.store.survey import survey
from tests.helpers.daemon import Daemon, local_daemon
from tests.store.test_sqlite import DB01, NOON, RUN, started, targeted


def saltpeter(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["store", *map(str, arguments)], prog_name="saltpeter")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def quietly(_: str) -> None:
    pass


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
async def test_a_copy_of_a_store_that_is_written_is_consistent(tmp_path: Path, ending: str) -> None:
    """Each run's output is written before its end is: so must it be in the copy, wherever that was cut off."""
    state, file, copy = tmp_path / "state", tmp_path / f"copy{ending}", tmp_path / "copy"

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
        (state / SESSION_KEY_FILE).write_bytes(b"whoever has it logs in as anybody")
        size = await trio.to_thread.run_sync(back_up, Places(state), file, quietly)
        nursery.cancel_scope.cancel()
    assert size == file.stat().st_size > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(Places(copy), file, quietly) == 3
    async with open_store(copy) as store:
        runs = await store.runs(limit=100_000)
        assert len(runs) >= 10
        for run in runs:
            if run.ended_at is not None:
                assert await store.length(ExecutionId(run.id, "m")) == 5000
    assert (copy / "some.key").read_bytes() == b"secret"
    assert not (copy / SESSION_KEY_FILE).exists()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (copy / "output", copy / "ledger.sqlite")] == [0o700, 0o600]
    assert names(tmp_path) == ["copy", file.name, "state"]


async def test_nothing_is_forgotten_while_a_copy_is_made(tmp_path: Path) -> None:
    """Else the copy's ledger could speak of output that is not in the copy."""
    places = Places(tmp_path)
    async with open_store(tmp_path) as store:
        await store.commit(started(), RunEnded(run=RUN, verdict=Verdict.SUCCEEDED, at=NOON), started("backup_7", "x"))
        await store.append(DB01, 0, b"text")
        retention = Retention(lambda: Policy(days=1), store, lambda: NOON.replace(year=NOON.year + 1))
        with places.kept(), places.kept():
            with pytest.raises(StoreError, match="a backup is being made"):
                await retention.prune()
            assert await store.length(DB01) == 4
        with places.forgetting() as first, places.forgetting() as second:
            assert (first, second) == (True, False)
        await store.commit(RunEnded(run="backup_7", verdict=Verdict.SUCCEEDED, at=NOON))
        await retention.prune()
        assert await store.length(DB01) == 0


async def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state") as store:
        await store.commit(started(), targeted("db01"))
        await store.append(DB01, 0, b"text")
    places, file = Places(tmp_path / "state"), tmp_path / "copy.tar"
    with pytest.raises(StoreError, match="holds no ledger"):
        back_up(Places(tmp_path / "elsewhere"), file, quietly)
    with pytest.raises(StoreError, match=r"ends in \.tar, \.tar\.gz, \.tgz"):
        back_up(places, tmp_path / "copy.zip", quietly)
    with pytest.raises(StoreError, match="the backup failed"):
        back_up(places, tmp_path / "nowhere" / "copy.tar", quietly)
    (tmp_path / "state" / "output" / "output-20251106.sqlite").write_bytes(b"no database")
    with pytest.raises(StoreError, match="the backup failed"):
        back_up(places, file, quietly)
    (tmp_path / "state" / "output" / "output-20251106.sqlite").unlink()
    assert names(tmp_path) == ["state"]
    back_up(places, file, quietly)
    with pytest.raises(StoreError, match="exists already"):
        back_up(places, file, quietly)
    restore(Places(tmp_path / "copy"), file, quietly)
    assert survey(Places(tmp_path / "copy")).runs == survey(places).runs == 1


def archive(path: Path, *contents: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as made:
        for name, data in contents:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["../ledger.sqlite", "/etc/cron", "output/../x", "a/b", "output", ".."])
def test_only_what_belongs_to_a_store_is_put_back(tmp_path: Path, name: str) -> None:
    file = archive(tmp_path / "bad.tar", ("ledger.sqlite", b""), (name, b"evil"))
    with pytest.raises(StoreError, match="no backup of saltpeter"):
        restore(Places(tmp_path / "state"), file, quietly)
    assert not (tmp_path / "state" / "ledger.sqlite").exists()
    assert names(tmp_path) == ["bad.tar", "state"]


async def test_nothing_is_put_back_over_a_store_or_from_a_broken_file(tmp_path: Path) -> None:
    state, file, copy = tmp_path / "state", tmp_path / "copy.tar.gz", Places(tmp_path / "copy")
    async with open_store(state) as store:
        await store.commit(started(), targeted("db01"))
        await store.append(DB01, 0, b"text" * 50_000)
        back_up(Places(state), file, quietly)
        with pytest.raises(StoreError, match="in use"):
            restore(Places(state), file, quietly)
    with pytest.raises(StoreError, match=r"move what is in .* away first"):
        restore(Places(state), file, quietly)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(file.read_bytes()[:-200])
    with tarfile.open(file) as whole, tarfile.open(tmp_path / "bad.tar", "w") as damaged:
        for member in whole:
            content = whole.extractfile(member)
            assert content is not None
            data = bytearray(content.read())
            if member.name == "ledger.sqlite":
                data[4096:8192] = b"\xa5" * 4096
            damaged.addfile(member, io.BytesIO(data))
    garbage = tmp_path / "garbage.tar"
    garbage.write_bytes(b"garbage")
    for bad in (cut, tmp_path / "bad.tar", garbage, archive(tmp_path / "other.tar", ("hello.txt", b"hello"))):
        with pytest.raises(StoreError, match=rf"(?s){bad.name}.*|ledger\.sqlite"):
            restore(copy, bad, quietly)
        assert (names(copy.statedir), names(copy.statedir / "output")) == (
            ["output", "store.lock", "store.writing.lock"],
            [],
        )
    assert restore(copy, file, quietly) == 2


async def test_a_daemon_goes_on_from_a_backup(tmp_path: Path, wrapper_file: Path) -> None:
    """Made while it ran; the one that starts from it knows all that was, byte for byte."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    file = str(tmp_path / "backup.tar.gz")
    with (
        local_daemon(tmp_path / "first", wrapper_file) as first,
        local_daemon(tmp_path / "second", wrapper_file) as second,
    ):
        first.write(report={"command": "head -c 300000 /dev/zero | tr '\\0' x; exit 3", "targets": ["m1", "m2"]})
        await first.start()
        async with first.watching("report") as watch:
            runs = [await watch.run("report")]
            await watch.results(runs[0])
            made = await first.command("store", "backup", file, "-c", str(first.conf_d))
            assert (made.returncode, made.stdout.startswith(file.encode())) == (0, True)
            history, output = await told(first, runs[0])
        restored = await first.command("store", "restore", file, "-c", str(second.conf_d))
        assert (restored.returncode, b"the daemon can be started" in restored.stdout) == (0, True), restored.stderr
        await second.start()
        assert await told(second, runs[0]) == (history, output)
        assert output == b"x" * 300_000


async def told(daemon: Daemon, run: str) -> tuple[bytes, bytes]:
    """The history, and the output of one machine."""
    history = await daemon.command("history", "--json")
    output = await daemon.command("output", run, "m1")
    assert (history.returncode, output.returncode) == (0, 0)
    assert run.encode() in history.stdout
    return history.stdout, output.stdout


async def test_people_learn_what_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_store(state) as store:
        await store.commit(started(), targeted("db01"))
        await store.append(DB01, 0, bytes(100_000))
        await store.seen(NOON)
        said = await trio.to_thread.run_sync(saltpeter, "info", "--statedir", state)
        assert said.exit_code == 0
        lines = said.stdout.splitlines()
        assert {f"store\t{state}", "in use\tyes", "runs\t1", "not ended\t1"} < set(lines)
        assert {"days\t20251105 to 20251105", "health\tnothing wrong was found"} < set(lines)
        told = json.loads((await trio.to_thread.run_sync(saltpeter, "info", "--statedir", state, "--json")).stdout)
        assert (told["in_use"], told["runs"], [day["day"] for day in told["days"]]) == (True, 1, ["20251105"])
        assert f"output\t{told['days'][0]['bytes']}" in lines
    with (state / "output" / "output-20251105.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 12288)
    said = saltpeter("info", "--statedir", state)
    assert said.exit_code == 1
    assert "in use\tno\n" in said.stdout
    assert "DAMAGED\t" in said.stdout
    damaged = json.loads(saltpeter("info", "--statedir", state, "--json").stdout)["damaged"]
    assert list(damaged) == [str(state / "output" / "output-20251105.sqlite")]
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
    copied = saltpeter("backup", "-c", conf_d, tmp_path / "copy.tar")
    restored = saltpeter("restore", tmp_path / "copy.tar", "--statedir", tmp_path / "copy")
    assert (copied.exit_code, restored.exit_code, survey(Places(tmp_path / "copy")).runs) == (0, 0, 2)
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
