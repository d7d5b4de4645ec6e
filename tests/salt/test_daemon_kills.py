"""A kill kills, the whole tree, and says what died: on a real daemon, a real master and three minions."""

from __future__ import annotations

import shlex
import sys
from functools import partial

import pytest

from saltpeter.domain.outcome import TERMINATED_TEXT
from tests.helpers.daemon import Daemon, Process, Watch, eventually

pytestmark = pytest.mark.salt

ALL = ["m1", "m2", "m3"]
GRACE_S = 2

# What a daemon does to get away from whoever started it; it leaves a grandchild that ignores TERM.
DAEMONISE = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(900)
    os._exit(0)
os.wait()
print("left one behind", flush=True)
time.sleep(900)
"""

STUBBORN = "trap 'echo not yet' TERM; echo begun; while :; do sleep 0.2; done"
DAEMONISING = f"exec {sys.executable} -c {shlex.quote(DAEMONISE)}"
PIPELINE = "echo begun; yes | sort | cat"


def has_begun(watch: Watch, run: str, machine: str, output: str) -> bool:
    return watch.output(run, machine) == output


def pids(processes: list[Process]) -> set[int]:
    return {process.pid for process in processes}


async def test_a_kill_ends_every_process_and_names_it(daemon: Daemon) -> None:
    killable = {"kill_grace": GRACE_S}
    daemon.write(
        stubborn={**killable, "command": STUBBORN},
        daemonising={**killable, "command": DAEMONISING, "targets": "m1"},
        pipeline={**killable, "command": PIPELINE, "targets": "m2"},
    )
    await daemon.start()
    begun = {"stubborn": "begun\n", "daemonising": "left one behind\n", "pipeline": "begun\n"}
    async with daemon.watching(*begun) as watch:
        runs = {job: await watch.run(job) for job in begun}
        targets = {"stubborn": ALL, "daemonising": ["m1"], "pipeline": ["m2"]}
        for job, run in runs.items():
            for machine in targets[job]:
                await watch.until(partial(has_begun, watch, run, machine, begun[job]))
        await eventually(lambda: len(daemon.commands("pipeline")) == 4)
        lasting = {job: pids(daemon.commands(job)) for job in ("daemonising", "pipeline")}

        for job, run in runs.items():
            took_s = await watch.kill(job)
            assert took_s < GRACE_S + 1
            assert daemon.commands(job) == []
            ended = await watch.results(run)
            for machine in targets[job]:
                assert (ended[machine].code, ended[machine].end) == (143, "killed")
                assert ended[machine].output.startswith(begun[job])
                assert ended[machine].output.endswith(f"{TERMINATED_TEXT}\n")
                receipt = watch.receipts[run][machine]["receipt"]
                assert receipt["survived"] == []
                assert receipt["signalled"] == receipt["ended"]
                if job in lasting:
                    assert {process["pid"] for process in receipt["ended"]} == lasting[job]
    log = daemon.log()
    for machine in ALL:
        told = f"{runs['stubborn']}:{machine}"
        positions = [
            log.index("WebSocket: Kill command received for job stubborn"),
            log.index(f"WebSocket: Sent kill signal to {told}"),
            log.index(f"WebSocket: Killed the processes of {told}"),
            log.index(f"WebSocket: Received complete message from {told}, retcode=143"),
            log.index(f"WebSocket: Updated state for stubborn[{machine}] with endtime="),
            log.index(f"WebSocket: Job completed - {told} (exit code: 143)"),
            log.index("WebSocket: All targets completed for stubborn, exiting monitor loop"),
        ]
        ended_at = positions.pop(-2)  # its ack goes out while the run's end is on its way
        assert positions == sorted(positions)
        assert ended_at > positions[-2]


async def test_the_command_line_runs_and_kills(daemon: Daemon) -> None:
    daemon.write(long={"command": "echo begun; sleep 900"})
    await daemon.start()
    async with daemon.watching("long") as watch:
        started = await daemon.command("run", "long")
        assert (started.returncode, started.stderr) == (0, b"")
        run = started.stdout.decode().removeprefix("started ").strip()
        await watch.until(lambda: all(watch.output(run, machine) == "begun\n" for machine in ALL))

        one = await daemon.command("kill", "long", "m2")
        assert (one.returncode, one.stderr.decode()) == (0, f"{run}: asked 1 of its machines to end it\n")
        assert one.stdout.decode() == f"{run} on m2: killed (143), 2 of 2 processes ended\n"
        assert daemon.wrappers("m1")  # named as Salt knows it, and not by the host that it shares with the others
        await eventually(lambda: daemon.wrappers("m2") == [])
        assert len(daemon.commands()) == 4

        rest = await daemon.command("kill", "long")
        assert (rest.returncode, rest.stderr.decode()) == (0, f"{run}: asked 2 of its machines to end it\n")
        assert [line.split()[2] for line in rest.stdout.decode().splitlines()] == ["m1:", "m3:"]
        assert {each.code for each in (await watch.results(run)).values()} == {143}
    again = await daemon.command("kill", "long")
    assert (again.returncode, again.stderr.decode()) == (1, "saltpeter: long is not running\n")
    assert daemon.commands() == []
