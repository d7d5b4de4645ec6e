"""What must never be lost: the end and the output, whatever fails on the way. (Short times; see entry.py.)"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from sp_wrapper import state, tree, wire
from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive, names
from tests.wrapper.daemon import Daemon

SLOW_COUNT = "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.1; done"
COUNTED = b"".join(b"line %d\n" % i for i in range(1, 11))


async def test_the_daemon_goes_away_and_comes_back(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", SLOW_COUNT)
    await daemon.said("job_1", b"line 3\n")
    daemon.vanish()
    await trio.sleep(1)
    await daemon.come_back()
    end = await daemon.end_of("job_1")
    assert end.retcode == 0
    assert daemon.output["job_1"] == COUNTED
    assert daemon.connections >= 2


async def test_output_that_is_never_acknowledged_is_sent_again(impatient: Machine, daemon: Daemon) -> None:
    daemon.deaf = True
    await impatient.start("job_1", "echo hello")
    await daemon.wait(lambda: daemon.connections >= 2)
    assert not daemon.of("job_1", wire.Complete)
    daemon.deaf = False
    await daemon.end_of("job_1")
    assert daemon.output["job_1"] == b"hello\n"


async def test_a_refusal_is_asked_again_but_not_tightly(impatient: Machine, daemon: Daemon) -> None:
    daemon.refuse = "JOB_NOT_FOUND"
    await impatient.start("job_1", "echo hello")
    await trio.sleep(2)
    assert 3 < daemon.connections < 30
    daemon.refuse = ""
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"] == b"hello\n"


async def test_after_a_nack_it_goes_on_where_the_daemon_is(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", SLOW_COUNT)
    await daemon.said("job_1", b"line 2\n")
    await daemon.send("job_1", wire.Nack(expected_seq=0, received_seq=1))
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"] == COUNTED


@pytest.mark.parametrize(
    "place",
    [
        "account.end",
        "account.next_output",
        "conversation._handle_kill",
        "conversation._handle_ack",
        "conversation._send_complete",
        "ending.read_result",
        "link.send",
        "outbox.ack",
        "reporter.end",
        "spool.read",
    ],
)
async def test_a_bug_after_a_kill_loses_nothing(impatient: Machine, daemon: Daemon, place: str, tmp_path: Path) -> None:
    """The reporter dies of it, perhaps before it has handed over the kill, and another goes on."""
    marker = tmp_path / "fail-now"
    await impatient.start("job_1", "echo ready; exec sleep 61", TEST_FAIL=place, TEST_MARKER=str(marker))
    await daemon.said("job_1", b"ready\n")
    marker.touch()
    daemon.killing = True
    await daemon.send("job_1", wire.Kill(grace=1))
    end = await daemon.end_of("job_1")
    assert not marker.exists(), "the fault did not happen"
    assert (end.retcode, end.outcome) == (143, "killed")
    assert daemon.output["job_1"] == b"ready\n[Job terminated by user request]\n"


async def test_killing_the_reporter_loses_nothing(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", SLOW_COUNT)
    await daemon.said("job_1", b"line 3\n")
    for reporter in reporters(impatient, "job_1"):
        os.kill(reporter, signal.SIGKILL)
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (0, "exited")
    assert daemon.output["job_1"] == COUNTED


async def test_killing_the_supervisor_is_reported(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", "echo ready; exec sleep 61")
    await daemon.said("job_1", b"ready\n")
    processes = impatient.processes("job_1")
    os.kill(processes.supervisor, signal.SIGKILL)
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (255, "error")
    assert end.error.endswith(f"not known; the command (pid {processes.pid}) is still running")


async def test_what_died_altogether_is_delivered_by_the_next_wrapper(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", "echo ready; exec sleep 61")
    await daemon.said("job_1", b"ready\n")
    kill_everything(impatient, "job_1")
    await impatient.start("other_1", "true")
    await daemon.end_of("other_1")
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome, end.length) == (255, "error", len(b"ready\n"))
    await eventually(lambda: not names(impatient.statedir / "pending"))


async def test_what_was_never_heard_is_delivered_by_report(impatient: Machine, daemon: Daemon) -> None:
    daemon.vanish()
    await impatient.start("job_1", "echo hello; exit 7", SP_REPORT_FOR_S="0.1")
    await eventually(lambda: (impatient.statedir / "pending").is_dir() and impatient.claim("job_1").processes())
    supervisor = impatient.processes("job_1").supervisor
    await eventually(lambda: not alive(supervisor))
    await daemon.come_back()
    assert await impatient.ask("--report") == (0, '{"delivered": 1, "left": 0}\n')
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (7, "exited")
    assert daemon.output["job_1"] == b"hello\n"


async def test_out_of_reach_the_middle_of_too_much_output_is_cut(impatient: Machine, daemon: Daemon) -> None:
    daemon.vanish()
    lines = 40_000
    await impatient.start("job_1", f"seq -f %09.0f {lines}", SP_OUTPUT_LIMIT="100000")
    await eventually(lambda: state.read(impatient.claim("job_1").file("result")))
    assert spooled(impatient, "job_1") < 150_000
    await daemon.come_back()
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.length) == (0, lines * 10)
    kept = bytes(daemon.output["job_1"])
    assert len(kept) + daemon.cuts["job_1"] == end.length
    assert 80_000 < len(kept) < 150_000
    assert kept[:10] == b"000000001\n"
    assert kept[-10:] == b"%09d\n" % lines


def spooled(machine: Machine, run: str) -> int:
    """Bytes of output on disk."""
    return sum(path.stat().st_size for path in Path(machine.claim(run).path).glob("out.*"))


async def test_whoever_reports_shows_the_same_secret(impatient: Machine, daemon: Daemon, tmp_path: Path) -> None:
    """Through crashes of the reporter, and of the whole wrapper; and no other run has it, nor the command."""
    await impatient.start("job_1", f"env; until [ -e {tmp_path / 'go'} ]; do sleep 0.05; done", SP_SECRET="given")
    await daemon.wait(lambda: daemon.of("job_1", wire.Start))
    for reporter in reporters(impatient, "job_1"):
        os.kill(reporter, signal.SIGKILL)
    await daemon.wait(lambda: len(daemon.of("job_1", wire.Connect)) == 2)
    kill_everything(impatient, "job_1")
    await impatient.start("job_2", "true")
    await daemon.end_of("job_1")
    secrets = {hello.secret for hello in daemon.of("job_1", wire.Connect)}
    assert len(secrets) == 1
    assert len(secret := secrets.pop()) == 48
    assert secret not in {hello.secret for hello in daemon.of("job_2", wire.Connect)}
    assert secret.encode() not in daemon.output["job_1"]
    assert b"SP_SECRET" not in daemon.output["job_1"]


def reporters(machine: Machine, run: str) -> list[int]:
    """The supervisor's children in its own session."""
    supervisor = tree.look(machine.processes(run).supervisor)
    assert supervisor is not None
    everything = tree.everything()
    return [proc.pid for proc in everything if proc.parent == supervisor.pid and proc.session == supervisor.session]


def kill_everything(machine: Machine, run: str, *, command: bool = True) -> None:
    processes = machine.processes(run)
    doomed = [processes.supervisor, *reporters(machine, run), *([processes.pid] if command else [])]
    os.kill(processes.supervisor, signal.SIGSTOP)  # it must not start another reporter
    for pid in reversed(doomed):
        os.kill(pid, signal.SIGKILL)
