"""The command line, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from saltpeter.cli.common import EXIT_UNREACHABLE
from saltpeter.host import SOCKET_VARIABLE, control_socket
from sp_wrapper import __version__
from tests.helpers.daemon import Daemon, command, eventually, local_daemon, processes

HELP = {
    (): "Cron for a fleet of machines run by Salt.",
    ("daemon",): "saltpeter daemon -c /etc/saltpeter/conf.d",
    ("check",): "saltpeter check /etc/saltpeter/conf.d",
    ("run",): "saltpeter run backup",
    ("kill",): "saltpeter kill backup db01 db02",
    ("wrapper",): "The program that runs commands on the machines.",
    ("wrapper", "build"): "saltpeter wrapper build /srv/salt/sp_wrapper.py",
    ("lab",): "saltpeter lab --minions 5 -c my/conf.d",
}

GOOD = "good:\n  schedule: '@yearly'\n  timezone: UTC\n  targets: '*'\n  command: 'true'\n"
BAD = "bad:\n  schedule: '* * * * *'\n  targets: '*'\n  command: 'true'\n  tiemout: 5\n"


async def test_it_says_its_version() -> None:
    said = await command("--version")
    assert (said.returncode, said.stdout.decode()) == (0, f"saltpeter, version {__version__}\n")


@pytest.mark.parametrize("words", HELP, ids=lambda words: " ".join(words) or "saltpeter")
async def test_every_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        said = await command(*words, option)
        assert (said.returncode, said.stderr) == (0, b"")
        assert HELP[words] in said.stdout.decode()


async def test_without_a_word_it_helps_and_fails() -> None:
    said = await command()
    assert said.returncode == 2
    assert b"saltpeter check /etc/saltpeter/conf.d" in said.stdout


# --- check ---------------------------------------------------------------------------------------


async def test_check_is_content(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    said = await command("check", str(tmp_path))
    assert (said.returncode, said.stdout.decode()) == (0, "1 job in force, 0 errors, 0 warnings\n")


async def test_check_names_file_line_and_key_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(BAD)
    said = await command("check", str(tmp_path))
    assert said.returncode == 1
    assert said.stdout.decode().splitlines() == [
        f"{tmp_path}/b.yaml:5: bad.tiemout: unknown key; did you mean timeout?",
        "1 job in force, 1 error, 0 warnings",
    ]


async def test_check_warns_and_succeeds(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("  timezone: UTC\n", ""))
    said = await command("check", str(tmp_path), env={**os.environ, "TZ": "Europe/Berlin"})
    assert said.returncode == 0
    first, last = said.stdout.decode().splitlines()
    assert first.startswith(f"{tmp_path}/a.yaml:1: warning: good.timezone: ")
    assert last == "1 job in force, 0 errors, 1 warning"


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    for words in (("check",), ("daemon", "-c"), ("-c",)):
        said = await command(*words, str(tmp_path / "nowhere"))
        assert said.returncode == 1
        assert said.stderr.decode().endswith(f"saltpeter: {tmp_path}/nowhere: No such file or directory\n")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("lab", "-n", "0"), "0 is not in the range 1<=x<=20"),
        (("lab", "-n", "many"), "'many' is not a valid integer"),
        (("lab", "-c", "/dev/null/conf.d"), "Directory '/dev/null/conf.d' does not exist"),
        (("run",), "Missing argument 'JOB'"),
        (("run", "a", "b"), "unexpected extra argument (b)"),
        (("kill", "a", "--socket", "http://localhost"), "not the URL of a control socket (ws://host:port)"),
        (("daemon",), "Missing option '-c'"),
        (("-c", "/etc", "run", "a"), "stands behind the command"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_makes_no_sense_is_refused(words: tuple[str, ...], text: str) -> None:
    said = await command(*words)
    assert said.returncode == 2
    assert text in " ".join(said.stderr.decode().split())


async def test_a_lab_in_too_deep_a_directory(tmp_path: Path) -> None:
    said = await command("lab", "-d", str(tmp_path / ("x" * 80)))
    assert said.returncode == 1
    assert "is too long a path for Salt's unix sockets: use a shorter one" in said.stderr.decode()


async def test_the_wrapper_is_built(tmp_path: Path) -> None:
    file = tmp_path / "sp_wrapper.py"
    said = await command("wrapper", "build", str(file))
    assert (said.returncode, said.stdout.decode()) == (0, f"{file}: {file.stat().st_size / 1024:.0f} KiB\n")
    asked = await trio.run_process([str(file), "--version"], capture_stdout=True)
    assert asked.stdout.decode() == f"sp_wrapper {__version__}\n"


async def test_a_wrapper_that_cannot_be_written() -> None:
    said = await command("wrapper", "build", "/dev/null/sp_wrapper.py")
    assert said.returncode == 1
    assert said.stderr.decode().startswith("saltpeter: ")
    assert b"Traceback" not in said.stderr


# --- a running daemon ----------------------------------------------------------------------------


async def test_without_a_daemon_it_says_where_it_looked_and_how_to_start_one(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.sock"
    hint = "start one with `saltpeter -c DIR`, or say with --socket where it is\n"
    for word in ("run", "kill"):
        for said in (
            await command(word, "backup", "--socket", str(nowhere)),
            await command(word, "backup", env={**os.environ, SOCKET_VARIABLE: str(nowhere)}),
        ):
            text = f"saltpeter: no saltpeter daemon answers at {nowhere} (nothing is there); {hint}"
            assert (said.returncode, said.stderr.decode()) == (EXIT_UNREACHABLE, text)
        said = await command(word, "backup", "--socket", "ws://127.0.0.1:1")
        assert said.returncode == EXIT_UNREACHABLE
        assert "no saltpeter daemon answers at ws://127.0.0.1:1" in said.stderr.decode()
    without = {name: value for name, value in os.environ.items() if name != SOCKET_VARIABLE}
    assert str(control_socket()) in " ".join((await command("run", "-h", env=without)).stdout.decode().split())


@pytest.fixture
async def daemon(tmp_path: Path, wrapper_file: Path) -> AsyncIterator[Daemon]:
    with local_daemon(tmp_path, wrapper_file) as made:
        made.write(
            long={"command": "echo begun; sleep 900", "targets": ["a", "b"]},
            short={"command": "echo $TEST_MARK", "targets": "a"},
        )
        await made.start()
        yield made


async def test_jobs_are_run_and_killed(daemon: Daemon) -> None:
    started = await daemon.command("run", "long")
    assert (started.returncode, started.stderr) == (0, b"")
    word, run = started.stdout.decode().split()
    assert (word, run.rpartition("_")[0]) == ("started", "long")
    await eventually(lambda: len(daemon.commands("long")) == 4)

    twice = await daemon.command("run", "long")
    assert (twice.returncode, twice.stderr.decode()) == (1, f"saltpeter: {run} is still running; kill it first\n")

    killed = await daemon.command("kill", "long")
    assert (killed.returncode, killed.stderr.decode()) == (0, f"{run}: asked 2 of its machines to end it\n")
    assert killed.stdout.decode().splitlines() == [
        f"{run} on {machine}: killed (143), 2 of 2 processes ended" for machine in ("a", "b")
    ]
    assert daemon.commands() == []

    for word in ("run", "kill"):
        unknown = await daemon.command(word, "lnog")
        text = "saltpeter: there is no job 'lnog'; did you mean 'long'?\n"
        assert (unknown.returncode, unknown.stderr.decode()) == (1, text)
    idle = await daemon.command("kill", "short")
    assert (idle.returncode, idle.stderr.decode()) == (1, "saltpeter: short is not running\n")


async def test_a_second_daemon_on_the_same_state_is_refused(daemon: Daemon) -> None:
    port = daemon.settings["machines_ws_port"]
    second = await command("-c", str(daemon.conf_d))
    assert second.returncode == 1
    assert b"Traceback" not in second.stderr
    last = second.stderr.decode().splitlines()[-1]
    assert last.startswith("saltpeter: ")
    assert str(port) in last or str(daemon.state) in last
    assert (await daemon.command("run", "short")).returncode == 0


# --- the lab -------------------------------------------------------------------------------------


def of_lab(place: Path) -> list[str]:
    """The command lines of what lives of a lab in `place`: of itself, and of what its jobs started."""
    return [each.arguments for each in processes() if each.env.get("TMPDIR") == str(place)]


def temporary(place: Path) -> Mapping[str, str]:
    """An environment whose files all go below `place`, by which its processes are told, too."""
    return {**os.environ, "TMPDIR": str(place), "HOME": str(place), "XDG_STATE_HOME": str(place)}


@asynccontextmanager
async def lab(place: Path, *options: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`saltpeter lab`, once it is up; what it says is in `<place>.log`."""
    with said_in(place).open("wb") as output:
        lab = subprocess.Popen(  # noqa: ASYNC220  it returns at once
            [sys.executable, "-m", "saltpeter", "lab", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=temporary(place),
            start_new_session=True,
        )
    try:
        await eventually(lambda: "Ctrl-C ends all of it." in said_in(place).read_text(), 90)
        yield lab
    finally:
        lab.kill()
        lab.wait()


def said_in(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


@pytest.mark.salt
async def test_a_lab_runs_the_examples_and_takes_everything_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("l")
    async with lab(place, "-n", "2") as running:
        said = said_in(place)
        await eventually(lambda: "Target m2 completed, removing from pending (retcode: 0)" in said.read_text())
        [directory] = place.iterdir()
        asked = await command("run", "long", "--socket", str(directory / "state" / "control.sock"))
        assert asked.returncode == 0
        audit = await command("audit", "-c", str(directory / "conf.d"), "--json")
        assert [each["did"] for each in json.loads(audit.stdout)] == ["run"]
        await eventually(lambda: any("cleaning up" in line for line in of_lab(place)))
        running.send_signal(signal.SIGINT)
        await eventually(lambda: running.poll() is not None, 30)
        assert running.returncode == 0
        await eventually(lambda: not of_lab(place), 10)
    assert list(place.iterdir()) == []


@pytest.mark.salt
async def test_a_lab_that_is_killed_takes_salt_with_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "jobs.yaml").write_text(GOOD)
    (tmp_path / "conf.d" / "a.yaml").write_text(f"saltpeter_config: {{statedir: {tmp_path}/mine, executor: local}}")
    place = tmp_path_factory.mktemp("l")
    async with lab(place, "-n", "1", "-c", str(tmp_path / "conf.d")) as running:
        [directory] = place.iterdir()
        assert not (tmp_path / "mine").exists()
        assert len(of_lab(place)) > 4
        running.kill()
        await eventually(lambda: not of_lab(place), 10)
    assert list(place.iterdir()) == [directory]
