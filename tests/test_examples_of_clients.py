"""The programs in docs/examples, run as their readers would."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.helpers.daemon import Daemon, local_daemon

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def daemon(tmp_path: Path, wrapper_file: Path) -> Iterator[Daemon]:
    with local_daemon(tmp_path, wrapper_file) as made:
        yield made


async def run(example: str, *arguments: str) -> tuple[int, str]:
    """Its exit code and what it printed."""
    command = (sys.executable, str(EXAMPLES / example), *arguments)
    with trio.fail_after(90):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


async def test_a_killed_job_is_dead(daemon: Daemon) -> None:
    tree = "trap '' TERM; (sleep 1000 &) ; echo working; sleep 1000"
    daemon.write(long={"command": tree, "targets": ["m1", "m2"], "kill_grace": 1})
    await daemon.start()
    code, said = await run("test_kill_job.py", "long", str(daemon.socket))
    assert code == 0, said
    assert said.count(": dead, with 143, and its output says why\n") == 2
    assert daemon.commands() == []
    assert await run("test_kill_job.py", "nothing", str(daemon.socket)) == (1, "nothing: there is no job 'nothing'\n")


async def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    code, said = await run("test_kill_job.py", "long", str(tmp_path / "control.sock"))
    assert code == 1
    assert "no saltpeter daemon answers at" in said
