"""Secrets: the order names them, the connection brings them, only the command has them. Real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from sp_wrapper import channel, frames, wire
from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive, names, until
from tests.wrapper.daemon import Daemon
from tests.wrapper.test_faults import reporters

VALUE = "hunter2 =\n€ over 'two' lines"
SAY_IT = 'printf %s "$PASSWORD"'
NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
HEAD = {"job_name": "j", "job_instance": "j_1", "machine": "m", "timestamp": NOON.isoformat()}


def given(**env: str) -> wire.Secrets:
    return wire.Secrets(env=env)


async def wanted(daemon: Daemon, run: str, times: int = 1) -> None:
    """Wait until the wrapper has asked so often."""
    await daemon.wait(lambda: sum(hello.wants_secrets for hello in daemon.of(run, wire.Connect)) >= times)


def environ(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def held(folder: Path) -> bytes:
    """All that lies in files below `folder`, where wrappers may be at work."""
    found = b""
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            found += file.read_bytes()
    return found


async def test_the_command_sees_them_and_nobody_else_does(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    daemon.secrets = given(PASSWORD=VALUE, UNASKED="nobody's")
    go = tmp_path / "go"
    command = f'{until(go)}; {SAY_IT}; printf \'|%s\' "$PLAIN" "$UNASKED" "$SP_SECRETS"'
    log = {"SP_WRAPPER_LOGDIR": str(tmp_path), "SP_WRAPPER_LOGLEVEL": "debug"}
    await machine.start("job_1", command, SP_SECRETS="PASSWORD", PLAIN="plain", **log)
    await daemon.wait(lambda: daemon.of("job_1", wire.Start))
    processes = machine.processes("job_1")
    assert daemon.of("job_1", wire.Start)[0].pid == processes.pid
    assert VALUE.encode() in environ(processes.pid)
    for pid in (processes.supervisor, *reporters(machine, "job_1")):
        assert b"hunter2" not in environ(pid)
    assert b"hunter2" not in held(tmp_path)

    go.touch()
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"].decode() == f"{VALUE}|plain||"
    await eventually(lambda: not names(machine.statedir / "pending"))
    assert b"hunter2" not in held(tmp_path)


async def test_they_are_wanted_until_the_command_has_started(
    impatient: Machine, daemon: Daemon, tmp_path: Path
) -> None:
    daemon.vanish()
    await impatient.start("job_1", f"{until(tmp_path / 'go')}; {SAY_IT}", SP_SECRETS="PASSWORD")
    await daemon.come_back()
    await wanted(daemon, "job_1")
    assert not daemon.of("job_1", wire.Start)
    assert json.loads((await impatient.ask("--status", "job_1"))[1]) == {"state": "running", "version": "1.0.0"}
    daemon.vanish()  # the daemon is restarted while the wrapper waits
    daemon.secrets = given(PASSWORD=VALUE)
    await daemon.come_back()
    await daemon.wait(lambda: daemon.of("job_1", wire.Start))
    daemon.vanish()
    before = len(daemon.of("job_1", wire.Connect))
    await daemon.come_back()
    await daemon.wait(lambda: len(daemon.of("job_1", wire.Start)) == 2)
    assert [hello.wants_secrets for hello in daemon.of("job_1", wire.Connect)[before:]] == [False]
    (tmp_path / "go").touch()
    await daemon.end_of("job_1")
    assert daemon.output["job_1"].decode() == VALUE


async def test_a_reporter_that_dies_while_waiting_is_replaced(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", SAY_IT, SP_SECRETS="PASSWORD")
    await wanted(daemon, "job_1")
    daemon.secrets = given(PASSWORD=VALUE)
    for reporter in reporters(impatient, "job_1"):
        os.kill(reporter, signal.SIGKILL)
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"].decode() == VALUE


async def test_a_bug_when_they_arrive_loses_neither_them_nor_the_run(
    impatient: Machine, daemon: Daemon, tmp_path: Path
) -> None:
    (marker := tmp_path / "fail-now").touch()
    daemon.secrets = given(PASSWORD=VALUE)
    fault = {"TEST_FAIL": "conversation._handle_secrets", "TEST_MARKER": str(marker)}
    log = {"SP_WRAPPER_LOGDIR": str(tmp_path)}
    await impatient.start("job_1", 'test -n "$PASSWORD"', SP_SECRETS="PASSWORD", **fault, **log)
    assert (await daemon.end_of("job_1")).retcode == 0
    assert not marker.exists(), "the fault did not happen"
    assert b"a fault at" in held(tmp_path)
    assert b"hunter2" not in held(tmp_path)


async def test_the_longest_ones_arrive(machine: Machine, daemon: Daemon) -> None:
    daemon.secrets = given(FIRST="\x01" * 65000, SECOND="😀" * 16000)
    await machine.start("job_1", 'printf %s "$FIRST$SECOND"', SP_SECRETS="FIRST,SECOND")
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"].decode() == "\x01" * 65000 + "😀" * 16000


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (wire.Secrets(error="it has ended"), "it has ended"),
        (given(), "the daemon has no value for PASSWORD, API_KEY"),
        (given(PASSWORD="x"), "the daemon has no value for API_KEY"),
        (None, "its secrets did not arrive within 0.5 seconds"),
    ],
)
async def test_without_them_nothing_is_run(
    machine: Machine, daemon: Daemon, tmp_path: Path, answer: wire.Secrets | None, why: str
) -> None:
    daemon.secrets = answer
    ran = tmp_path / "ran"
    within = "0.5" if answer is None else "60"
    await machine.start("job_1", f"touch {ran}", SP_SECRETS="PASSWORD,API_KEY", SP_SECRETS_WITHIN=within)
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome, end.length) == (255, "error", 0)
    assert end.error == f"the command was not started: {why}"
    assert not daemon.of("job_1", wire.Start)
    assert not ran.exists()
    assert (await machine.start("job_2", "true"))[0] == 0, "the job's lock is free"


async def test_a_kill_ends_the_waiting(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    await machine.start("job_1", f"touch {ran}", SP_SECRETS="PASSWORD")
    await wanted(daemon, "job_1")
    await daemon.send("job_1", wire.Signal(signal="STOP"))  # there is nothing to pause yet
    await daemon.send("job_1", wire.Kill())
    await daemon.send("job_1", given(PASSWORD=VALUE))
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome, end.receipt) == (143, "killed", wire.Receipt())
    assert daemon.output["job_1"] == b"[Job terminated by user request]\n"
    assert not ran.exists()


async def test_a_kill_without_the_network_ends_the_waiting(machine: Machine, daemon: Daemon) -> None:
    daemon.vanish()
    await machine.start("job_1", "true", SP_SECRETS="PASSWORD")
    code, said = await machine.ask("--kill", "job_1")
    assert (code, json.loads(said)["retcode"]) == (0, 143)


async def test_a_wrapper_that_dies_while_waiting_is_reported(impatient: Machine, daemon: Daemon) -> None:
    await impatient.start("job_1", "true", SP_SECRETS="PASSWORD")
    await wanted(daemon, "job_1")
    supervisor = impatient.processes("job_1").supervisor
    os.kill(supervisor, signal.SIGKILL)
    end = await daemon.end_of("job_1")
    assert (end.retcode, end.outcome) == (255, "error")
    assert not alive(supervisor)


def test_a_message_with_secrets_shows_nothing_of_them() -> None:
    message = given(PASSWORD="hunter2")
    frame = frames.decode_from_daemon(frames.encode(wire.About("j", "j_1", "m"), message, NOON))
    assert frame.message == message
    assert "hunter2" not in repr(frame) + str(frame) + repr(channel.Secrets(message.env, ""))


@pytest.mark.parametrize(
    "env", [{"A=B": "x"}, {"": "x"}, {"A": 1}, {"A": None}, {"A": "x\0y"}, {"A": "\ud800"}, ["A"], "A"]
)
def test_what_cannot_be_an_environment_breaks_the_protocol(env: object) -> None:
    with pytest.raises(wire.RemoteProtocolError):
        frames.decode_from_daemon(json.dumps({**HEAD, "type": "secrets", "env": env}))


@pytest.mark.parametrize(("more", "wants"), [({}, False), ({"wants_secrets": True}, True)])
def test_older_wrappers_want_none(more: Mapping[str, Any], wants: bool) -> None:
    frame = frames.decode_from_wrapper(json.dumps({**HEAD, "type": "connect", **more}))
    assert frame.message.wants_secrets is wants
