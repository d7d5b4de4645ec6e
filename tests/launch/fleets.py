"""The same two machines, three times: imagined, on this host, and behind a real Salt master."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from saltpeter.engine.launcher import Call, Launcher, StartPlain, StartWrapper
from saltpeter.launch.local import LocalLauncher
from saltpeter.launch.salt import SaltLauncher
from saltpeter.launch.serving import serving
from tests.helpers.fake_launcher import MISSING, NOT_EXECUTABLE, FakeLauncher, FakeMachine, Reply
from tests.helpers.salt_lab import LabHandle

MACHINES = ("m1", "m2")

# Stands in for the wrapper: it notes that it ran, says who it is, and ends as it is told to.
SCRIPT = """#!/bin/sh
if [ "$1" = --orders ]; then exec "{python}" "{several}" "$0"; fi
echo "$SP_MACHINE_ID $SP_JOB_INSTANCE" >>"{log}"
echo "${{*:-start}} $SP_JOB_INSTANCE on $SP_MACHINE_ID"
exit ${{SAY_CODE:-0}}
"""

# Takes several orders as the wrapper does, each by a stand-in of its own.
SEVERAL = """
import json, os, subprocess, sys
for name, env in json.load(sys.stdin).items():
    done = subprocess.run([sys.argv[1]], env={**os.environ, **env}, capture_output=True, text=True)
    print(json.dumps({"order": name, "code": done.returncode, "text": done.stdout.rstrip()}), flush=True)
"""

# A plain start's commands that the tests use, and what they come to.
COMMANDS = {
    "echo out; echo err >&2; exit 4": Reply(4, "out\nerr\n"),
    "kill -9 $$": Reply(137, ""),
    "sleep 60": Reply(0, "", after_s=60),
}


def wrapper(path: str, run: str, code: int = 0) -> StartWrapper:
    return StartWrapper(path=path, env={"SP_JOB_NAME": "job", "SP_JOB_INSTANCE": run, "SAY_CODE": str(code)})


def plain(command: str, run: str, timeout_s: float = math.inf) -> StartPlain:
    return StartPlain(command=command, run=run, job="job", user=None, cwd=None, env={}, timeout_s=timeout_s)


@attrs.frozen
class Fleet:
    launcher: Launcher
    good: str  # the stand-in's path
    missing: str
    not_executable: str
    _log: Path

    def starts(self) -> list[str]:
        """A line `machine run` for each time that a stand-in ran, in no order."""
        return sorted(self._log.read_text().splitlines()) if self._log.exists() else []


def _on_disk(launcher: Launcher, directory: Path) -> Fleet:
    good, not_executable, log = directory / "wrapper.sh", directory / "plain.txt", directory / "starts.log"
    several = directory / "several.py"
    several.write_text(SEVERAL)
    good.write_text(SCRIPT.format(log=log, python=sys.executable, several=several))
    good.chmod(0o755)
    not_executable.write_text("not a program")
    return Fleet(launcher, str(good), str(directory / "nothing here"), str(not_executable), log)


@asynccontextmanager
async def fake_fleet(directory: Path) -> AsyncIterator[Fleet]:
    machines = {name: FakeMachine(start_delay_s=0.001, answer_delay_s=0.001) for name in MACHINES}
    fleet = _on_disk(FakeLauncher(machines), directory)

    def play(machine: str, call: Call) -> Reply | None:
        """Do what the stand-in and the shell do."""
        if isinstance(call, StartPlain):
            return COMMANDS[call.command]
        if not isinstance(call, StartWrapper):
            option = "--status" if type(call).__name__ == "AskStatus" else "--kill"
            return Reply(0, f"--attempt=1 {option}={getattr(call, 'run', '')}  on {machine}")
        if call.path != fleet.good:
            ending = MISSING if call.path == fleet.missing else NOT_EXECUTABLE
            return Reply(ending.code, ending.text.format(path=call.path))
        with Path(directory / "starts.log").open("a") as log:
            log.write(f"{machine} {call.env['SP_JOB_INSTANCE']}\n")
        return Reply(int(call.env["SAY_CODE"]), f"start {call.env['SP_JOB_INSTANCE']} on {machine}")

    for machine in machines.values():
        machine.on_start = machine.on_call = play
    yield fleet


@asynccontextmanager
async def local_fleet(directory: Path) -> AsyncIterator[Fleet]:
    async with serving(LocalLauncher(str(directory / "state"))) as launcher:
        yield _on_disk(launcher, directory)


@asynccontextmanager
async def salt_fleet(directory: Path, handle: LabHandle) -> AsyncIterator[Fleet]:
    async with serving(SaltLauncher(str(handle.lab.master_config))) as launcher:
        yield _on_disk(launcher, directory)
