"""`secret_env` from end to end: a real daemon, a real wrapper, and a search for the value wherever it must not lie."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon, eventually, local_daemon

DIGEST = 'printf %s "$PASSWORD$TOKEN" | sha256sum'


@pytest.fixture
async def daemon(tmp_path: Path, wrapper_file: Path) -> AsyncIterator[Daemon]:
    """Not started yet. The wrappers keep their state below the daemon's, as on a single host they do."""
    logs = tmp_path / "wrapper"
    logs.mkdir()
    loudly = {"default_wrapper_logdir": str(logs), "default_wrapper_loglevel": "debug", "debug": True}
    with local_daemon(tmp_path, wrapper_file, **loudly) as made:
        yield made


def content(file: Path) -> bytes:
    """Nothing, where it has been removed just now."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def found(value: str, daemon: Daemon) -> list[str]:
    """Where `value` lies: in files of the daemon, of its logs, of the wrappers, or in a wrapper's own environment."""
    files = [file for file in daemon.directory.rglob("*") if file.is_file() and file.parent.name != "vault"]
    held = [str(file) for file in files if value.encode() in content(file)]
    return held + [str(process.pid) for process in daemon.wrappers("m1") if value in str(process.env)]


async def test_the_command_has_it_and_nothing_else_does(daemon: Daemon, tmp_path: Path) -> None:
    password, token = secrets.token_hex(), secrets.token_hex()
    vault, go = tmp_path / "vault", tmp_path / "go"
    vault.mkdir()
    (vault / "password").write_text(f"{password}\n")
    (vault / "token").write_text(f"{token}\n")
    daemon.write(
        secretive={
            "command": f"echo begun; until [ -e {go} ]; do sleep 0.05; done; {DIGEST}",
            "targets": "m1",
            "secret_env": {
                "PASSWORD": {"file": str(vault / "password")},
                "TOKEN": {"command": f"cat {vault}/token"},
            },
        }
    )
    await daemon.start()
    async with daemon.watching("secretive") as watch:
        run = await watch.run("secretive")
        await watch.until(lambda: watch.output(run, "m1") == "begun\n")
        shell = next(process for process in daemon.commands("secretive") if "PASSWORD" in process.env)
        assert (shell.env["PASSWORD"], shell.env["TOKEN"]) == (password, token)
        assert daemon.wrappers("m1")
        assert found("PASSWORD", daemon), "the search sees where the names lie"
        for value in (password, token):
            assert found(value, daemon) == []

        go.touch()
        [result] = (await watch.results(run)).values()
        expected = sha256((password + token).encode()).hexdigest()
        assert (result.code, result.output) == (0, f"begun\n{expected}  -\n")
        pushed = json.dumps([watch.config, watch.details])
        assert password not in pushed
        assert str(vault) not in pushed
    await eventually(lambda: not daemon.wrappers("m1"))
    await daemon.signal(signal.SIGTERM)
    for value in (password, token):
        assert found(value, daemon) == []


async def test_a_secret_that_cannot_be_read_is_the_runs_end(daemon: Daemon, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    missing = {"PASSWORD": {"file": str(tmp_path / "missing")}}
    daemon.write(secretive={"command": f"touch {ran}", "targets": "m1", "secret_env": missing})
    await daemon.start()
    async with daemon.watching("secretive") as watch:
        [result] = (await watch.results(await watch.run("secretive"))).values()
        assert (result.code, result.end) == (255, "error")
        text = f"secret_env.PASSWORD: the file {tmp_path}/missing: No such file or directory"
        assert result.output.strip() == text
        assert text in daemon.log()
        await eventually(lambda: not daemon.wrappers("m1"))
        assert not ran.exists()

        (tmp_path / "missing").write_text("here now")
        [result] = (await watch.results(await watch.run("secretive"))).values()
        assert result.code == 0, "the job's lock is free, and the next run reads anew"


async def test_a_daemon_that_dies_while_it_reads_is_followed_by_one_that_can(daemon: Daemon, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    slow = f"touch {begun}; for _ in $(seq 600); do [ -e {go} ] && break; sleep 0.05; done; echo hunter2"
    daemon.write(
        secretive={"command": 'echo "${#PASSWORD}"', "targets": "m1", "secret_env": {"PASSWORD": {"command": slow}}}
    )
    await daemon.start()
    async with daemon.watching() as watch:
        run = await watch.run("secretive")
        await eventually(begun.exists)
        assert not daemon.commands("secretive")
    await daemon.signal(signal.SIGKILL)
    go.touch()
    await daemon.start()
    async with daemon.watching("secretive") as watch:
        [result] = (await watch.results(run)).values()
        assert (result.code, result.output) == (0, "7\n")
