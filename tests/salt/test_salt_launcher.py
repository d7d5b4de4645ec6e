"""What is particular about Salt: targets, and masters and minions that come and go."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import pytest
import trio
import yaml

from saltpeter.domain.job import Target, TargetType
from saltpeter.engine.launcher import Answer, FindPlain, Ping, StartPlain, StartWrapper, ask
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.lab import Lab, free_ports
from saltpeter.launch import calls
from saltpeter.launch.salt import SaltLauncher
from saltpeter.launch.serving import serving
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt

ALL = ("m1", "m2", "m3")


@asynccontextmanager
async def served(config: Path, request_timeout_s: float = 10.0) -> AsyncIterator[SaltLauncher]:
    async with serving(SaltLauncher(str(config), request_timeout_s=request_timeout_s)) as launcher:
        with trio.fail_after(120):
            yield launcher


@pytest.fixture
async def launcher(salt_lab: LabHandle) -> AsyncIterator[SaltLauncher]:
    async with served(salt_lab.lab.master_config) as made:
        yield made


def changed(lab: Lab, path: Path, changes: Mapping[str, object]) -> Path:
    """The lab's configuration with `changes`, for a client only."""
    settings = yaml.safe_load(lab.master_config.read_text())
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def counting(directory: Path) -> tuple[StartWrapper, Path]:
    """A stand-in for the wrapper that leaves a line each time that it runs."""
    log, script = directory / "ran.log", directory / "wrapper.sh"
    script.write_text(f'#!/bin/sh\necho "$SP_MACHINE_ID" >>{log}\n')
    script.chmod(0o755)
    log.touch()
    return StartWrapper(path=str(script), env={}), log


def plain(command: str) -> StartPlain:
    run = f"salt-{uuid.uuid4().hex}"
    return StartPlain(command=command, run=run, job="job", user=None, cwd=None, env={}, timeout_s=inf)


# --- targets ---


@pytest.mark.parametrize(
    ("kind", "expression", "names"),
    [
        (TargetType.GLOB, "m*", ALL),
        (TargetType.GLOB, "m[13]", ("m1", "m3")),
        (TargetType.GLOB, "nobody", ()),
        (TargetType.PCRE, "m(2|3)$", ("m2", "m3")),
        (TargetType.LIST, "m3,m1,ghost", ("m1", "m3")),
        (TargetType.GRAIN, "id:m2", ("m2",)),
        (TargetType.GRAIN_PCRE, "id:m[12]", ("m1", "m2")),
        (TargetType.PILLAR, "role:web", ()),
        (TargetType.PILLAR_PCRE, "role:w.*", ()),
        (TargetType.COMPOUND, "G@kernel:Linux and not E@m[23]", ("m1",)),
        (TargetType.IPCIDR, "127.0.0.0/8", ALL),
    ],
)
async def test_salt_matches(launcher: SaltLauncher, kind: TargetType, expression: str, names: tuple[str, ...]) -> None:
    assert await launcher.match(Target(expression, kind)) == names


@pytest.mark.parametrize(
    ("kind", "expression", "text"),
    [
        (TargetType.PCRE, "m(", "unterminated subpattern"),
        (TargetType.COMPOUND, "m1 and (", "Invalid compound target: m1 and"),
        (TargetType.COMPOUND, "N@nowhere", 'unknown nodegroup "nowhere"'),
        (TargetType.NODEGROUP, "nowhere", 'unknown nodegroup "nowhere"'),
        (TargetType.IPCIDR, "10.0.0.0/33", "Invalid IP/CIDR target"),
        (TargetType.RANGE, "%web", "seco.range, which is not installed"),
        (TargetType.LOCAL, "", "not reached through Salt"),
    ],
)
async def test_a_bad_target_is_refused_with_what_salt_says(
    launcher: SaltLauncher, kind: TargetType, expression: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LaunchError, match=text.replace("(", r"\(")):
        await launcher.match(Target(expression, kind))
    assert not [record for record in caplog.records if record.name == "salt.utils.minions"]


async def test_nodegroups_are_those_of_the_masters_configuration(salt_lab: LabHandle, tmp_path: Path) -> None:
    groups = {"web": "L@m1,m2", "all": "N@web or m3"}
    async with served(changed(salt_lab.lab, tmp_path / "master", {"nodegroups": groups})) as launcher:
        assert await launcher.match(Target("web", TargetType.NODEGROUP)) == ("m1", "m2")
        assert await launcher.match(Target("all", TargetType.NODEGROUP)) == ALL
        assert await launcher.match(Target("N@web and m2", TargetType.COMPOUND)) == ("m2",)


