"""docs/operating.md as it stands: the daemon under a real supervisord, and a unit that systemd accepts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon, eventually, local_daemon

DOCS = Path(__file__).parent.parent / "docs"
COMMAND = f"{sys.executable} -m saltpeter"

SUPERVISORD = """
[supervisord]
nodaemon=true
directory={directory}
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
[unix_http_server]
file={directory}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/supervisor.sock
"""


def documented(heading: str, replace: Mapping[str, str], page: str = "operating.md") -> str:
    """The file that stands under a heading, with other paths. Each of them must occur in it."""
    section = (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    text: str
    [text] = re.findall(r"```ini\n(.*?)```", section, re.DOTALL)
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
async def daemon(tmp_path: Path, wrapper_file: Path) -> AsyncIterator[Daemon]:
    """Jobs and their places, and a supervisord that runs the daemon on them."""
    command = f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo end"
    with local_daemon(tmp_path, wrapper_file) as daemon:
        daemon.write(patient={"command": command, "targets": "m1"})
        paths = {
            "/usr/local/bin/saltpeter": COMMAND,
            "/etc/saltpeter/conf.d": str(daemon.conf_d),
            "/var/log/saltpeter/daemon.log": str(daemon.stderr),
        }
        config = tmp_path / "supervisord.conf"
        config.write_text(SUPERVISORD.format(directory=tmp_path) + documented("Under supervisord", paths))
        supervisord = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield daemon
        finally:
            supervisord.terminate()  # it ends what it started
            supervisord.wait(30)


def ctl(daemon: Daemon, *arguments: str) -> str:
    config = str(daemon.directory / "supervisord.conf")
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisorctl", "-c", config, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    return done.stdout


async def ready(daemon: Daemon, times: int) -> None:
    await eventually(lambda: daemon.log().count("Ready: ") == times)


async def test_under_supervisord(daemon: Daemon) -> None:
    await ready(daemon, 1)
    await eventually(lambda: "RUNNING" in ctl(daemon, "status", "saltpeter"))
    async with daemon.watching("patient") as watch:
        run = await watch.run("patient")
        await watch.until(lambda: watch.output(run, "m1") == "begun\n")

        assert ctl(daemon, "signal", "HUP", "saltpeter") == "saltpeter: signalled\n"
        await eventually(lambda: "Reload asked for by SIGHUP" in daemon.log())
        assert "RUNNING" in ctl(daemon, "status", "saltpeter")

    assert ctl(daemon, "stop", "saltpeter") == "saltpeter: stopped\n"
    assert daemon.log().endswith(" Stopped\n")
    assert not daemon.socket.exists()
    assert daemon.commands("patient")

    assert ctl(daemon, "start", "saltpeter") == "saltpeter: started\n"
    await ready(daemon, 2)
    assert ctl(daemon, "restart", "saltpeter") == "saltpeter: stopped\nsaltpeter: started\n"
    await ready(daemon, 3)
    assert daemon.log().count(f"Taking up {run} again") == 2
    (daemon.directory / "go").touch()
    async with daemon.watching("patient") as watch:
        ended = (await watch.results(run))["m1"]
    assert (ended.code, ended.output) == (0, "begun\nend\n")
    assert f"Job completed - {run}:m1 (exit code: 0)" in ctl(daemon, "tail", "-5000", "saltpeter")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("hardened", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, hardened: bool) -> None:
    script = tmp_path / "saltpeter"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    unit = tmp_path / "saltpeter.service"
    unit.write_text(documented("Under systemd", {"/usr/local/bin/saltpeter": str(script)}))
    if hardened:
        unit.with_suffix(".service.d").mkdir()
        hardening = documented("Least privilege", {"=salt": "=root"}, "security.md")
        (tmp_path / "saltpeter.service.d" / "hardening.conf").write_text(hardening)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_both_start_the_same_command() -> None:
    [command] = re.findall("^command=(.*)$", documented("Under supervisord", {}), re.MULTILINE)
    [start] = re.findall("^ExecStart=(.*)$", documented("Under systemd", {}), re.MULTILINE)
    assert command == start
