"""A daemon with TLS and wrappers that know it: real processes, all of them on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from saltpeter.lab import free_ports
from tests.helpers.daemon import Daemon, command, eventually, local_daemon

RUN_AS_LONG_AS = "until [ -e {go} ]; do sleep 0.05; done; echo done"


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def daemon(tmp_path: Path, wrapper_file: Path, ca: trustme.CA) -> Iterator[Daemon]:
    show(tmp_path, ca)
    (tmp_path / "wrapper").mkdir()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = {
        "default_wrapper_logdir": str(tmp_path / "wrapper"),
        "tls_certificate": str(tmp_path / "server.pem"),
        "tls_key": str(tmp_path / "server.key"),
    }
    with local_daemon(tmp_path, wrapper_file, **settings) as made:
        yield made


def show(folder: Path, ca: trustme.CA) -> None:
    """Give the daemon a certificate of `ca`."""
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


@pytest.mark.parametrize("known_by", ["fingerprint", "ca"])
async def test_wrappers_report_to_the_daemon_that_they_know(known_by: str, daemon: Daemon) -> None:
    if known_by == "ca":
        daemon.configure(tls_ca=str(daemon.directory / "ca.pem"))
    daemon.write(hello={"command": "echo hello", "targets": "m1,m2", "target_type": "list"})
    await daemon.start()
    assert "wrappers at wss://" in daemon.log()
    async with daemon.watching("hello") as watch:
        ended = await watch.results(await watch.run("hello"))
    assert {machine: (each.code, each.output) for machine, each in ended.items()} == {
        "m1": (0, "hello\n"),
        "m2": (0, "hello\n"),
    }


async def test_the_command_line_knows_the_daemon_by_its_ca(daemon: Daemon, ca: trustme.CA) -> None:
    """By --ca or SALTPETER_CA, and says nothing to one that it does not know: least of all the token."""
    [port] = free_ports(1)
    daemon.configure(api_ws=True, api_ws_port=port, require_tokens=True)
    daemon.write(hello={"command": "echo hello", "targets": "m1"})
    made = await command("token", "add", "ann", "--role", "operator", "--statedir", str(daemon.state))
    (token := daemon.directory / "token").write_bytes(made.stdout)
    await daemon.start()
    trusted, other = daemon.directory / "ca.pem", daemon.directory / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    where = ("--url", f"wss://127.0.0.1:{port}", "--token-file", str(token))
    env = {name: value for name, value in os.environ.items() if not name.startswith("SALTPETER_")}
    done = await command("run", "hello", "--follow", *where, "--ca", str(trusted), env=env)
    assert (done.returncode, done.stdout) == (0, b"m1 | hello\n"), done
    assert (await command("jobs", *where, env={**env, "SALTPETER_CA": str(trusted)})).stdout.startswith(b"hello\t")
    for options in ((), ("--ca", str(other))):
        refused = await command("jobs", *where, *options, env=env)
        assert (refused.returncode, b"--ca" in refused.stderr) == (3, True), refused
        assert b"Traceback" not in refused.stderr
    assert not (await command("jobs", "--url", f"wss://localhost:{port}", "--ca", str(trusted), env=env)).stdout
    assert "Login of" not in daemon.log()


async def test_a_certificate_that_was_renewed_is_the_cas_still(daemon: Daemon, ca: trustme.CA) -> None:
    """Over a restart, in the midst of a command."""
    go = daemon.directory / "go"
    daemon.configure(tls_ca=str(daemon.directory / "ca.pem"))
    daemon.write(long={"command": RUN_AS_LONG_AS.format(go=go), "targets": "m1"})
    await daemon.start()
    async with daemon.watching("long") as watch:
        run = await watch.run("long")
        await watch.until(lambda: watch.started(run, "m1"))
    daemon.process.terminate()
    await eventually(lambda: daemon.process.poll() is not None)
    show(daemon.directory, ca)
    await daemon.start()
    go.touch()
    async with daemon.watching("long") as watch:
        ended = await watch.results(run)
    assert (ended["m1"].code, ended["m1"].output) == (0, "done\n")


async def test_somebody_else_in_its_place_hears_nothing(daemon: Daemon) -> None:
    """The wrapper says what is wrong; the run is lost for as long as nobody else answers."""
    trustme.CA().cert_pem.write_to_path(str(daemon.directory / "other.pem"))
    daemon.configure(tls_ca=str(daemon.directory / "other.pem"))
    daemon.write(hello={"command": "echo hello", "targets": "m1"})
    await daemon.start()
    async with daemon.watching("hello") as watch:
        await watch.run("hello")
        log = daemon.directory / "wrapper" / "sp_wrapper.log"
        await eventually(lambda: log.exists() and "no TLS with the daemon" in log.read_text())
    assert "Client connected" not in daemon.log()
