"""Ending a command ends its whole tree, and says what became of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from sp_wrapper import wire
from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive, until
from tests.wrapper.daemon import Daemon

STUBBORN = "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done"
PIPELINE = "echo ready; sleep 61 | sleep 61 | cat"
DAEMONISED = f"{sys.executable} {Path(__file__).with_name('daemonise.py')}; echo ready; sleep 61"
SELF_STOPPED = "sh -c 'kill -STOP $$' & echo ready; wait"

SAID_ON_A_KILL = [
    "[WRAPPER] Received kill signal",
    "[WRAPPER] Process terminated, preparing to send completion",
    "[WRAPPER] Exited main loop, killed=True, retcode=143",
    "[WRAPPER] About to send completion message, retcode=143",
    "[WRAPPER] Completion message sent successfully",
]


def living(receipt: wire.Receipt) -> list[wire.Process]:
    return [proc for proc in receipt.signalled if alive(proc.pid)]


@pytest.mark.parametrize(
    ("command", "processes"),
    [(STUBBORN, 1), (PIPELINE, 4), (DAEMONISED, 3), (SELF_STOPPED, 2), ("echo ready; exec sleep 61", 1)],
)
async def test_a_kill_ends_the_whole_tree(machine: Machine, daemon: Daemon, command: str, processes: int) -> None:
    await machine.start("job_1", command)
    await daemon.said("job_1", b"ready\n")
    await trio.sleep(0.3)
    before = trio.current_time()
    await daemon.send("job_1", wire.Kill(grace=0.7))
    end = await daemon.end_of("job_1")
    assert trio.current_time() - before < 0.7 + 1
    assert (end.retcode, end.outcome) == (143, "killed")
    assert end.receipt is not None
    assert len(end.receipt.signalled) >= processes
    assert not end.receipt.survived
    assert {proc.pid for proc in end.receipt.ended} == {proc.pid for proc in end.receipt.signalled}
    assert not living(end.receipt)
    assert daemon.output["job_1"].endswith(b"\n[Job terminated by user request]\n")


async def test_a_kill_is_told_in_order(machine: Machine, daemon: Daemon) -> None:
    """Received, ended, last output, complete; nothing after that but the close."""
    await machine.start("job_1", "printf half; exec sleep 61", SP_WRAPPER_LOGLEVEL="debug")
    await daemon.said("job_1", b"half")
    await daemon.send("job_1", wire.Kill())
    await daemon.wait(lambda: len(daemon.of("job_1", wire.Log)) == len(SAID_ON_A_KILL))
    assert [log.text for log in daemon.of("job_1", wire.Log)] == SAID_ON_A_KILL
    assert {log.level for log in daemon.of("job_1", wire.Log)} == {"debug"}
    assert daemon.output["job_1"] == b"half\n[Job terminated by user request]\n"
    told = [
        frame.message for frame in daemon.frames if isinstance(frame.message, (wire.Killed, wire.Output, wire.Complete))
    ]
    assert [type(message) for message in told] == [wire.Output, wire.Output, wire.Killed, wire.Complete]
    await eventually(lambda: not alive(machine.processes("job_1").supervisor))


async def test_a_command_that_ends_by_itself_on_term_was_killed_all_the_same(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    await daemon.said("job_1", b"ready\n")
    await daemon.send("job_1", wire.Kill())
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (143, "killed")
    assert b"bye\n" in daemon.output["job_1"]


async def test_the_first_signal_can_be_another(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "trap 'echo int; exit 0' INT; echo ready; while :; do sleep 0.05; done")
    await daemon.said("job_1", b"ready\n")
    await daemon.send("job_1", wire.Kill(signal="INT"))
    await daemon.end_of("job_1")
    assert daemon.output["job_1"].startswith(b"ready\nint\n")


async def test_a_timeout_kills_the_tree_with_the_network_cut(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", PIPELINE, SP_TIMEOUT="0.8")
    await daemon.said("job_1", b"ready\n")
    pid = machine.processes("job_1").pid
    daemon.vanish()
    await eventually(lambda: not alive(pid))
    await daemon.come_back()
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (124, "timeout")
    assert end.receipt is not None
    assert not living(end.receipt)
    assert daemon.output["job_1"] == b"ready\n[Job exceeded timeout of 0.8 seconds]\n"


async def test_time_that_the_command_is_paused_does_not_count(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    await machine.start("job_1", f"echo ready; {until(go)}; echo done", SP_TIMEOUT="2")
    await daemon.said("job_1", b"ready\n")
    await daemon.send("job_1", wire.Signal(signal="STOP"))
    await trio.sleep(2.2)
    assert not daemon.of("job_1", wire.Complete)
    go.touch()
    await daemon.send("job_1", wire.Signal(signal="CONT"))
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (0, "exited")
    assert daemon.output["job_1"] == b"ready\ndone\n"


async def test_a_signal_reaches_the_tree(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done")
    await daemon.said("job_1", b"ready\n")
    await trio.sleep(0.1)
    await daemon.send("job_1", wire.Signal(signal="USR1"))
    end = await daemon.end_of("job_1")
    assert end.outcome == "exited"
    assert b"usr1" in daemon.output["job_1"]
