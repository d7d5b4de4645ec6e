"""Secrets: read on this host, when they are needed and only then, and given to one wrapper once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import CameLate, ExecutionId
from saltpeter.domain.job import Job, Retry, SecretSource
from saltpeter.domain.order import wrapper_env
from saltpeter.domain.outcome import End
from saltpeter.engine.execution import Execution
from saltpeter.engine.secrets import TOTAL_BYTES, VALUE_BYTES, Vault, read_secrets
from saltpeter.errors import SecretError
from sp_wrapper import frames, wire
from tests.helpers.bottle import NOON, Bottle, PlayedWrapper, Script, bottle, fleet, job
from tests.helpers.memory_store import MemoryStore

VALUES = {"PASSWORD": "hunter2"}
SOURCES = {"PASSWORD": SecretSource(file="/etc/secret")}


# --- where they come from ------------------------------------------------------------------------


async def read_file(path: Path) -> str:
    return (await read_secrets({"X": SecretSource(file=str(path))}))["X"]


async def read_command(command: str, within_s: float = 30.0) -> str:
    return (await read_secrets({"X": SecretSource(command=command)}, within_s))["X"]


async def test_files_and_commands_give_values(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"gehe im\n")
    sources = {
        "A": SecretSource(file=str(tmp_path / "token")),
        "B": SecretSource(command="echo first; echo 'second €'; echo no >&2"),
    }
    assert await read_secrets(sources) == {"A": "gehe im", "B": "first\nsecond €"}


@pytest.mark.parametrize(
    ("written", "value"),
    [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), (" x ", " x "), ("", ""), ("\n", "")],
)
async def test_one_newline_at_the_end_does_not_count(tmp_path: Path, written: str, value: str) -> None:
    (tmp_path / "token").write_bytes(written.encode())
    assert await read_file(tmp_path / "token") == value


async def test_a_link_is_followed(tmp_path: Path) -> None:
    """Kubernetes mounts secrets so."""
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert await read_file(tmp_path / "link") == "x"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("echo hunter2; exit 3", "ended with the code 3"),
        ("kill -TERM $$", "ended with the code -15"),
        ("printf 'hunter2\\377'", "gives something that is not UTF-8"),
        ("printf 'hunter2\\000'", "gives a NUL, which no variable can hold"),
        (f"head -c {VALUE_BYTES + 1} /dev/zero", f"gives more than {VALUE_BYTES} bytes"),
        ("yes hunter2", f"gives more than {VALUE_BYTES} bytes"),
        ("/no/such/program", "ended with the code 127"),
    ],
)
async def test_a_command_that_gives_no_value(command: str, problem: str) -> None:
    with pytest.raises(SecretError) as caught:
        await read_command(command)
    assert str(caught.value) == f"secret_env.X: its command: {problem}", "what it is called with is for few eyes"
    assert caught.value.__cause__ is None


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(SecretError, match=r"took longer than 0\.3 seconds$"):
        await read_command(f"sleep 61 & echo $! > {child}; wait", within_s=0.3)
    pid = int(child.read_text())
    with trio.fail_after(10):
        while is_alive(pid):  # noqa: ASYNC110  nobody could set an event
            await trio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "No such file or directory"),
        ("folder", "is no regular file"),
        ("pipe", "is no regular file"),
        ("long", f"gives more than {VALUE_BYTES} bytes"),
    ],
)
async def test_a_file_that_gives_no_value(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"x" * (VALUE_BYTES + 1))
    with pytest.raises(SecretError) as caught:
        await read_file(tmp_path / name)
    assert str(caught.value) == f"secret_env.X: the file {tmp_path / name}: {problem}"


async def test_together_they_fit_into_one_message() -> None:
    def longest(count: int) -> Mapping[str, SecretSource]:
        command = f"head -c {VALUE_BYTES} /dev/zero | tr '\\0' '\\1'"
        return {f"X{n}": SecretSource(command=command) for n in range(count)}

    values = await read_secrets(longest(1))
    assert len(values["X0"]) == VALUE_BYTES
    with pytest.raises(SecretError, match=f"the most is {TOTAL_BYTES}$"):
        await read_secrets(longest(2))
    most = wire.Secrets(env={"X" * 20: "\x01" * (TOTAL_BYTES - 20)})
    assert len(frames.encode(wire.About("j" * 200, "j" * 220, "m" * 255), most, NOON)) < wire.MAX_FRAME


# --- one run's ------------------------------------------------------------------------------------


@attrs.define
class Source:
    """Takes its time; fails as often as it is told to."""

    takes_s: float = 1.0
    failures: int = 0
    reads: int = 0

    async def read(self, sources: Mapping[str, SecretSource]) -> Mapping[str, str]:
        self.reads += 1
        await trio.sleep(self.takes_s)
        if self.reads <= self.failures:
            raise SecretError("secret_env.PASSWORD: the file /etc/secret: No such file or directory")
        return VALUES if sources else {}


async def test_who_asks_together_gets_one_reading(autojump_clock: MockClock) -> None:
    source = Source()
    vault = Vault(SOURCES, source.read)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(vault.open, 1)
    assert (source.reads, trio.current_time()) == (1, 1)
    assert "hunter2" not in repr(vault)
    vault.forget()
    assert await vault.open(1) == VALUES
    assert source.reads == 2


async def test_who_gives_up_leaves_the_reading_to_the_next(autojump_clock: MockClock) -> None:
    source = Source(takes_s=5)
    vault = Vault(SOURCES, source.read)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(2):
            await vault.open(1)
        nursery.start_soon(vault.open, 1)
    assert (source.reads, trio.current_time()) == (2, 7)


async def test_a_failure_holds_for_the_attempt(autojump_clock: MockClock) -> None:
    source = Source(failures=1)
    vault = Vault(SOURCES, source.read)
    for _ in range(3):
        with pytest.raises(SecretError, match="No such file"):
            await vault.open(1)
    assert source.reads == 1
    assert await vault.open(2) == VALUES


# --- what wrappers are told -----------------------------------------------------------------------


def secretive(**facts: Any) -> Job:
    return job(secret_env=SOURCES, **facts)


def by_hand(b: Bottle) -> Bottle:
    """The test speaks for the wrappers itself."""
    for machine in b.fleet.machines:
        b.play(machine, Script(connects_after_s=math.inf))
    return b


async def connects(b: Bottle, run: str, attempt: int = 1) -> Execution:
    token = b.runs.means.tokens.of(run)
    execution = await b.roster.find(run, "m1", attempt, token)
    execution.connected(PlayedWrapper(Script(), execution), wire.Connect(version="1", sent=0, wants_secrets=True))
    return execution


def test_the_order_has_their_names_only() -> None:
    two = {"PASSWORD": SecretSource(file="/etc/secret"), "KEY": SecretSource(command="pass key")}
    env = wrapper_env(job(secret_env=two), run="r", attempt=1, token="t", url="ws://x/", expires_at=NOON)
    assert env["SP_SECRETS"] == "PASSWORD,KEY"
    assert not any("secret" in value or "pass key" in value for value in env.values())
    assert "SP_SECRETS" not in wrapper_env(job(), run="r", attempt=1, token="t", url="ws://x/", expires_at=NOON)
    hidden = job(secret_env=two, mask_secrets=True)
    assert "SP_MASK_SECRETS" not in env
    assert wrapper_env(hidden, run="r", attempt=1, token="t", url="x", expires_at=NOON)["SP_MASK_SECRETS"] == "1"


async def test_a_wrapper_gets_them_until_its_command_has_started(autojump_clock: MockClock) -> None:
    source = Source()
    async with bottle(secretive(), secrets=source.read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        assert source.reads == 0, "nobody asked yet"
        execution = await connects(b, run)
        assert await execution.secrets() == wire.Secrets(env=VALUES)
        assert await (await connects(b, run)).secrets() == wire.Secrets(env=VALUES), "the first one may be lost"
        await execution.started(wire.Start(pid=7))
        assert await execution.secrets() == wire.Secrets(error="it was started before")
        assert source.reads == 1


async def test_a_failure_ends_the_execution_and_says_where_to_look(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with bottle(secretive(), secrets=Source(failures=9).read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        execution = await connects(b, run)
        assert await execution.secrets() == wire.Secrets(error="the daemon could not read its secrets")
        await execution.completed(wire.Complete(retcode=255, outcome="error", error="the command was not started"))
        await b.ended(run)
        outcome = b.outcomes(run)["m1"]
        assert (outcome.end, outcome.code) == (End.FAILED, 255)
        where = "secret_env.PASSWORD: the file /etc/secret: No such file or directory"
        assert outcome.text == where
        assert b.store.text(ExecutionId(run, "m1")).strip() == where
        assert where in caplog.text
        assert not b.of(CameLate)


async def test_a_retry_reads_them_again(autojump_clock: MockClock) -> None:
    async with bottle(secretive(retry=Retry(limit=1)), secrets=Source(failures=1).read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        assert (await (await connects(b, run)).secrets()).error
        await trio.sleep(11)
        second = await connects(b, run, attempt=2)
        assert await second.secrets() == wire.Secrets(env=VALUES)
        assert await (await connects(b, run, attempt=1)).secrets() == wire.Secrets(
            error="it has ended, or is being ended"
        )
        await second.completed(wire.Complete(retcode=0))
        await b.ended(run)
        assert b.outcomes(run)["m1"].succeeded


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_kill_while_they_are_read_is_a_kill(autojump_clock: MockClock, failures: int) -> None:
    async with bottle(secretive(), secrets=Source(takes_s=10, failures=failures).read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        execution = await connects(b, run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(execution.secrets)
            await trio.sleep(1)
            await b.runs.kill("backup", "test")
        assert (await execution.secrets()).error
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.KILLED


async def test_whoever_comes_too_late_starts_nothing(autojump_clock: MockClock) -> None:
    """The lease is over, the outcome stands: a command that began now would be a surprise."""
    async with bottle(secretive(), secrets=Source().read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await b.ended(run)
        assert b.outcomes(run)["m1"].end is End.LOST
        execution = await connects(b, run)
        assert (await execution.secrets()).error == "it has ended, or is being ended"


async def test_a_wrapper_that_waits_gets_them_from_the_next_daemon(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(secretive(), machines=machines, store=store, secrets=Source().read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        await connects(b, run)
        await trio.sleep(1)
    await trio.sleep(20)
    async with bottle(secretive(), machines=machines, store=store, secrets=Source().read) as b:
        await trio.sleep(1)
        execution = await connects(b, run)
        assert await execution.secrets() == wire.Secrets(env=VALUES)
        await execution.started(wire.Start(pid=7))
    async with bottle(secretive(), machines=machines, store=store, secrets=Source().read) as b:
        await trio.sleep(1)
        execution = await connects(b, run)
        assert await execution.secrets() == wire.Secrets(error="it was started before")
        await execution.completed(wire.Complete(retcode=0))
        await b.ended(run)


async def test_a_job_that_is_gone_has_none(autojump_clock: MockClock) -> None:
    machines, store = fleet("m1"), MemoryStore()
    async with bottle(secretive(), machines=machines, store=store, secrets=Source().read) as b:
        run = await by_hand(b).runs.run("backup", "test")
        await trio.sleep(1)
        await connects(b, run)
    async with bottle(machines=machines, store=store, secrets=Source().read) as b:
        await trio.sleep(1)
        assert await (await connects(b, run)).secrets() == wire.Secrets(env={})
