from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
import trio

from sp_wrapper import claim, state, tree
from sp_wrapper.claim import Processes
from tests.wrapper.daemon import Daemon, running_daemon

ENTRY = Path(__file__).with_name("entry.py")


def alive(pid: int) -> bool:
    found = tree.look(pid)
    return found is not None and found.state not in tree.DEAD


def until(file: Path) -> str:
    """Shell: wait until the test makes `file`."""
    return f"until [ -e {file} ]; do sleep 0.05; done"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@attrs.frozen
class Machine:
    """A machine with a state directory of its own, and the wrapper on it."""

    statedir: Path
    command: tuple[str, ...]
    url: str

    def env(self, run: str, command: str, extra: Mapping[str, str]) -> dict[str, str]:
        own = {
            "PATH": os.environ["PATH"],
            "SP_WEBSOCKET_URL": self.url,
            "SP_JOB_NAME": run.rpartition("_")[0],
            "SP_JOB_INSTANCE": run,
            "SP_MACHINE_ID": "m1",
            "SP_TOKEN": "secret-token",
            "SP_STATEDIR": str(self.statedir),
            "SP_COMMAND": command,
            "SP_KILL_GRACE": "1",
            "SP_OUTPUT_INTERVAL_MS": "50",
        }
        return {key: value for key, value in {**own, **extra}.items() if value}

    async def start(self, run: str, command: str, **extra: str) -> tuple[int, str]:
        """Run the wrapper's foreground part. Answers its exit code and what it said."""
        return await self.ask(env=self.env(run, command, extra))

    async def ask(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        env = env or {"PATH": os.environ["PATH"], "SP_MACHINE_ID": "m1", "SP_STATEDIR": str(self.statedir)}
        with trio.fail_after(15):
            done = await trio.run_process(
                [*self.command, *arguments],
                env=dict(env),
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return done.returncode, done.stdout.decode()

    def claim(self, run: str, attempt: int = 1) -> claim.Claim:
        home = state.StateDir(str(self.statedir))
        return claim.Claim(home, home.run_of("m1", run, attempt))

    def processes(self, run: str) -> Processes:
        found = self.claim(run).processes()
        assert found is not None
        return found

    def end_everything(self) -> None:
        """End what tests left behind: supervisors with all that is below them, and commands that lost theirs."""
        home = state.StateDir(str(self.statedir))
        for run in names(self.statedir / "runs"):
            processes = _processes_of(claim.Claim(home, run))
            if processes is not None:
                _end(processes)


def _processes_of(own: claim.Claim) -> Processes | None:
    """Who works on the claim; a wrapper that has only just started is waited for."""
    for _ in range(250):
        if own.processes() is not None or not own.is_worked_on():
            break
        time.sleep(0.02)
    return own.processes()


def _end(processes: Processes) -> None:
    everything = tree.everything()
    doomed = tree.of_session(processes.pid, processes.pid_start, everything) if processes.pid else []
    supervisor = tree.look(processes.supervisor)
    if supervisor is not None and supervisor.start == processes.supervisor_start:
        doomed += [supervisor, *tree.below(supervisor.pid, everything, own_session=-1)]
    for proc in doomed:
        tree.send(proc.pid, signal.SIGKILL)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with running_daemon() as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, wrapper_file: Path, daemon: Daemon) -> Iterator[Machine]:
    """A machine with the built file."""
    made = Machine(tmp_path / "state", (str(wrapper_file),), f"ws://127.0.0.1:{daemon.port}/ws")
    yield made
    made.end_everything()


@pytest.fixture
def impatient(tmp_path: Path, daemon: Daemon) -> Iterator[Machine]:
    """A machine whose wrapper waits short times only, and can be made to fail; see entry.py."""
    made = Machine(tmp_path / "state", (sys.executable, str(ENTRY)), f"ws://127.0.0.1:{daemon.port}/ws")
    yield made
    made.end_everything()