async def test_who_may_not_see_the_keys_asks_the_master(salt_lab: LabHandle, tmp_path: Path) -> None:
    async with served(changed(salt_lab.lab, tmp_path / "master", {"pki_dir": str(tmp_path)})) as launcher:
        assert await launcher.match(Target("m[12]")) == ("m1", "m2")
        assert await launcher.match(Target("kernel:Linux", TargetType.GRAIN)) == ALL


# --- who may ---


async def test_a_wrong_key_is_refused_until_it_is_right(salt_lab: LabHandle, tmp_path: Path) -> None:
    key = next((salt_lab.lab.directory / "master").rglob(".*_key"))
    cache = salt_lab.lab.directory / "master" / f"cache-{uuid.uuid4().hex}"  # Salt wants it below its root_dir
    cache.mkdir()
    (cache / key.name).write_text("not the key")
    async with served(changed(salt_lab.lab, tmp_path / "master", {"cachedir": str(cache)})) as launcher:
        with pytest.raises(LaunchError, match=r"refuses test\.ping from this user"):
            await launcher.publish(launcher.ticket(), Ping(), ALL)
        shutil.copy(key, cache / key.name)
        await launcher.publish(launcher.ticket(), Ping(), ALL)


@pytest.mark.parametrize("text", [None, "a: [", "{}: {}: x"], ids=["missing", "broken", "odd"])
async def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "master"
    if text is not None:
        config.write_text(text)
    with pytest.raises(LaunchError, match=str(config)):
        await SaltLauncher(str(config)).match(Target("*"))


# --- answers ---


async def test_output_that_salt_drops_is_said(launcher: SaltLauncher) -> None:
    heard = await ask(launcher, plain("head -c 3000000 /dev/zero | tr '\\0' x; exit 3"), ["m1"])
    assert heard["m1"] == Answer("m1", 3, calls.TRIMMED_TEXT)


async def test_what_salt_cannot_do_is_an_error_of_its_own(launcher: SaltLauncher) -> None:
    start = StartPlain(command="true", run="r", job="j", user="no-such-user", cwd=None, env={}, timeout_s=inf)
    heard = await ask(launcher, start, ["m1"])
    assert heard["m1"] == Answer("m1", 255, "ERROR: User 'no-such-user' is not available")


async def test_wrappers_on_the_labs_minions_have_places_of_their_own(
    launcher: SaltLauncher, salt_lab: LabHandle, tmp_path: Path
) -> None:
    script = tmp_path / "wrapper.sh"
    script.write_text('#!/bin/sh\necho "$SP_STATEDIR"\n')
    script.chmod(0o755)
    heard = await ask(launcher, StartWrapper(path=str(script), env={}), ALL)
    assert {name: answer.text for name, answer in heard.items()} == {
        name: str(salt_lab.lab.statedir(name)) for name in ALL
    }


async def test_without_the_bus_the_job_cache_has_the_answers(salt_lab: LabHandle, tmp_path: Path) -> None:
    config = changed(salt_lab.lab, tmp_path / "master", {"ipc_mode": "tcp", "tcp_master_pub_port": free_ports(1)[0]})
    async with served(config) as launcher:
        assert set(await ask(launcher, Ping(), ALL)) == set(ALL)


# --- minions and masters that come and go ---


async def test_a_stopped_minion_is_matched_but_does_not_answer(launcher: SaltLauncher, salt_lab: LabHandle) -> None:
    await salt_lab.call(salt_lab.lab.stop_minion, "m3")
    try:
        assert await launcher.match(Target("*")) == ALL
        assert set(await ask(launcher, Ping(), ALL, within_s=3)) == {"m1", "m2"}
    finally:
        await salt_lab.call(salt_lab.lab.start_minion, "m3")
    assert set(await ask(launcher, Ping(), ALL)) == set(ALL)


async def test_a_plain_start_is_not_sent_out_a_second_time(
    launcher: SaltLauncher, salt_lab: LabHandle, tmp_path: Path
) -> None:
    log = tmp_path / "ran.log"
    ticket, call = launcher.ticket(), plain(f"echo ran >>{log}")
    async with launcher.answers(ticket) as answers:
        await launcher.publish(ticket, call, ["m3"])
        await answers.receive()
        await salt_lab.call(salt_lab.lab.stop_minion, "m3")
        await salt_lab.call(salt_lab.lab.start_minion, "m3")  # now it has forgotten the ticket
        await launcher.publish(ticket, call, ["m3"])
        await ask(launcher, Ping(), ["m3"])
    assert log.read_text() == "ran\n"


