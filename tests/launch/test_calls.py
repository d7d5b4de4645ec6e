"""Salt's words for our calls, and ours for its answers."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import uuid
from datetime import datetime, timezone
from math import inf
from typing import Any

import attrs
import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.engine.launcher import (
    UNTOLD,
    Answer,
    AskStatus,
    FindPlain,
    KillPlain,
    KillThroughWrapper,
    Ping,
    StartPlain,
    StartWrapper,
    StartWrappers,
)
from saltpeter.launch import calls

# As a minion's template engine is; Salt's `quote` there is the shell's quoting.
TEMPLATES = jinja2.Environment(autoescape=False)  # noqa: S701  it is shell text
TEMPLATES.filters["quote"] = shlex.quote


def plain(**changes: Any) -> StartPlain:
    start: dict[str, Any] = {
        "command": "true",
        "run": "j_1",
        "job": "j",
        "user": None,
        "cwd": None,
        "env": {},
        "timeout_s": inf,
    }
    return StartPlain(**(start | changes))


def rendered(text: str, machine: str = "m1") -> str:
    return TEMPLATES.from_string(text).render(opts={"id": machine})


def run(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", command], env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=20
    )


def test_a_ticket_is_a_job_id_as_salt_makes_them() -> None:
    ticket = calls.new_ticket(datetime(2025, 11, 5, 12, 34, 56, 789, tzinfo=timezone.utc))
    stamp, end = ticket.split("_")
    assert stamp == "20251105123456000789"
    assert len(bytes.fromhex(end)) == 6


def test_pings_and_searches_are_functions_of_salt() -> None:
    assert calls.order(Ping()) == calls.Order("test.ping", {})
    assert calls.order(FindPlain(ticket="7")) == calls.Order("saltutil.find_job", {"jid": "7"})


def test_a_wrapper_is_started_by_env_with_its_environment() -> None:
    order = calls.order(StartWrapper(path="/opt/w.py", env={"SP_JOB_NAME": "j"}))
    assert (order.function, order.kwargs["python_shell"], order.kwargs["env"]) == (
        "cmd.run_all",
        True,
        {"SP_JOB_NAME": "j"},
    )
    assert rendered(order.kwargs["cmd"]) == "exec env SP_MACHINE_ID=m1 /opt/w.py"


def test_a_machine_that_is_to_prove_itself_is_told_where_its_key_lies() -> None:
    order = calls.order(StartWrapper(path="/opt/w.py", env={"SP_PROVE_MACHINE": "1"}))
    text = TEMPLATES.from_string(order.kwargs["cmd"]).render(opts={"id": "m1", "pki_dir": "/etc/salt's/pki"})
    assert shlex.split(text)[2:] == [
        "SP_MACHINE_ID=m1",
        "SP_MACHINE_KEY=/etc/salt's/pki/minion.pem",
        "/opt/w.py",
    ]


# what means something to a shell or to a template engine
TRICKY = st.one_of(
    st.sampled_from(["{{ 1 }}", "{% if %}", "{#", "a b", "'", '"', "$HOME", "`id`", "\\", "-n", "ü", "*", "#x", "~"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
)


@settings(deadline=None)
@given(st.lists(TRICKY, min_size=2, max_size=4).map("".join), TRICKY)
def test_every_name_reaches_the_wrapper_as_it_is(name: str, machine: str) -> None:
    command = rendered(calls.order(AskStatus(path="/w", run=name, attempt=2)).kwargs["cmd"], machine)
    *start, assignment, program, attempt, status = shlex.split(command)
    assert start == ["exec", "env"]
    assert assignment == f"SP_MACHINE_ID={machine}"
    assert [program, attempt, status] == ["/w", "--attempt=2", f"--status={name}"]


def test_the_shell_reads_the_words_as_meant() -> None:
    command = rendered(calls.order(StartWrapper(path="/no such {{ path }}'", env={})).kwargs["cmd"], "it's {m}")
    ended = run(command)
    assert ended.returncode == 127
    assert "/no such {{ path }}'" in ended.stderr


@pytest.mark.parametrize(
    "command", ["printf '%s' '{{ 1 }}'", 'echo "a  b" | tr a-z A-Z', "for i in 1 2; do echo $i\ndone"]
)
def test_a_plain_command_runs_as_written(command: str) -> None:
    order = calls.order(plain(command=command))
    assert run(rendered(order.kwargs["cmd"])).stdout == run(command).stdout


def test_the_processes_of_a_plain_start_are_marked() -> None:
    order = calls.order(plain(command="env", env={"A": "1", "SP_JOB_NAME": "not this"}))
    seen = run(rendered(order.kwargs["cmd"], "m7"), **order.kwargs["env"]).stdout.splitlines()
    assert {"A=1", "SP_JOB_NAME=j", "SP_JOB_INSTANCE=j_1", "SP_MACHINE_ID=m7"} <= set(seen)


def test_a_plain_start_takes_its_user_directory_and_timeout_along() -> None:
    options = calls.order(plain(user="u", cwd="/srv/{{x}}", timeout_s=7.5)).kwargs
    assert (options["runas"], rendered(options["cwd"]), options["timeout"]) == ("u", "/srv/{{x}}", 7.5)
    assert not {"runas", "cwd", "timeout"} & calls.order(plain()).kwargs.keys()


@given(
    st.dictionaries(
        st.sampled_from("012"), st.dictionaries(st.sampled_from(["A", "SP_COMMAND", "€"]), TRICKY), min_size=1
    )
)
def test_several_orders_travel_as_they_are_and_what_they_have_in_common_once(orders: dict[str, dict[str, str]]) -> None:
    kwargs = calls.order(StartWrappers(path="/opt/w.py", orders=orders)).kwargs
    assert rendered(kwargs["cmd"]) == "exec env SP_MACHINE_ID=m1 /opt/w.py --orders"
    common, own = kwargs["env"], json.loads(kwargs["stdin"])
    assert {name: {**common, **env} for name, env in own.items()} == orders
    assert not any(common.keys() & env.keys() for env in own.values())
    assert len(orders) > 1 or not any(own.values())
    assert kwargs["stdin_raw_newlines"] is True, "else Salt would take a backslash and an n for a line's end"


def test_where_one_of_several_orders_asks_for_a_proof_the_key_is_named() -> None:
    orders = {"0": {"SP_PROVE_MACHINE": "1"}, "1": {}}
    command = calls.order(StartWrappers(path="/opt/w.py", orders=orders)).kwargs["cmd"]
    assert TEMPLATES.from_string(command).render(opts={"id": "m1", "pki_dir": "/etc/salt/pki/minion"}) == (
        "exec env SP_MACHINE_ID=m1 SP_MACHINE_KEY=/etc/salt/pki/minion/minion.pem /opt/w.py --orders"
    )


# --- answers, as a minion of Salt 3008 returned them ---


def ran(code: int, out: str, outer: int | None = None) -> dict[str, Any]:
    value = {"pid": 1, "retcode": code, "stdout": out, "stderr": ""}
    outer = code if outer is None else outer
    return {"return": value, "retcode": outer, "success": outer == 0}


@pytest.mark.parametrize(
    ("returned", "code", "text"),
    [
        ({"return": True, "retcode": 0, "success": True}, 0, ""),
        ({"return": {}, "retcode": 0, "success": True}, 0, ""),
        (ran(0, "hi\n"), 0, "hi\n"),
        (ran(4, "no"), 4, "no"),
        (
            ran(127, "/bin/bash: line 1: /x: No such file or directory"),
            127,
            "/bin/bash: line 1: /x: No such file or directory",
        ),
        (ran(-9, "a"), 137, "a"),
        (ran(1, "sleep 30 : Timed out after 1.5 seconds", outer=0), 124, ""),
        (ran(1, "x : Timed out after lunch"), 1, "x : Timed out after lunch"),
        (ran(0, "VALUE_TRIMMED"), 0, calls.TRIMMED_TEXT),
        ({"return": "VALUE_TRIMMED", "retcode": 0, "success": True}, 255, calls.TRIMMED_TEXT),
        ({"return": "ERROR: User 'x' is not available", "retcode": 1}, 255, "ERROR: User 'x' is not available"),
        ({"return": "'x.y' is not available.", "success": False}, 255, "'x.y' is not available."),
        ({"return": None, "success": False}, 1, ""),
    ],
)
def test_what_salt_returns_means(returned: dict[str, Any], code: int, text: str) -> None:
    assert calls.answer("m1", returned) == Answer("m1", code, text)


def test_a_job_that_was_found_has_a_text() -> None:
    found = calls.answer("m1", {"return": {"pid": 7, "jid": "1", "fun": "cmd.run_all"}, "retcode": 0})
    assert json.loads(found.text)["pid"] == 7


LINES = (
    "bash: warning: something\n"
    '{"order": "0", "code": 0, "text": "started"}\n'
    '{"order": "10", "code": 254, "text": "refused: held"}\n'
    '{"order": "2", "code": "x"}\n[]\n'
)


@pytest.mark.parametrize(
    ("ticket", "jid", "answer"),
    [
        ("7.0", "7", Answer("m1", 0, "started")),
        ("7.10", "7", Answer("m1", 254, "refused: held")),
        ("7.1", "7", Answer("m1", UNTOLD, LINES)),
        ("7.2", "7", Answer("m1", UNTOLD, LINES)),
        ("7", "7", Answer("m1", 0, LINES)),
        ("7.0", "7.0.again", Answer("m1", 0, LINES)),
    ],
)
def test_of_several_orders_each_has_its_line(ticket: str, jid: str, answer: Answer) -> None:
    assert calls.answer_to(ticket, jid, "m1", ran(0, LINES)) == answer


def test_where_there_is_no_wrapper_no_order_has_been_told_of() -> None:
    returned = ran(127, "env: '/w': No such file or directory")
    assert calls.answer_to("7.0", "7", "m1", returned).code == UNTOLD
    assert calls.answer_to("7.0", "7.0.again", "m1", returned).code == 127


# what msgpack can carry
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["return", "retcode", "success", "out"]), ANYTHING))
def test_no_return_is_too_strange_to_be_an_answer(returned: dict[str, Any]) -> None:
    for answer in (calls.answer("m1", returned), calls.answer_to("7.0", "7", "m1", returned)):
        assert (type(answer.code), type(answer.text)) == (int, str)


# --- the script that ends a plain start ---

RUN = f"kill-{uuid.uuid4().hex}"  # the script looks at every process of the host


def kill(call: KillPlain, machine: str) -> subprocess.CompletedProcess[str]:
    argv = [*calls.kill_command(call), f"SP_MACHINE_ID={machine}"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)


def test_a_kill_ends_the_whole_tree_of_its_run_and_machine_and_nothing_else() -> None:
    marks = [(RUN, "m1"), (RUN, "m2"), (f"{RUN}1", "m1"), (f"x{RUN}", "m1")]
    started = [
        subprocess.Popen(
            ["/bin/sh", "-c", "setsid sleep 60 & sleep 60; exit 1"],
            env={**os.environ, "SP_JOB_INSTANCE": run_id, "SP_MACHINE_ID": machine},
            start_new_session=True,
        )
        for run_id, machine in marks
    ]
    try:
        ended = kill(KillPlain(run=RUN, signal="SIGTERM", grace_s=5), "m1")
        assert (ended.returncode, ended.stdout) == (0, "")
        assert started[0].wait(5) == -15
        assert [process.poll() for process in started[1:]] == [None, None, None]
    finally:
        for run_id, machine in marks:
            kill(KillPlain(run=run_id, signal="KILL", grace_s=1), machine)
        for process in started:
            process.wait(5)


def test_a_process_that_forks_until_the_end_is_caught_up_with_and_told_once() -> None:
    busy = "trap 'echo told; exit 0' TERM; while :; do sleep 0.01; done"
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"echo ready; {busy}"],
        env={**os.environ, "SP_JOB_INSTANCE": RUN, "SP_MACHINE_ID": "m1"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        assert kill(KillPlain(run=RUN, signal="TERM", grace_s=10), "m1").returncode == 0
        assert process.stdout.read() == b"told\n"
    assert process.wait(5) == 0


def test_what_ignores_the_signal_is_killed_after_the_grace() -> None:
    process = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"],
        env={**os.environ, "SP_JOB_INSTANCE": RUN, "SP_MACHINE_ID": "m1"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        assert kill(KillPlain(run=RUN, signal="TERM", grace_s=0.2), "m1").returncode == 0
    assert process.wait(5) == -9


def test_a_kill_says_only_what_is_not_as_the_order_has_it() -> None:
    kill = KillThroughWrapper(path="/w", run="job_1", attempt=2)
    assert calls.wrapper_command(kill) == ["/w", "--attempt=2", "--kill=job_1"], "wrappers of before know no more"
    harder = attrs.evolve(kill, signal="INT", grace_s=0.5)
    assert calls.wrapper_command(harder) == ["/w", "--attempt=2", "--signal=INT", "--grace=0.5", "--kill=job_1"]
