"""A directory of jobs on a real disk, changed in all the ways that editors, people and Kubernetes change it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs
import pytest
import trio

from saltpeter.domain.config import Host
from saltpeter.domain.job import Config
from saltpeter.engine.reload import Directory, NotRead, Reloader, check, read_directory, report
from saltpeter.errors import ConfigError

HOST = Host(statedir="/var/lib/saltpeter", logdir="/var/log/saltpeter", zone=timezone.utc)
NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


def jobs(*names: str) -> str:
    return "".join(f"{name}: {{schedule: '@daily', command: 'true', targets: '*'}}\n" for name in names)


# --- reading ----------------------------------------------------------------------------------------------


def test_only_yaml_files_are_read(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", ".hidden.yaml", "c.yaml~", "#d.yaml#", "README.md"):
        (tmp_path / name).write_text(name)
    assert [Path(path).name for path in read_directory(str(tmp_path))] == ["a.yaml", "b.yml"]


def test_what_cannot_be_read_is_said_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff")
    (tmp_path / "broken.yaml").symlink_to("nowhere")
    (tmp_path / "dir.yaml").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert list(read_directory(str(tmp_path)).values()) == [
        NotRead("is not UTF-8 text: byte 3"),
        NotRead("No such file or directory"),
        NotRead("Is a directory"),
        NotRead("is not a file"),
        "a: 1",
    ]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        check(str(tmp_path / "nowhere"), HOST, NOW)


def test_a_check_tells_problems_and_notes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(jobs("good") + "bad: {}\n")
    config = check(str(tmp_path), attrs.evolve(HOST, zone=ZoneInfo("Asia/Tokyo")), NOW)
    assert list(config.jobs) == ["good"]
    assert [(problem.job, problem.fatal) for problem in config.problems if problem.key in ("command", "timezone")] == [
        ("bad", True),
        ("good", False),
    ]


def test_nothing_new_is_nothing_done(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(jobs("a"))
    (tmp_path / "bad.yaml").write_text("x: [")
    directory = Directory(str(tmp_path), HOST, lambda: NOW)
    first = directory.load()
    (tmp_path / "a.yaml").write_text(jobs("a"))
    assert directory.load(first) is first
    (tmp_path / "b.yaml").write_text(jobs("b"))
    second = directory.load(first)
    assert second.config.jobs["a"] is first.config.jobs["a"]
    (tmp_path / "b.yaml").unlink()
    assert list(directory.load(second).config.jobs) == ["a"]


# --- noticing ---------------------------------------------------------------------------------------------


@attrs.define
class Applied:
    """What was handed over, newest last."""

    configs: list[Config] = attrs.field(factory=list)
    more: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self, config: Config) -> None:
        self.configs.append(config)
        self.more.set()
        self.more = trio.Event()

    async def until(self, names: str) -> None:
        """Wait until the jobs in force are those called by the letters of `names`."""
        with trio.fail_after(10):
            while not self.configs or sorted(self.configs[-1].jobs) != sorted(names):
                await self.more.wait()


@asynccontextmanager
async def reloading(path: Path, apply: Callable[[Config], None], look_every_s: float = 60) -> AsyncIterator[Reloader]:
    directory = Directory(str(path), HOST, lambda: NOW)
    reloader = Reloader(directory, directory.load(), apply, look_every_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(reloader.serve)
        yield reloader
        with trio.fail_after(2):  # far less than watchfiles would take by itself
            nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()


async def test_a_file_whose_name_is_no_text_ends_nothing(tmp_path: Path) -> None:
    """watchfiles gives up at such a name; the daemon must not."""
    (tmp_path / "a.yaml").write_text(jobs("a"))
    strange = os.fsdecode(b"\xff\n\x1b[2J.yaml")
    applied = Applied()
    async with reloading(tmp_path, applied, look_every_s=0.2):
        (tmp_path / strange).write_text(jobs("b"))
        await applied.until("ab")
        (tmp_path / "c.yaml").write_text(jobs("c"))
        await applied.until("abc")
        (tmp_path / strange).unlink()
        await applied.until("ac")


async def test_files_come_change_and_go(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(jobs("a"))
    applied = Applied()
    async with reloading(tmp_path, applied):
        (tmp_path / "b.yaml").write_text(jobs("b"))
        await applied.until("ab")
        (tmp_path / "b.yaml").write_text(jobs("c"))
        await applied.until("ac")
        (tmp_path / ".b.yaml.swp").write_text(jobs("d"))
        (tmp_path / ".b.yaml.swp").rename(tmp_path / "b.yaml")
        await applied.until("ad")
        (tmp_path / "b.yaml").unlink()
        await applied.until("a")


async def test_symlinks_are_swapped_as_kubernetes_does(tmp_path: Path) -> None:
    for version, names in (("..v1", "a"), ("..v2", "ab")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "jobs.yaml").write_text(jobs(*names))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "jobs.yaml").symlink_to("..data/jobs.yaml")
    applied = Applied()
    async with reloading(tmp_path, applied):
        (tmp_path / "..data_tmp").symlink_to("..v2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await applied.until("ab")


async def test_the_directory_itself_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "conf.d"
    root.mkdir()
    (root / "a.yaml").write_text(jobs("a"))
    applied = Applied()
    async with reloading(root, applied, look_every_s=0.02) as reloader:
        root.rename(tmp_path / "old")
        with trio.fail_after(10):
            while "the last configuration stays in force" not in caplog.text:  # noqa: ASYNC110  a log has no event
                await trio.sleep(0.005)
        assert list(reloader.assembly.config.jobs) == ["a"]
        root.mkdir()
        (root / "b.yaml").write_text(jobs("b"))
        await applied.until("b")
        (root / "b.yaml").write_text(jobs("b", "c"))
        await applied.until("bc")


async def test_a_reload_may_be_asked_for(tmp_path: Path) -> None:
    applied = Applied()
    directory = Directory(str(tmp_path), HOST, lambda: NOW)
    reloader = Reloader(directory, directory.load(), applied)
    (tmp_path / "a.yaml").write_text(jobs("a"))
    for _ in range(3):  # asked often, done once
        reloader.reread()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloader.serve)
        await applied.until("a")
        nursery.cancel_scope.cancel()
    assert len(applied.configs) == 1


async def test_who_asks_for_a_reload_can_wait_for_its_end(tmp_path: Path) -> None:
    applied: list[Config] = []
    directory = Directory(str(tmp_path), HOST, lambda: NOW)
    reloader = Reloader(directory, directory.load(), applied.append)
    (tmp_path / "a.yaml").write_text(jobs("a"))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reloader.serve)
            await reloader.reread_to_the_end()
            assert [list(config.jobs) for config in applied] == [["a"]]
            await reloader.reread_to_the_end()  # nothing new: also an end
            assert len(applied) == 1
            nursery.cancel_scope.cancel()


async def test_a_reload_that_fails_leaves_the_old_in_force_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    applied: list[Config] = []

    def apply(config: Config) -> None:
        if "b" not in config.jobs:
            raise RuntimeError("no b")
        applied.append(config)

    directory = Directory(str(tmp_path), HOST, lambda: NOW)
    reloader = Reloader(directory, directory.load(), apply)
    (tmp_path / "a.yaml").write_text(jobs("a"))
    await reloader.reload()
    assert "no b" in caplog.text
    assert not reloader.assembly.config.jobs
    (tmp_path / "b.yaml").write_text(jobs("b"))
    await reloader.reload()
    assert sorted(applied[0].jobs) == ["a", "b"]


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [getattr(record, "event", "") for record in caplog.records]
    caplog.clear()
    return found


async def test_what_is_said_about_it_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "a.yaml").write_text(jobs("a") + "b: 5\n")
    directory = Directory(str(tmp_path), HOST, lambda: NOW)
    reloader = Reloader(directory, directory.load(), lambda _: None)
    report(reloader.assembly.config)
    assert events(caplog) == ["config.rejected", "config.loaded"]
    (tmp_path / "c.yaml").write_text("saltpeter_config: {api_ws_port: 1, debug: true, opensearch: x}")
    await reloader.reload()
    assert events(caplog) == ["config.doubted", "config.loaded", "config.restart_needed"]
    await reloader.reload()
    assert events(caplog) == []
