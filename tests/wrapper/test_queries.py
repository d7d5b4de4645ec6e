"""--status, --kill and the rest of what one can ask the wrapper on a machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio

from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive, until
from tests.wrapper.daemon import Daemon
from tests.wrapper.test_faults import kill_everything


async def test_the_version(machine: Machine) -> None:
    assert await machine.ask("--version") == (0, "sp_wrapper 1.0.0\n")


async def test_help_and_nonsense(machine: Machine) -> None:
    code, said = await machine.ask("--help")
    assert code == 0
    assert "--status INSTANCE" in said
    assert (await machine.ask("--nonsense"))[0] == 2


async def test_the_status_of_a_run(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    assert await status(machine, "job_1") == {"state": "never seen", "version": "1.0.0"}

    go = tmp_path / "go"
    await machine.start("job_1", f"echo ready; {until(go)}; exit 4")
    await daemon.said("job_1", b"ready\n")
    pid = machine.processes("job_1").pid
    assert await status(machine, "job_1") == {"state": "running", "version": "1.0.0", "pid": pid}

    go.touch()
    await daemon.end_of("job_1")
    finished = {"state": "finished", "version": "1.0.0", "pid": pid, "retcode": 4, "outcome": "exited"}
    assert await status(machine, "job_1") == finished
    assert (await status(machine, "job_1", "--attempt", "2"))["state"] == "never seen"


async def test_a_run_that_died_with_its_wrapper_is_lost(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "echo ready; exec sleep 61")
    await daemon.said("job_1", b"ready\n")
    kill_everything(machine, "job_1")
    assert (await status(machine, "job_1"))["state"] == "lost"
    assert (await machine.ask("--kill", "job_1"))[0] == 0


async def test_a_command_that_lost_its_wrapper_can_be_killed(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "echo ready; sleep 61 | sleep 61")
    await daemon.said("job_1", b"ready\n")
    kill_everything(machine, "job_1", command=False)
    pid = machine.processes("job_1").pid
    assert alive(pid)
    code, said = await machine.ask("--kill", "job_1")
    assert (code, json.loads(said)["ended"]) == (0, True)
    assert not alive(pid)


async def test_a_kill_without_the_network(machine: Machine, daemon: Daemon) -> None:
    daemon.vanish()
    await machine.start("job_1", "sleep 61 | sleep 61", SP_KILL_GRACE="0.5")
    await eventually(lambda: machine.claim("job_1").processes())
    pid = machine.processes("job_1").pid
    code, said = await machine.ask("--kill", "job_1")
    answer = json.loads(said)
    assert (code, answer["ended"], answer["retcode"], answer["outcome"]) == (0, True, 143, "killed")
    assert not alive(pid)

    await daemon.come_back()
    assert (await daemon.end_of("job_1")).retcode == 143
    assert daemon.output["job_1"] == b"[Job terminated by user request]\n"
    assert (await machine.ask("--kill", "job_1"))[0] == 0, "it has ended, which is what was wanted"


async def test_a_kill_in_another_manner_than_the_order_has(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    daemon.vanish()
    trapped = tmp_path / "trapped"
    heeds_int = f"trap '' TERM; trap 'echo interrupted; exit 7' INT; >{trapped}; while :; do sleep 0.1; done"
    await machine.start("job_1", heeds_int, SP_KILL_GRACE="300")
    await eventually(trapped.exists)
    code, said = await machine.ask("--kill", "job_1", "--signal", "INT", "--grace", "60")
    assert (code, json.loads(said)["outcome"]) == (0, "killed")
    await daemon.come_back()
    await daemon.end_of("job_1")
    assert b"interrupted" in daemon.output["job_1"]


async def test_a_shorter_grace_is_kept(machine: Machine, daemon: Daemon) -> None:
    daemon.vanish()
    await machine.start("job_1", "trap '' TERM; while :; do sleep 0.1; done", SP_KILL_GRACE="300")
    await eventually(lambda: machine.claim("job_1").processes())
    with trio.fail_after(60):  # and not after five minutes
        code, said = await machine.ask("--kill", "job_1", "--grace", "0.2")
    assert (code, json.loads(said)["ended"]) == (0, True)


async def test_a_signal_that_is_none_is_refused(machine: Machine) -> None:
    code, said = await machine.ask("--kill", "job_1", "--signal", "HOP")
    assert (code, "no signal" in json.loads(said)["error"]) == (1, True)


async def test_a_kill_of_what_was_never_started(machine: Machine) -> None:
    code, said = await machine.ask("--kill", "job_9")
    assert (code, json.loads(said)) == (1, {"ended": False, "state": "never seen", "version": "1.0.0"})


@pytest.mark.parametrize("question", ["--status", "--kill"])
async def test_a_question_needs_the_machine(machine: Machine, question: str) -> None:
    env = {"PATH": os.environ["PATH"], "SP_STATEDIR": str(machine.statedir)}
    code, said = await machine.ask(question, "x", env=env)
    assert (code, json.loads(said)) == (1, {"error": "SP_MACHINE_ID is not set"})


async def status(machine: Machine, run: str, *more: str) -> dict[str, object]:
    code, said = await machine.ask("--status", run, *more)
    assert code == 0
    answer: dict[str, object] = json.loads(said)
    return answer
