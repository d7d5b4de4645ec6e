"""Whole runs: the built file, real processes, a daemon on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import sys
from pathlib import Path

import pytest
import trio

from sp_wrapper import tree, wire
from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive, names, until
from tests.wrapper.daemon import Daemon

EVERY_BYTE = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40 + 'é€😀\\r\\n\\x1b[31m'.encode() * 20000)"
MANY_BYTES = "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(5_000_000))"


async def test_a_command_is_run_and_reported(machine: Machine, daemon: Daemon) -> None:
    code, said = await machine.start("job_1", "echo out; echo err >&2; printf wörld; exit 3")
    assert (code, said) == (0, "sp_wrapper 1.0.0 started job_1\n")

    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome, end.length) == (3, "exited", len("out\nerr\nwörld".encode()))
    assert daemon.output["job_1"] == "out\nerr\nwörld".encode()
    assert end.started is not None
    assert end.ended is not None
    assert end.ended >= end.started
    assert end.rusage is not None
    assert end.rusage.max_rss > 0

    connect, start = daemon.of("job_1", wire.Connect)[0], daemon.of("job_1", wire.Start)[0]
    assert (connect.version, connect.token, connect.attempt) == ("1.0.0", "secret-token", 1)
    assert start.pid == machine.processes("job_1").pid
    assert daemon.of("job_1", wire.Heartbeat)


async def test_a_command_that_dies_of_a_signal_has_128_and_its_number(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "kill -SEGV $$")
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (139, "exited")


async def test_when_it_is_delivered_only_the_claim_is_left(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "echo done")
    await daemon.end_of("job_1")
    await eventually(lambda: not names(machine.statedir / "pending"))
    assert names(Path(machine.claim("job_1").path)) == ["processes", "result"]
    await eventually(lambda: not alive(machine.processes("job_1").supervisor))

    code, said = await machine.start("job_1", "echo again")
    assert code == 254
    assert said == "sp_wrapper 1.0.0 refused: job_1 (attempt 1) was claimed on this machine before\n"
    assert not names(machine.statedir / "pending")

    code, _ = await machine.start("job_1", "echo again", SP_ATTEMPT="2")
    assert code == 0
    await daemon.wait(lambda: len(daemon.of("job_1", wire.Complete)) == 2)


@pytest.mark.parametrize("program", [EVERY_BYTE, MANY_BYTES])
async def test_output_is_byte_exact(machine: Machine, daemon: Daemon, program: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(program)
    expected = await trio.run_process([sys.executable, str(script)], capture_stdout=True)

    daemon.hang_up_after = 7
    await machine.start("job_1", f"{sys.executable} {script}")
    end = await daemon.end_of("job_1")
    assert end.length == len(expected.stdout)
    assert hashlib.sha256(daemon.output["job_1"]).digest() == hashlib.sha256(expected.stdout).digest()
    assert not daemon.cuts.get("job_1")
    assert max(len(output.data) for output in daemon.of("job_1", wire.Output)) <= wire.MAX_CHUNK


async def test_no_character_is_torn_between_two_messages(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    """Each message of text is UTF-8 by itself, so a viewer can show it as it comes."""
    go, euro = tmp_path / "go", r"\342\202"
    await machine.start("job_1", rf"printf 'a{euro}'; {until(go)}; printf '\254b'; sleep 0.2; printf 'end{euro}'")
    await daemon.said("job_1", b"a")
    go.touch()
    await daemon.end_of("job_1")
    pieces = [output.data for output in daemon.of("job_1", wire.Output)]
    assert b"".join(pieces) == b"a\xe2\x82\xacbend\xe2\x82"
    assert pieces[0] == b"a"
    assert all(piece.decode() for piece in pieces[:-1])


async def test_a_background_child_does_not_hold_up_the_end(machine: Machine, daemon: Daemon) -> None:
    before = trio.current_time()
    await machine.start("job_1", "sleep 7 & echo $! ; echo started")
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (0, "exited")
    assert trio.current_time() - before < 3
    child = tree.look(int(daemon.output["job_1"].split()[0]))
    assert child is not None, "it must be left alive"
    assert child.name == "sleep"
    tree.send(child.pid, 9)


async def test_the_command_gets_nothing_that_it_should_not_have(machine: Machine, daemon: Daemon) -> None:
    script = f"{sys.executable} {Path(__file__).with_name('inherited.py')}"
    await machine.start("job_1", script, PLAIN="kept", SP_TIMEOUT="60")
    await daemon.end_of("job_1")
    seen = json.loads(daemon.output["job_1"])
    env = seen["env"]
    assert {key for key in env if key.startswith("SP_")} == {"SP_JOB_NAME", "SP_JOB_INSTANCE"}
    assert (env["SP_JOB_NAME"], env["SP_JOB_INSTANCE"], env["PLAIN"]) == ("job", "job_1", "kept")
    assert "secret-token" not in json.dumps(seen)
    assert seen["fds"] == {"0": "/dev/null", "1": "pipe", "2": "pipe"}
    assert (seen["ignored"], seen["blocked"]) == ([], [])
    assert seen["session"] == seen["leader"]


async def test_the_command_runs_where_it_should(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    await machine.start("job_1", "pwd", SP_CWD=str(tmp_path))
    await daemon.end_of("job_1")
    assert daemon.output["job_1"].decode() == f"{tmp_path}\n"


async def test_a_missing_directory_is_an_error_that_says_so(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "pwd", SP_CWD="/no/such/place")
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (255, "error")
    assert end.error == "the working directory '/no/such/place' cannot be entered: No such file or directory"
    assert not daemon.of("job_1", wire.Start)


async def test_an_unknown_user_is_an_error_that_says_so(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", "id", SP_USER="no-such-user")
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (255, "error")
    assert end.error == "user 'no-such-user' does not exist on this machine"


@pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN CHANGE THE USER: run the tests as root, too")
async def test_the_command_runs_as_its_user(machine: Machine, daemon: Daemon) -> None:
    command = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; pwd"
    expected = await trio.run_process(["sh", "-c", "id -u nobody; id -g nobody; id -G nobody"], capture_stdout=True)
    await machine.start("job_1", command, SP_USER="nobody")
    end = await daemon.end_of("job_1")
    assert end.retcode == 0
    home = pwd.getpwnam("nobody").pw_dir
    where = home if await trio.Path(home).is_dir() else "/"
    assert daemon.output["job_1"].decode() == f"{expected.stdout.decode()}{home} nobody nobody\n{where}\n"


async def test_a_jobs_lock_keeps_a_second_run_out(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    assert (await machine.start("job_1", until(go)))[0] == 0
    code, said = await machine.start("job_2", "echo no")
    assert code == 254
    assert said == "sp_wrapper 1.0.0 refused: job is running on this machine: job_1 holds its lock\n"
    assert json.loads((await machine.ask("--status", "job_2"))[1])["state"] == "refused"
    assert (await machine.start("job_3", "echo allowed", SP_ALLOW_OVERLAP="1"))[0] == 0
    await daemon.end_of("job_3")
    go.touch()
    await daemon.end_of("job_1")
    assert (await machine.start("job_4", "echo free"))[0] == 0
    await daemon.end_of("job_4")


async def test_the_lock_is_free_as_soon_as_the_command_has_ended(machine: Machine, daemon: Daemon) -> None:
    """...even while the daemon is out of reach and the end cannot be told yet."""
    daemon.refuse = "JOB_NOT_FOUND"
    await machine.start("job_1", "true", SP_LOCKFILE=str(machine.statedir.parent / "lock"))
    await eventually(lambda: Path(machine.claim("job_1").file("result")).exists())
    assert (await machine.start("job_2", "true", SP_LOCKFILE=str(machine.statedir.parent / "lock")))[0] == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SP_COMMAND", "", "SP_COMMAND is not set"),
        ("SP_TIMEOUT", "soon", "SP_TIMEOUT must be a number, not 'soon'"),
        ("SP_WEBSOCKET_URL", "http://x/", "SP_WEBSOCKET_URL must start with ws:// or wss://, not 'http://x/'"),
        ("SP_KILL_SIGNAL", "NOISE", "SP_KILL_SIGNAL must name a signal, not 'NOISE'"),
    ],
)
async def test_a_broken_order_names_the_variable(machine: Machine, variable: str, value: str, said: str) -> None:
    extra = {variable: value}
    env = machine.env("job_1", "true", extra)
    assert await machine.ask(env=env) == (255, f"sp_wrapper 1.0.0 {said}\n")


async def test_a_state_directory_open_to_others_is_not_trusted(machine: Machine) -> None:
    machine.statedir.mkdir(mode=0o755)
    code, said = await machine.start("job_1", "true")
    assert code == 255
    assert "is open to others (mode 0755)" in said
    machine.statedir.chmod(0o700)
