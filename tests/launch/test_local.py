"""What is particular about running everything on this host."""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import Answer, Call, StartPlain, StartWrapper, ask
from saltpeter.errors import LaunchError
from saltpeter.launch import local, processes
from saltpeter.launch.local import LocalLauncher, named
from saltpeter.launch.serving import serving

RUN = f"local-{uuid.uuid4().hex}"  # a kill looks at every process of the host


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[LocalLauncher]:
    async with serving(LocalLauncher(str(tmp_path / "state"), hostname="here")) as made:
        with trio.fail_after(20):
            yield made


async def asked(launcher: LocalLauncher, call: Call, *machines: str) -> list[Answer]:
    """What they say, in the order of `machines`."""
    heard = await ask(launcher, call, machines)
    return [heard[machine] for machine in machines]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def plain(command: str, **changes: Any) -> StartPlain:
    start: dict[str, Any] = {"run": RUN, "job": "j", "user": None, "cwd": None, "env": {}, "timeout_s": inf}
    return StartPlain(command=command, **(start | changes))


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("expression", "kind", "names"),
    [
        ("b,a, c,,", TargetType.LIST, {"a", "b", "c"}),
        ("web", TargetType.GLOB, {"web"}),
        ("", TargetType.GLOB, set()),
        ("", TargetType.LOCAL, {"here"}),
        ("*", TargetType.LOCAL, {"here"}),
        ("x,y", TargetType.LOCAL, {"x", "y"}),
    ],
)
def test_targets_are_names(expression: str, kind: TargetType, names: set[str]) -> None:
    assert named(Target(expression, kind), "here") == names


@pytest.mark.parametrize(
    "target", [Target("web*"), Target("G@os:Debian", TargetType.COMPOUND), Target("w.*", TargetType.PCRE)]
)
def test_what_only_salt_could_match_is_refused_with_advice(target: Target) -> None:
    with pytest.raises(LaunchError, match="a list of names"):
        named(target, "here")


async def test_each_machine_has_a_place_of_its_own_for_its_wrappers(launcher: LocalLauncher, tmp_path: Path) -> None:
    path = script(tmp_path / "w", 'echo "$SP_STATEDIR"')
    answers = await asked(launcher, StartWrapper(path=path, env={}), "a", "../b", ".")
    places = {answer.text for answer in answers}
    assert len(places) == 3
    assert {str(Path(place).parent) for place in places} == {str(tmp_path / "state" / "machines")}


async def test_the_engine_may_say_another_place(launcher: LocalLauncher, tmp_path: Path) -> None:
    path = script(tmp_path / "w", 'echo "$SP_STATEDIR"')
    [answer] = await asked(launcher, StartWrapper(path=path, env={"SP_STATEDIR": "/srv/x"}), "a")
    assert answer.text == "/srv/x"


async def test_no_more_wrappers_are_started_at_once_than_the_host_can_bear(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher._places.total_tokens = 2
    path = script(tmp_path / "w", f'cd {tmp_path}; mkdir "at_$$"; set -- at_*; echo $#; sleep 0.02; rmdir "at_$$"')
    answers = await asked(launcher, StartWrapper(path=path, env={}), *(f"m{number}" for number in range(8)))
    assert {int(answer.text) for answer in answers} <= {1, 2}


async def test_a_host_that_cannot_keep_up_blames_no_machine(launcher: LocalLauncher, tmp_path: Path) -> None:
    launcher._places.total_tokens = 1
    path = script(tmp_path / "w", f"while ! [ -e {tmp_path}/go ]; do sleep 0.01; done")
    ticket = launcher.ticket()
    async with launcher.answers(ticket) as answers:
        await launcher.publish(ticket, StartWrapper(path=path, env={}), ["m1", "m2"])
        await trio.sleep(0.1)
        assert not await launcher.reachable()
        (tmp_path / "go").touch()
        await answers.receive()
        await answers.receive()
        assert await launcher.reachable()


async def test_a_child_that_holds_the_output_does_not_hold_up_the_answer(launcher: LocalLauncher) -> None:
    with trio.fail_after(2):
        [answer] = await asked(launcher, plain("sleep 5 & echo $!"), "a")
    os.kill(int(answer.text), 9)


async def test_a_timeout_ends_the_tree_and_keeps_the_output(launcher: LocalLauncher) -> None:
    [answer] = await asked(launcher, plain("setsid sleep 60 & echo $!; sleep 60", timeout_s=0.3), "a")
    assert answer.code == 124
    assert not is_running(int(answer.text))


@pytest.mark.parametrize(
    "changes", [{"user": "no-such-user"}, {"cwd": "/no/such/directory"}], ids=["user", "directory"]
)
async def test_what_cannot_be_started_is_an_answer_too(launcher: LocalLauncher, changes: dict[str, str]) -> None:
    [answer] = await asked(launcher, plain("true", **changes), "a")
    assert answer.code == 255
    assert next(iter(changes.values())) in answer.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_command_of_another_user_has_nothing_of_ours(launcher: LocalLauncher) -> None:
    nobody = pwd.getpwnam("nobody")
    command = "id -u; id -g; id -G; echo $HOME $USER $SP_JOB_INSTANCE; pwd"
    [answer] = await asked(launcher, plain(command, user="nobody", cwd="/"), "a")
    uid, gid, home = str(nobody.pw_uid), str(nobody.pw_gid), nobody.pw_dir
    assert answer.text.splitlines() == [uid, gid, gid, f"{home} nobody {RUN}", "/"]


async def test_of_long_output_the_ends_are_kept(launcher: LocalLauncher) -> None:
    size = 3 * processes.OUTPUT_LIMIT
    [answer] = await asked(launcher, plain(f"echo first; head -c {size} /dev/zero | tr '\\0' x; echo last"), "a")
    assert answer.text.startswith("first\nx")
    assert answer.text.endswith("xlast\n")
    cut = size + len("first\nlast\n") - processes.OUTPUT_LIMIT
    assert f"\n[SALTPETER: {cut} bytes left out]\n" in answer.text


async def test_old_tickets_are_forgotten(launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_TICKETS_KEPT", 3)
    for _ in range(10):
        await asked(launcher, plain("true"), "a")
    assert len(launcher._tickets) == 3


async def test_what_was_started_outlives_the_launcher(tmp_path: Path) -> None:
    async with serving(LocalLauncher(str(tmp_path))) as made:
        path = script(tmp_path / "w", f"(sleep 0.3; echo lived >{tmp_path}/said) >/dev/null 2>&1 &")
        await asked(made, StartWrapper(path=path, env={}), "a")
    with trio.fail_after(10):
        while not (tmp_path / "said").exists():  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_it_must_be_served_before_it_is_used(tmp_path: Path) -> None:
    made = LocalLauncher(str(tmp_path))
    with pytest.raises(RuntimeError, match="not running"):
        await made.publish(made.ticket(), plain("true"), ["a"])
