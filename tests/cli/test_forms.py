"""Each command over the Unix socket of a running daemon: in a pipe, as JSON, and as a program on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from saltpeter.host import SOCKET_VARIABLE
from tests.cli.conftest import Shell
from tests.cli.test_files import complete

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d")

# What is typed, what stands in its plain form, what on a terminal, and the type of its JSON.
SEEN = [
    ("jobs", r"hello\tjobs\t@yearly\tm1, m2, m3\t", "schedule", list),
    ("status", r"long_\d+\t.*\t0/3\t\d+\.\d{3}\t", "usually", list),
    ("next hello -n 2", r"\thello", "hello", list),
    ("history hello", r"hello_\d+\t.*\tsuccess\t3/3\t", "success", list),
    ("show hello", r"m1\texited\t0\t", "verdict", dict),
    ("output hello m1", r"hello from", "hello from", None),
    ("tail hello", r"m2 \| hello from", "hello from", None),
    ("why hello", r"ran\t.*\thello_\d+\t", "ran", dict),
    ("stats hello", r"succeeded\t1.000", "100.0%", dict),
    ("maintenance show", r"", "nothing is under maintenance", dict),
    ("reload", r"6 jobs in force", "6 jobs in force", dict),
]
DONE = [
    ("run hello", r"started hello_\d+\n", "started hello_", dict),
    ("run hello --follow", r"m1 \| hello from", "hello from", None),
    ("pause long", r"long_\d+: pause told to m1, m2, m3\n", "pause told to", list),
    ("resume long m1", r"long_\d+: resume told to m1\n", "resume told to m1", list),
    ("signal long CONT", r"long_\d+: signal told to m1, m2, m3\n", "signal told to", list),
    ("kill long --yes", r"long_\d+ on m1: killed \(143\)", "killed (143)", list),
    ("maintenance add m9 --reason disk", r"m9\t.*\tdisk\n", "disk", dict),
    ("maintenance remove m9", r"^$", "nothing is under maintenance", dict),
]


def typed_on_a_terminal(shell: Shell, *arguments: str) -> str:
    """All that a person would see."""
    leader, follower = pty.openpty()
    env = {**os.environ, SOCKET_VARIABLE: str(shell.daemon.socket), "TERM": "xterm-256color", "COLUMNS": "160"}
    command = (sys.executable, "-m", "saltpeter", *arguments)
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env) as person:
        os.close(follower)
        seen = b"".join(iter(lambda: _read(leader), b""))
        code = person.wait(timeout=60)
    os.close(leader)
    assert code == 0, seen.decode()
    return seen.decode()


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # the last one that had the terminal has closed it
        return b""


@pytest.fixture(scope="module")
def ran() -> set[str]:
    return set()


@pytest.fixture
def lively(shell: Shell, ran: set[str]) -> Shell:
    """`hello` has run, and `long` runs."""
    if not ran:
        shell.run("hello")
        ran.add("hello")
    if not _living(shell, "long"):
        shell.begin("long")
    return shell


@pytest.mark.parametrize(("typed", "plain", "shown", "kind"), SEEN, ids=[each[0] for each in SEEN])
def test_what_is_asked(lively: Shell, typed: str, plain: str, shown: str, kind: type | None) -> None:
    _holds(lively, typed, plain, shown, kind)


@pytest.mark.parametrize(("typed", "plain", "shown", "kind"), DONE, ids=[each[0] for each in DONE])
def test_what_is_done(lively: Shell, typed: str, plain: str, shown: str, kind: type | None) -> None:
    _holds(lively, typed, plain, shown, kind)


def _holds(shell: Shell, typed: str, plain: str, shown: str, kind: type | None) -> None:
    words = typed.split()
    _make_ready(shell, typed)
    out = shell(*words).out
    assert re.search(plain, out), out
    assert "\x1b" not in out
    _make_ready(shell, typed)
    seen = typed_on_a_terminal(shell, *words)
    assert shown in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen), seen
    _make_ready(shell, typed)
    told = shell(*words, "--json").out
    values = [json.loads(told)] if kind else [json.loads(line) for line in told.splitlines()]
    assert values
    assert all(isinstance(value, kind or dict) for value in values)


def _make_ready(shell: Shell, typed: str) -> None:
    """So that what is typed can be done, also a second time."""
    if typed.startswith("kill") and not _living(shell, "long"):
        shell.begin("long")
    elif typed.startswith("run"):
        while _living(shell, "hello"):
            pass
    elif typed.startswith("maintenance remove"):
        shell("maintenance", "add", "m9")


def _living(shell: Shell, job: str) -> bool:
    """Whether it runs. One whose machines have all ended, as after a kill, is over in a moment: that is waited for."""
    while True:
        done = [row[3].split("/") for row in shell("status").rows if row[0].startswith(f"{job}_")]
        if all(ended != machines for ended, machines in done):
            return bool(done)


def test_times_of_plain_forms_are_iso(lively: Shell) -> None:
    for typed, column in (("history hello", 1), ("jobs", 4), ("show hello", 3), ("next hello", 0)):
        for row in lively(*typed.split()).rows:
            assert row[column] == "disabled" or ISO.fullmatch(row[column]), row


def test_names_of_jobs_are_completed_by_the_daemon(lively: Shell) -> None:
    assert complete("saltpeter", "run", "h", socket=str(lively.daemon.socket)) == ["hello"]
    assert complete("saltpeter", "tail", "", socket=str(lively.daemon.socket)) == [
        "evil",
        "fails",
        "hello",
        "long",
        "never",
        "off",
    ]


def test_the_end(lively: Shell) -> None:
    lively("kill", "long", "--yes")
    assert not _living(lively, "long")
