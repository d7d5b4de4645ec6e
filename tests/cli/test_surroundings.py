"""What surrounds a command: pipes that close, full disks, poor encodings, narrow terminals, impatient people."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saltpeter.host import SOCKET_VARIABLE
from tests.cli.conftest import Shell
from tests.cli.test_control import on_a_terminal

PATIENCE_S = 60.0


def variables(shell: Shell, **more: str) -> dict[str, str]:
    return {**os.environ, SOCKET_VARIABLE: str(shell.daemon.socket), **more}


def begin(shell: Shell, *arguments: str, stdout: int, **more: str) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-m", "saltpeter", *arguments)
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=variables(shell, **more))


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code, and what it said on stderr."""
    try:
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, stderr.decode()


@pytest.fixture(scope="module")
def ran() -> set[str]:
    return set()


@pytest.fixture
def run(shell: Shell, ran: set[str]) -> str:
    """A run of `hello`."""
    if not ran:
        ran.add(shell.run("hello"))
    return next(iter(ran))


@pytest.mark.parametrize(
    ("typed", "color"), [("jobs", "1"), ("tail {run}", ""), ("output {run} m1", ""), ("tail hello --follow", "1")]
)
def test_a_pipe_that_nobody_reads_any_more_ends_it_without_a_word(
    shell: Shell, run: str, typed: str, color: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = begin(shell, *typed.format(run=run).split(), stdout=writer, FORCE_COLOR=color)
    os.close(writer)
    if "--follow" in typed:
        shell.run("hello")  # it notices when it has something to print
    assert ended(process) == (141, "")


@pytest.mark.parametrize("typed", ["jobs --json", "tail {run}", "output {run} m1"])
def test_a_full_disk_is_said(shell: Shell, run: str, typed: str) -> None:
    with Path("/dev/full").open("wb") as full:
        process = begin(shell, *typed.format(run=run).split(), stdout=full.fileno())
        text = "saltpeter: stdout cannot be written: No space left on device\n"
        assert ended(process) == (1, text)


def test_what_an_encoding_lacks_is_printed_as_an_escape(shell: Shell) -> None:
    shell.daemon.write("more", umlaut={"command": "echo größe", "targets": ["m1"], "description": "größe"})
    shell("reload")
    shell.run("umlaut")
    process = begin(shell, "tail", "umlaut", stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, b"m1 | gr\\xf6\\xdfe\n")
    process = begin(shell, "stats", "umlaut", stdout=subprocess.PIPE, PYTHONIOENCODING="ascii", FORCE_COLOR="1")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"")
    (shell.daemon.conf_d / "more.yaml").unlink()
    shell("reload")


def test_a_narrow_terminal_cuts_no_name_off(shell: Shell, run: str) -> None:
    process = begin(shell, "history", "hello", stdout=subprocess.PIPE, FORCE_COLOR="1", COLUMNS="50")
    out, _ = process.communicate(timeout=PATIENCE_S)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.decode()).splitlines()
    assert any(line.startswith(f"{run} ") for line in lines)
    assert max(map(len, lines)) <= 50


def test_ctrl_c_while_it_is_being_loaded_ends_it_without_a_word(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(600)\n")
    process = begin(shell, "jobs", stdout=subprocess.PIPE, PYTHONPATH=str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (-signal.SIGINT, "")


def test_who_does_not_mean_it_ends_nothing(shell: Shell) -> None:
    run = shell.begin("long")
    code, out = on_a_terminal(shell, "kill", "long", typed="n\n")
    assert (code, out.endswith("saltpeter: nothing was ended\n")) == (1, True)
    code, out = on_a_terminal(shell, "kill", "long", typed="\x04")
    assert (code, out.count("\n")) == (130, 1)
    assert not shell("show", run, "--json").json["ended"]
    shell("kill", "long", "--yes")


def test_a_name_that_is_nearly_right_is_found(shell: Shell, run: str) -> None:
    for command in ("show", "tail", "history", "stats"):
        assert shell(command, "helo", code=1).err == "saltpeter: there is no job 'helo'; did you mean hello?\n"
    assert shell("show", "hello_1", code=1).err == "saltpeter: there is no run 'hello_1'\n"
