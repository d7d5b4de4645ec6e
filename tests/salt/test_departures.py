"""Many jobs of one machine at once: they go out together, and each run ends as if it had been alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sp_wrapper import state
from tests.helpers.daemon import Daemon, eventually
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt

MANY = 40


def waited_for(daemon: Daemon) -> set[str]:
    """The jobs of Salt's that launches went out in."""
    return set(re.findall(r"Waiting for Salt to confirm wrapper execution for job (\S+)\.\.\.", daemon.log()))


@contextmanager
def locked(home: state.StateDir, job: str) -> Iterator[None]:
    """As if another run of the job went on there."""
    lock = state.lock(home.lock_of("m1", job), os.O_RDWR | os.O_CREAT)
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


async def test_of_forty_jobs_at_once_each_has_its_own_end_though_they_go_out_together(
    daemon: Daemon, salt_lab: LabHandle, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    jobs: dict[str, dict[str, Any]] = {
        f"job{number:02}": {"command": f"echo $SP_JOB_INSTANCE >>{journal}; echo {number}; exit {number}"}
        for number in range(MANY)
    }
    jobs["broken"] = {"command": f"echo broken >>{journal}", "user": "no-such-user"}
    jobs["held"] = {"command": f"echo held >>{journal}"}
    daemon.configure(respond_within=120)  # forty wrappers at once keep this one host busy for a while
    daemon.write(**{name: {**job, "targets": "m1"} for name, job in jobs.items()})
    with locked(state.StateDir(str(salt_lab.lab.statedir("m1"))), "held"):
        await daemon.start()
        async with daemon.watching(*jobs) as watch:
            runs = {name: await watch.run(name) for name in jobs}
            results = {name: (await watch.results(runs[name]))["m1"] for name in jobs}

    broken, held = results.pop("broken"), results.pop("held")
    assert (broken.code, "no-such-user" in broken.output) == (255, True)
    assert (held.code, "held is running on this machine" in held.output) == (254, True)
    for number, name in enumerate(sorted(results)):
        assert (results[name].code, results[name].output) == (number, f"{number}\n")
    assert sorted(journal.read_text().split()) == sorted(runs[name] for name in results)
    assert 1 <= len(waited_for(daemon)) < len(jobs), "how few depends on how fast they are asked for here"
    await eventually(lambda: not daemon.marked())


async def test_a_wrapper_that_takes_one_order_at_a_time_gets_them_so(
    daemon: Daemon, wrapper_file: Path, tmp_path: Path
) -> None:
    """As one from before does: it knows no such option, and says so."""
    older = tmp_path / "older"
    refuse = 'echo "sp_wrapper: error: unrecognized arguments: $1" >&2; exit 2'
    older.write_text(f'#!/bin/sh\ncase $1 in --orders) {refuse};; esac\nexec {wrapper_file} "$@"\n')
    older.chmod(0o755)
    daemon.configure(default_wrapper_path=str(older))
    names = [f"job{number}" for number in range(6)]
    daemon.write(**{name: {"command": "echo done", "targets": "m1"} for name in names})
    await daemon.start()
    async with daemon.watching(*names) as watch:
        for run in [await watch.run(name) for name in names]:
            ended = (await watch.results(run))["m1"]
            assert (ended.code, ended.output) == (0, "done\n")
    assert "m1 takes one order at a time" in daemon.log()
