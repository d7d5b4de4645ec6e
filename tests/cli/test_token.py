"""Tokens, as given on the command line, at a running daemon's TCP port."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from saltpeter.client import Access, ConnectionLost, NotLetIn, connect
from saltpeter.lab import free_ports
from tests.helpers.daemon import Daemon, command


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Daemon, str]]:
    """A daemon, and the URL of its TCP port."""
    [port] = free_ports(1)
    daemon = Daemon(directory, {"executor": "local", "api_ws": True, "api_ws_port": port})
    daemon.write(backup={"command": "true", "targets": ["m1"]})
    await daemon.start()
    try:
        yield daemon, f"ws://127.0.0.1:{port}"
    finally:
        daemon.end_everything()


async def test_a_token_opens_the_port_until_it_is_revoked(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, url):
        assert (await daemon.command("jobs", "--url", url)).returncode == 0  # there are no tokens yet
        made = await daemon.command("token", "add", "alice", "--role", "viewer", "--statedir", str(daemon.state))
        assert b"cannot be shown again" in made.stderr
        file = tmp_path / "token"
        file.write_bytes(made.stdout)

        without = await daemon.command("jobs", "--url", url)
        assert (without.returncode, b"a token is needed" in without.stderr) == (1, True)
        shown = await daemon.command("jobs", "--url", url, "--token-file", str(file), "--json")
        assert b"backup" in shown.stdout
        run = await daemon.command("run", "backup", "--url", url, "--token-file", str(file))
        assert (run.returncode, b"needs the role operator" in run.stderr) == (1, True)
        assert (await daemon.command("jobs")).returncode == 0  # over the Unix socket nobody is asked

        killed = await daemon.command("kill", "nothing", "--yes")
        assert killed.returncode != 0
        audited = await daemon.command("audit", "--json", "--statedir", str(daemon.state))
        told = [(each["who"].partition(":")[0], each["did"], each["result"]) for each in json.loads(audited.stdout)]
        assert told == [
            ("unix", "token add", "done"),
            ("token", "run", "forbidden"),
            ("unix", "kill", "unknown_job"),
        ]
        told_of_her = await daemon.command(
            "audit", "--who", "token:alice", "--since", "1h", "--statedir", str(daemon.state)
        )
        assert [line.split(b"\t")[4] for line in told_of_her.stdout.splitlines()] == [b'{"job": "backup"}']

        asked = await daemon.command("audit", "--json", "--socket", str(daemon.socket))
        assert json.loads(asked.stdout) == json.loads(audited.stdout)
        hers = ("--since", "1h", "--who", "token:alice", "--json", "--socket", str(daemon.socket))
        asked = await daemon.command("audit", *hers)
        assert [each["did"] for each in json.loads(asked.stdout)] == ["run"]
        refused = await daemon.command("audit", "--url", url, "--token-file", str(file))
        assert (refused.returncode, b"needs the role admin" in refused.stderr) == (1, True)
        both = await daemon.command("audit", "--url", url, "--statedir", str(daemon.state))
        assert (both.returncode, b"give one of them" in both.stderr) == (2, True)

        listed = await daemon.command("token", "list", "--json", "--statedir", str(daemon.state))
        assert [each["name"] for each in json.loads(listed.stdout)] == ["alice"]
        with trio.fail_after(60):
            async with connect(url, Access(file.read_text().strip())) as client:
                await daemon.command("token", "revoke", "alice", "--statedir", str(daemon.state))
                try:
                    async for _ in client:
                        pass
                except ConnectionLost as lost:
                    assert "log in again" in str(lost)  # noqa: PT017  iterating ends in no other way
        try:
            async with connect(url, Access(file.read_text().strip())):
                raise AssertionError("a revoked token was let in")
        except NotLetIn as refused:
            assert "not known here" in str(refused)  # noqa: PT017


async def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    place = ("--statedir", str(tmp_path))
    assert (await command("token", "add", "alice", "--role", "viewer", *place)).returncode == 0
    again = await command("token", "add", "alice", "--role", "admin", *place)
    assert (again.returncode, b"revoke it first" in again.stderr) == (1, True)
    elsewhere = tmp_path / "elsewhere"
    nowhere = await command("token", "revoke", "alice", "--statedir", str(elsewhere))
    assert nowhere.stderr.decode() == f"saltpeter: there is no token 'alice': none was ever made in {elsewhere}\n"
    assert (nowhere.returncode, elsewhere.exists()) == (1, False)
    wrong = await command("token", "revoke", "bob", *place)
    assert (wrong.returncode, b"there is no token 'bob'" in wrong.stderr) == (1, True)
    assert b"alice\tviewer\t" in (await command("token", "list", *place)).stdout
    assert b"without .yaml" in (await command("token", "add", "x", "--role", "viewer", "--group", "a/b", *place)).stderr


async def test_the_groups_of_a_token_are_listed(tmp_path: Path) -> None:
    place = ("--statedir", str(tmp_path))
    made = await command("token", "add", "bob", "--role", "viewer", "--group", "web", "--group", "shop", *place)
    assert b"the token of bob (viewer of shop, web)" in made.stderr
    await command("token", "add", "alice", "--role", "admin", *place)
    plain = (await command("token", "list", *place)).stdout.decode().splitlines()
    assert [line.split("\t")[::4] for line in plain] == [["bob", "shop, web"], ["alice", ""]]
    as_json = json.loads((await command("token", "list", "--json", *place)).stdout)
    assert [each["groups"] for each in as_json] == [["shop", "web"], None]
    shown = await command("token", "list", *place, env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "120"})
    assert b"shop, web" in shown.stdout
    audited = json.loads((await command("audit", "--json", *place)).stdout)
    assert [each["what"].get("groups") for each in audited] == [["shop", "web"], None]
