"""Whatever dies, every run ends, and ends right: on a real daemon, a real master and three minions."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio

from saltpeter.domain.outcome import LEASE_S
from tests.helpers.daemon import Daemon, eventually, kill
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt

ALL = ["m1", "m2", "m3"]

# About a megabyte, in bursts.
CHATTY = """
echo $SP_JOB_INSTANCE >>{journal}
for round in $(seq 1 30); do seq $round 20 100000; sleep 0.2; done
echo end
"""


def chatter() -> str:
    """What that writes."""
    lines = (f"{number}\n" for first in range(1, 31) for number in range(first, 100_001, 20))
    return "".join(lines) + "end\n"


async def test_a_wrapper_that_dies_is_missed_and_a_reporter_that_dies_is_replaced(
    daemon: Daemon, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    daemon.write(guarded={"command": f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; exit 7"})
    await daemon.start()
    async with daemon.watching("guarded") as watch:
        run = await watch.run("guarded")
        await watch.until(lambda: all(watch.output(run, machine) == "begun\n" for machine in ALL))
        doomed = daemon.wrappers("m1")
        for process in doomed:
            os.kill(process.pid, signal.SIGSTOP)  # so that none of them tells of another's end
        for process in doomed:
            kill(process.pid)
        _, reporter = daemon.wrappers("m2")
        kill(reporter.pid)
        await watch.until(lambda: watch.started(run, "m1"))
        await watch.until(lambda: watch.details["guarded"]["results"]["m1"]["retcode"] != "")
        go.touch()
        ended = await watch.results(run)
    assert (ended["m1"].code, ended["m1"].end) == (253, "lost")
    assert "[SALTPETER ERROR: Job lost connection - no heartbeat for 15 seconds]" in ended["m1"].output
    last_heard = ended["m1"].raw["last_heartbeat"] or ended["m1"].raw["starttime"]
    silence = ended["m1"].ended_at - datetime.fromisoformat(last_heard)
    assert abs(silence - timedelta(seconds=LEASE_S)) < timedelta(seconds=3)
    for machine in ("m2", "m3"):
        assert (ended[machine].code, ended[machine].end, ended[machine].output) == (7, "exited", "begun\n")
    assert daemon.log().count(f"WebSocket: Client connected - {run}:m2") == 2


async def test_the_end_that_a_dead_wrapper_left_is_delivered_by_the_next_one(
    daemon: Daemon, salt_lab: LabHandle, wrapper_file: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    daemon.write(orphaned={"command": f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo end; exit 7"})
    daemon.write("others", other={"command": "echo other", "targets": "m2"})
    await daemon.start()
    async with daemon.watching("orphaned") as watch:
        run = await watch.run("orphaned")
        await watch.until(lambda: all(watch.output(run, machine) == "begun\n" for machine in ALL))
    await daemon.signal(signal.SIGKILL)
    go.touch()
    await eventually(lambda: not daemon.commands())
    recorded = salt_lab.lab.directory.glob  # a wrapper records the end before it tries to report it
    await eventually(lambda: len([path for path in recorded("m*/wrapper/runs/*/result") if knows(path, run)]) == 3)
    for machine in ALL:
        for process in daemon.wrappers(machine):
            kill(process.pid)
    await eventually(lambda: not daemon.marked())

    await daemon.start()
    async with daemon.watching("orphaned") as watch:
        asked = ("m1", "m3")
        for machine in asked:  # by hand, as an operator may
            env = {**os.environ, "SP_STATEDIR": str(salt_lab.lab.statedir(machine)), "SP_REPORT_FOR_S": "10"}
            told = await trio.run_process([str(wrapper_file), "--report"], env=env, capture_stdout=True)
            assert json.loads(told.stdout) == {"delivered": 1, "left": 0}
        await watch.run("other")  # and by the next wrapper that has anything to do there
        ended = await watch.results(run)
    assert {machine: (each.code, each.output) for machine, each in ended.items()} == dict.fromkeys(
        ALL, (7, "begun\nend\n")
    )


def knows(path: Path, run: str) -> bool:
    """Is this the claim of `run`, with its end in it?"""
    order = path.with_name("order")
    return order.exists() and run.encode() in order.read_bytes() and path.stat().st_size > 0


async def test_a_killed_daemon_costs_nothing(daemon: Daemon, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    daemon.write(chatty={"command": CHATTY.format(journal=journal)})
    await daemon.start()
    async with daemon.watching("chatty") as watch:
        run = await watch.run("chatty")
        await watch.until(lambda: all(len(watch.output(run, machine)) > 100_000 for machine in ALL))
    await daemon.signal(signal.SIGKILL)
    assert len({process.env["SP_MACHINE_ID"] for m in ALL for process in daemon.wrappers(m)}) == 3
    await trio.sleep(1)  # what the commands write now, nobody takes
    await daemon.start()
    async with daemon.watching("chatty") as watch:
        assert f"Taking up {run} again" in daemon.log()
        ended = await watch.results(run)
    right = hashlib.sha256(chatter().encode()).hexdigest()
    for each in ended.values():
        assert (each.code, each.end) == (0, "exited")
        assert hashlib.sha256(each.output.encode()).hexdigest() == right
    assert journal.read_text() == f"{run}\n" * 3
    await eventually(lambda: not daemon.marked())


async def test_a_stopped_daemon_leaves_commands_running(daemon: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    daemon.write(patient={"command": f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo end; exit 4"})
    await daemon.start()
    async with daemon.watching("patient") as watch:
        run = await watch.run("patient")
        await watch.until(lambda: all(watch.output(run, machine) == "begun\n" for machine in ALL))
    with trio.fail_after(5):
        assert await daemon.signal(signal.SIGTERM) == 0
    assert daemon.log().endswith(" Stopped\n")
    assert len(daemon.commands()) >= len(ALL)
    go.touch()
    await eventually(lambda: not daemon.commands())
    await daemon.start()
    async with daemon.watching("patient") as watch:
        ended = await watch.results(run)
    assert {machine: (each.code, each.output) for machine, each in ended.items()} == dict.fromkeys(
        ALL, (4, "begun\nend\n")
    )
