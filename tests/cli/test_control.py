"""Commands that change something: run, kill, pause, maintenance."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from saltpeter.host import SOCKET_VARIABLE
from tests.cli.conftest import MACHINES, Shell


def test_following_a_run_shows_all_of_it_and_ends_as_it_does(shell: Shell) -> None:
    said = shell("run", "hello", "--follow")
    assert sorted(said.out.splitlines()) == sorted(
        f"{machine} | {line}" for machine in MACHINES for line in ("hello from ", "no newline")
    )
    started, ended = said.err.splitlines()
    run = started.removeprefix("started ")
    assert ended.startswith(f"{run}: success after ")
    failed = shell("run", "fails", "-f", code=1)
    assert failed.out == "m1 | it\n"
    assert failed.err.endswith(", 1 of 1 machines failed\n")
    assert "\x1b[" in shell("run", "hello", "-f", terminal=True).out


def test_following_as_json_is_an_object_a_line(shell: Shell) -> None:
    first, *chunks, last = (json.loads(line) for line in shell("run", "hello", "-f", "--json").out.splitlines())
    assert first["job_instance"] == last["job_instance"]
    assert last["verdict"] == "success"
    assert {chunk["machine"] for chunk in chunks} == set(MACHINES)


def test_a_run_on_some_of_its_targets(shell: Shell) -> None:
    said = shell("run", "hello", "-t", "m2", "-f")
    assert [line[:3] for line in said.out.splitlines()] == ["m2 "] * 2


def test_what_runs_is_shown_paused_and_killed(shell: Shell) -> None:
    run = shell.begin("long")
    [row] = [row for row in shell("status").rows if row[0] == run]
    assert (row[2][:4], row[3]) == ("unix", "0/3")
    assert float(row[4]) > 0
    assert run in shell("status", terminal=True).out

    paused = shell("pause", "long", "m1")
    assert paused.out == f"{run}: pause told to m1\n"
    while [each["paused"] for each in shell("status", "--json").json if each["run"] == run] != [1]:
        pass
    assert "1 paused" in shell("status", terminal=True).out
    assert shell("resume", "long", "--json").json[0]["told"] == MACHINES
    assert shell("signal", "long", "CONT", "m3", "m2").out == f"{run}: signal told to m3, m2\n"
    assert "is no signal" in shell("signal", "long", "HOP", code=2).err

    one = shell("kill", "long", "m2", "--signal", "INT", "--grace", "2s")
    assert one.out.startswith(f"{run} on m2: killed (143), ")
    assert one.err == f"{run}: asked 1 of its machines to end it\n"
    strange = shell("kill", "long", "m1", "m9", code=1)
    assert strange.err == "saltpeter: long is not running on m9; nothing was done on the others\n"
    left = shell("pause", "long", "m2", "m1")
    assert (left.out, left.err) == (f"{run}: pause told to m1\n", "it had ended already on m2\n")
    ended = shell("kill", "long", "m2", code=1)
    assert ended.err == "saltpeter: long is not running on m2: it has ended there\n"
    [rest] = shell("kill", "long", "m1", "m2", "m3", "--run", run, "--json").json
    assert {machine: end["retcode"] for machine, end in rest["machines"].items()} == {"m1": 143, "m3": 143}
    assert shell("tail", run, "-f", code=143).out.count("| begun\n") == 3
    assert shell("kill", "long", code=1).err == "saltpeter: long is not running\n"
    shown = shell("show", run, terminal=True).out
    assert "killed by" in shown
    assert "processes ended" in shown


def test_nothing_runs(shell: Shell) -> None:
    assert shell("status").out == ""
    assert shell("status", "--json").json == []
    assert "nothing runs" in shell("status", "--watch", "--json").out or shell("status", "-w").out == ""
    assert "nothing runs" in shell("status", terminal=True).out


def on_a_terminal(shell: Shell, *arguments: str, typed: str) -> tuple[int, str]:
    """The command with a person at its stdin: exit code, and what it said."""
    leader, follower = pty.openpty()
    os.write(leader, typed.encode())
    try:
        done = subprocess.run(
            (sys.executable, "-m", "saltpeter", *arguments),
            stdin=follower,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, SOCKET_VARIABLE: str(shell.daemon.socket)},
            timeout=60,
            check=False,
        )
    finally:
        os.close(follower)
        os.close(leader)
    return done.returncode, done.stdout.decode()


def test_a_person_is_asked_before_much_is_killed(shell: Shell) -> None:
    run = shell.begin("long")
    code, out = on_a_terminal(shell, "kill", "long", typed="n\n")
    assert code == 1
    assert "End long on 3 machines (m1, m2, m3)? [y/N]" in out
    assert not shell("show", run, "--json").json["ended"]
    code, out = on_a_terminal(shell, "kill", "long", "m1", typed="")
    assert (code, "?" in out) == (0, False), "one machine is what was named"
    code, out = on_a_terminal(shell, "kill", "long", typed="y\n")
    assert code == 0
    assert out.count("killed (143)") == 2


def test_following_a_job_goes_on_with_its_next_run_until_ctrl_c(shell: Shell) -> None:
    env = {**os.environ, SOCKET_VARIABLE: str(shell.daemon.socket), "PYTHONUNBUFFERED": "1"}
    command = (sys.executable, "-m", "saltpeter", "tail", "fails", "--follow")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as tail:
        assert tail.stdout is not None
        runs = [shell.run("fails")]
        assert tail.stdout.readline() != ""
        runs.append(shell.run("fails"))
        lines = [tail.stdout.readline().strip()]
        while runs[1] not in lines:
            lines.append(tail.stdout.readline().strip())
        assert tail.stdout.readline() == "m1 | it\n"
        tail.send_signal(signal.SIGINT)
        try:
            out, err = tail.communicate(timeout=30)
        finally:
            tail.kill()
    assert (tail.returncode, out, err) == (130, "", "")


def test_maintenance(shell: Shell) -> None:
    [[machine, _, until, by, reason]] = shell("maintenance", "add", "m1", "--reason", "disk", "--until", "2h").rows
    assert (machine, by[:4], reason) == ("m1", "unix", "disk")
    assert until
    assert shell("run", "hello", "-f").out.count("m1 |") <= 1
    assert shell("show", "hello").rows[0][1] == "maintenance"
    shell("maintenance", "on", "--reason", "all")
    assert shell("maintenance", "show", "--json").json["global"] is True
    assert "(all)" in shell("maintenance", "show", terminal=True).out
    assert "maintenance" in shell("run", "hello", code=1).err
    shell("maintenance", "off")
    assert shell("maintenance", "remove", "m1").out == ""
    assert "nothing is under maintenance" in shell("maintenance", "show", terminal=True).out


def test_reload_says_what_is_wrong(shell: Shell) -> None:
    assert shell("reload").out == "6 jobs in force\n"
    shell.daemon.write("more", broken={"command": ""})
    said = shell("reload", code=1)
    assert "broken.command: is missing" in said.out
    assert shell("reload", "--json", code=1).json["problems"][0]["job"] == "broken"
    (shell.daemon.conf_d / "more.yaml").unlink()
    assert shell("reload").out == "6 jobs in force\n"


@pytest.mark.parametrize("command", ["jobs", "status", "next", "history", "reload"])
def test_without_a_daemon_it_is_said_where_it_was_looked_for(shell: Shell, command: str) -> None:
    said = shell(command, "--socket", "/nowhere/control.sock", code=3)
    assert said.out == ""
    assert said.err.startswith("saltpeter: no saltpeter daemon answers at /nowhere/control.sock (nothing is there)")
