"""Each command over the Unix socket of a running daemon: in a pipe, as JSON, and as a program on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from saltpeter.domain.access import Role
from saltpeter.engine import people
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
# What needs no daemon. {new} is a name that nothing has yet, {place} a directory with a token and a backup.
OF_FILES = [
    ("check {conf_d}", r"6 jobs in force, 0 errors", "6 jobs in force", dict),
    ("import-crontab {place}/crontab --targets db* --zone UTC", r"\nnightly:\n", "nightly:", dict),
    ("token add {new} --role viewer --statedir {place}", r"^sp_[\w-]+\n$", "cannot be shown again", dict),
    ("token list --statedir {place}", r"alice\tviewer\t", "alice", list),
    ("token revoke {token} --statedir {place}", r"is worthless now", "is worthless now", dict),
    ("store info --statedir {state}", r"\nruns\t\d+\n", "nothing wrong was found", dict),
    ("store prune -c {conf_d} --dry-run", r"would forget 0 runs", "would forget 0 runs", dict),
    ("store backup {place}/{new}.tar --statedir {state}", r"\.tar: \d", ".tar: ", dict),
    ("store restore {place}/made.tar --statedir {place}/{new}", r"files are back", "files are back", dict),
    ("wrapper build {place}/{new}", r": \d+ KiB\n$", " KiB", dict),
    ("audit --statedir {state}", r"\trun\t", "who", list),
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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "crontab").write_text("# at night\n0 3 * * * /usr/bin/nightly --all\n")
    people.add(directory / people.TOKENS_FILE, "alice", Role.VIEWER, by="test", at=datetime.now(timezone.utc))
    return directory


@pytest.mark.parametrize(
    ("typed", "plain", "shown", "kind"), OF_FILES, ids=[each[0].partition(" {")[0] for each in OF_FILES]
)
def test_what_needs_no_daemon(*, lively: Shell, place: Path, typed: str, plain: str, shown: str, kind: type) -> None:
    daemon = lively.daemon
    made = place / "made.tar"
    if not made.exists():
        lively("store", "backup", str(made), "--statedir", str(daemon.state))
    said: list[str] = []
    for number, form in enumerate(("plain", "terminal", "json")):
        new = f"{typed.replace(' ', '_')[:9]}{number}"
        token = f"bob{number}"
        if "{token}" in typed:
            people.add(place / people.TOKENS_FILE, token, Role.VIEWER, by="test", at=datetime.now(timezone.utc))
        words = typed.format(conf_d=daemon.conf_d, state=daemon.state, place=place, new=new, token=token).split()
        if form == "terminal":
            said.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", typed_on_a_terminal(lively, *words)))
        else:
            said.append(lively(*words, *(["--json"] if form == "json" else [])).out)
    assert re.search(plain, said[0]), said[0]
    assert shown in said[1]
    assert isinstance(json.loads(said[2]), kind)


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
    elif typed.startswith("why"):  # what ran within the last minute
        shell.run("hello")
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
