"""One daemon for all these tests, with machines that are this host, and commands that are given to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner

from saltpeter.cli import main
from saltpeter.host import SOCKET_VARIABLE
from tests.helpers.daemon import Daemon, Wanted, local_daemon

MACHINES = ["m1", "m2", "m3"]
JOBS: dict[str, Wanted] = {
    "hello": {"command": 'echo "hello from $SP_MACHINE"; printf "no newline"', "description": "It greets"},
    "fails": {"command": "echo it >&2; exit 3", "targets": ["m1"], "tags": ["sad", "small"]},
    "long": {"command": "echo begun; exec sleep 600", "kill_grace": 1},
    "evil": {"command": r"printf '\033[31mred\033[0m\033]0;title\007\377\nbar 1\rbar 2\n'", "targets": ["m1"]},
    "off": {"command": "true", "enabled": False, "schedule": "30 3 * * *", "timezone": "Europe/Berlin"},
    "never": {"command": "true"},
}


@attrs.frozen
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def rows(self) -> list[list[str]]:
        """The lines of a pipe, with their fields."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@attrs.frozen
class Shell:
    """Gives commands, in this process; `daemon` is what they reach."""

    daemon: Daemon

    def __call__(self, *arguments: str, terminal: bool = False, typed: str | None = None, code: int | None = 0) -> Said:
        """`saltpeter ARGUMENTS` in a pipe or on a terminal. Its exit code must be `code`, unless that is None."""
        env = {SOCKET_VARIABLE: str(self.daemon.socket), "COLUMNS": "140", "TZ": "UTC"}
        env |= {"FORCE_COLOR": "1"} if terminal else {}
        done = CliRunner().invoke(main, arguments, prog_name="saltpeter", env=env, input=typed)
        said = Said(done.exit_code, done.stdout, done.stderr, done.stdout_bytes)
        assert code in (None, said.code), f"{said}\n{done.exc_info}"
        return said

    def run(self, job: str) -> str:
        """Run it to its end; the run's id."""
        said = self("run", job, "--follow", "--json", code=None)
        return str(json.loads(said.out.splitlines()[0])["job_instance"])

    def begin(self, job: str) -> str:
        """Start it, and wait until all its machines have; the run's id."""
        run = str(self("run", job, "--json").json["job_instance"])
        with_output = 0
        while with_output < len(MACHINES):
            results = self("show", run, "--json").json["results"].values()
            with_output = sum(result["output_length"] > 0 for result in results)
        return run


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("cli")
    with local_daemon(directory, wrapper_file, timezone="Europe/Berlin") as made:
        made.write(**{name: {"targets": MACHINES, **job} for name, job in JOBS.items()})
        trio.run(made.start)
        yield made


@pytest.fixture
def shell(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for variable in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    return Shell(daemon)