async def test_a_master_that_is_down_is_known_at_once_and_the_ticket_is_good_for_later(
    launcher: SaltLauncher, salt_lab: LabHandle, tmp_path: Path
) -> None:
    call, log = counting(tmp_path)
    ticket = launcher.ticket()
    await salt_lab.call(salt_lab.lab.stop_master)
    try:
        with trio.fail_after(2):
            assert not await launcher.reachable()
            with pytest.raises(LaunchUnknown, match="is down"):
                await launcher.publish(ticket, call, ALL)
    finally:
        await salt_lab.call(salt_lab.lab.start_master)
    await salt_lab.call(salt_lab.lab.answering, ALL)
    async with launcher.answers(ticket) as answers:
        for _ in range(2):
            await launcher.publish(ticket, call, ALL)
        assert {(await answers.receive()).machine for _ in ALL} == set(ALL)
    assert sorted(log.read_text().split()) == list(ALL)


async def test_a_master_that_hangs_leaves_it_open_and_nothing_runs_twice(salt_lab: LabHandle, tmp_path: Path) -> None:
    call, log = counting(tmp_path)
    async with served(salt_lab.lab.master_config, request_timeout_s=1) as launcher:
        ticket = launcher.ticket()
        async with launcher.answers(ticket) as answers:
            salt_lab.lab.freeze_master()
            try:
                for _ in range(2):
                    with pytest.raises(LaunchUnknown, match="gave no answer"):
                        await launcher.publish(ticket, call, ALL)
                assert not await launcher.reachable()
            finally:
                salt_lab.lab.thaw_master()
            await salt_lab.call(salt_lab.lab.answering, ALL)
            await launcher.publish(ticket, call, ALL)
            assert {(await answers.receive()).machine for _ in ALL} == set(ALL)
        await ask(launcher, Ping(), ALL)
    assert sorted(log.read_text().split()) == list(ALL)


async def test_answers_survive_a_restart_of_the_master(launcher: SaltLauncher, salt_lab: LabHandle) -> None:
    """What the master has is found again, and what comes afterwards is heard by the same launcher.

    What a minion returns just while its master restarts may be lost: Salt promises nothing there.
    """
    before, after = launcher.ticket(), launcher.ticket()
    done = {Answer("m1", 0, "done\n"), Answer("m2", 0, "done\n")}
    await launcher.publish(before, plain("echo done"), ["m1", "m2"])
    assert await answers_to(launcher, before) == done  # by the event bus, and so perhaps not on disk yet
    assert await answers_to(launcher, before) == done  # from the job cache
    await salt_lab.call(salt_lab.lab.restart_master)
    await salt_lab.call(salt_lab.lab.answering, ALL)
    assert await answers_to(launcher, before) == done
    await launcher.publish(after, plain("echo done"), ["m1", "m2"])
    assert await answers_to(launcher, after) == done
    assert (await ask(launcher, FindPlain(ticket=after), ["m1"]))["m1"].text == ""


async def answers_to(launcher: SaltLauncher, ticket: str) -> set[Answer]:
    """The first two."""
    async with launcher.answers(ticket) as answers:
        return {await answers.receive(), await answers.receive()}


async def test_a_master_that_never_started_is_down(tmp_path: Path) -> None:
    publish_port, ret_port = free_ports(2)
    config = tmp_path / "master"
    settings = {"root_dir": str(tmp_path), "publish_port": publish_port, "ret_port": ret_port, "interface": "127.0.0.1"}
    config.write_text(yaml.safe_dump(settings))
    async with served(config) as launcher:
        assert not await launcher.reachable()
        with pytest.raises(LaunchUnknown):
            await launcher.match(Target("*"))
        with pytest.raises(LaunchUnknown):
            await launcher.publish(launcher.ticket(), Ping(), ALL)


async def test_the_log_can_be_set_up_again_after_salt_has_been_loaded(salt_lab: LabHandle) -> None:
    called: list[bool] = []
    launcher = SaltLauncher(str(salt_lab.lab.master_config), after_import=lambda: called.append(True))
    for _ in range(2):
        await launcher.match(Target("*"))
    assert called == [True]
