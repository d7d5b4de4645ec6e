"""What was, as the command line shows it: in a pipe, on a terminal, and as JSON."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.cli.conftest import MACHINES, Shell


@pytest.fixture(scope="session")
def ran() -> dict[str, str]:
    """The ids of the runs that these tests look at, once they have been."""
    return {}


@pytest.fixture
def hello(shell: Shell, ran: dict[str, str]) -> str:
    return ran.get("hello") or ran.setdefault("hello", shell.run("hello"))


@pytest.fixture
def fails(shell: Shell, ran: dict[str, str]) -> str:
    return ran.get("fails") or ran.setdefault("fails", shell.run("fails"))


def test_jobs_are_listed(shell: Shell, hello: str) -> None:
    rows = {row[0]: row for row in shell("jobs").rows}
    assert [*rows] == ["evil", "fails", "hello", "long", "never", "off"]
    assert rows["hello"][1:4] == ["jobs", "@yearly", "m1, m2, m3"]
    assert rows["hello"][6] == "success"
    assert rows["off"][4] == "disabled"
    assert rows["never"][5:] == ["", ""]
    assert datetime.fromisoformat(rows["never"][4])
    [described] = shell("jobs", "hello", "--json").json
    assert (described["description"], described["job_instance"]) == ("It greets", hello)


def test_a_pattern_finds_names_groups_and_tags(shell: Shell) -> None:
    assert [row[0] for row in shell("jobs", "*l*").rows] == ["evil", "fails", "hello", "long"]
    assert [row[0] for row in shell("jobs", "small").rows] == ["fails"]
    assert len(shell("jobs", "jobs").rows) == 6
    assert "no job matches x" in shell("jobs", "x", terminal=True).out


def test_a_terminal_gets_a_table(shell: Shell, hello: str) -> None:
    out = shell("jobs", terminal=True).out
    assert "schedule" in out.splitlines()[0]
    assert "\x1b[32msuccess" in out


def test_history(shell: Shell, hello: str, fails: str) -> None:
    rows = {row[0]: row for row in shell("history").rows}
    assert rows[hello][3:5] == ["success", "3/3"]
    assert rows[fails][3:5] == ["failed", "0/1"]
    assert float(rows[hello][2]) > 0
    assert {row[0].partition("_")[0] for row in shell("history", "hello").rows} == {"hello"}
    assert {run["verdict"] for run in shell("history", "--failed", "--json").json} <= {"failed", "killed"}
    assert shell("history", "--since", "in 1h").out == ""
    assert "no such runs" in shell("history", "--until", "yesterday", terminal=True).out
    assert "1 failed" in shell("history", "fails", terminal=True).out


def test_one_run_machine_by_machine(shell: Shell, hello: str, fails: str) -> None:
    rows = shell("show", hello).rows
    assert [row[0:3] for row in rows] == [[machine, "exited", "0"] for machine in MACHINES]
    assert int(rows[0][6]) > 100_000, "bytes of memory"
    assert shell("show", "hello").rows == rows, "the newest"
    assert shell("show", "hello", "--json").json["job_instance"] == hello
    shown = shell("show", fails, terminal=True).out
    assert "\x1b[1;31mfailed" in shown
    assert "KiB" in shown or "MiB" in shown


def test_what_is_not_there_is_said(shell: Shell) -> None:
    assert shell("show", "hello_1", code=1).err == "saltpeter: there is no run 'hello_1'\n"
    assert shell("show", "never", code=1).err == "saltpeter: never has not run yet\n"
    assert shell("stats", "hallo", code=1).err == "saltpeter: there is no job 'hallo'; did you mean hello?\n"
    assert "is not a time; write one like 2h" in shell("history", "--since", "soon", code=2).err


def test_why(shell: Shell, hello: str) -> None:
    [[answer, _, run, text]] = shell("why", "hello").rows
    assert (answer, run) == ("ran", hello)
    assert "success" in text
    assert shell("why", "hello", "--json").json["job_instance"] == hello
    assert hello in shell("why", "hello", terminal=True).out
    [[answer, *_]] = shell("why", "off", "yesterday 03:30", code=None).rows
    assert answer in ("not_due", "down", "passed")


def test_statistics(shell: Shell, hello: str, fails: str) -> None:
    figures = dict(shell("stats", "hello").rows)
    assert int(figures["runs"]) == len(figures["durations"].split()) > 0
    assert figures["succeeded"] == "1.000"
    assert shell("stats", "fails", "--json").json["success_rate"] == 0
    shown = shell("stats", "hello", terminal=True).out
    assert "▁" in shown
    assert "100.0%" in shown
    assert dict(shell("stats", "never").rows)["runs"] == "0"


# --- output --------------------------------------------------------------------------------------


@pytest.fixture
def evil(shell: Shell, ran: dict[str, str]) -> str:
    return ran.get("evil") or ran.setdefault("evil", shell.run("evil"))


def test_output_is_byte_for_byte_in_a_pipe(shell: Shell, evil: str) -> None:
    assert shell("output", evil, "m1").raw == b"\033[31mred\033[0m\033]0;title\007\377\nbar 1\rbar 2\n"
    assert shell("output", "evil", "m1", "--raw", terminal=True).raw.endswith(b"\377\nbar 1\rbar 2\n")


def test_on_a_terminal_output_commands_nothing(shell: Shell, evil: str) -> None:
    shown = shell("output", evil, "m1", terminal=True).out
    assert "\x1b[31mred\x1b[0m" in shown, "colours are harmless"
    assert "\\x1b]0;title\\x07" in shown
    assert "\x07" not in shown
    assert shown.splitlines()[1:] == ["bar 1", "bar 2"]


def test_output_of_an_unknown_machine(shell: Shell, hello: str) -> None:
    assert "has no part on 'm9'" in shell("output", hello, "m9", code=1).err
    [page, end] = shell("output", hello, "m1", "--json").out.splitlines()
    assert "no newline" in page
    assert '"is_complete":true' in end


def test_tail_prefixes_each_line_with_its_machine(shell: Shell, hello: str) -> None:
    lines = shell("tail", hello).out.splitlines()
    assert lines[:2] == ["m1 | hello from ", "m1 | no newline"]
    assert [line[:4] for line in lines] == [f"{machine} |" for machine in MACHINES for _ in range(2)]
    assert shell("tail", "hello", "-m", "m2").out.splitlines() == ["m2 | hello from ", "m2 | no newline"]
    assert "\x1b[" in shell("tail", hello, terminal=True).out
    assert shell("tail", hello, "--follow").out.splitlines() == lines, "it has ended: there is nothing to wait for"
    assert '"type":"output_chunk"' in shell("tail", hello, "--json").out
