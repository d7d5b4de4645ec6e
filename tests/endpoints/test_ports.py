"""A control port that other hosts reach is served with TLS and tokens, or not at all."""

from __future__ import annotations

import errno
import grp
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair

from saltpeter.domain.job import Config, Settings
from saltpeter.endpoints.ports import Listening, certificate, listening, most_strangers
from saltpeter.endpoints.sockets import RETRY_S, AddressInUse, accept_each
from saltpeter.endpoints.tls import Certificate
from saltpeter.engine.people import TokenFile
from saltpeter.errors import ConfigError, Problem

EVERYWHERE = "0.0.0.0"  # noqa: S104  what these tests are about


def certified(directory: Path) -> Certificate:
    made = trustme.CA().issue_cert("localhost")
    made.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    return Certificate(directory / "both.pem", directory / "both.pem")


async def bound(directory: Path, *, is_secure: bool = False, **settings: Any) -> Listening:
    said = {"statedir": str(directory), "logdir": str(directory), "api_ws_port": 0, "machines_ws_port": 0, **settings}
    tokens = TokenFile(directory / "people-tokens.json")
    async with listening(Settings(**said), tokens, certified(directory) if is_secure else None) as ports:
        return ports


async def test_loopback_needs_nothing(tmp_path: Path) -> None:
    ports = await bound(tmp_path)
    assert (ports.is_exposed, str(ports.addresses.control_url)[:17]) == (False, "http://127.0.0.1:")


async def test_tls_changes_the_addresses(tmp_path: Path) -> None:
    ports = await bound(tmp_path, is_secure=True)
    assert str(ports.addresses.control_url).startswith("https://")
    assert ports.addresses.machines_url.startswith("wss://")


@pytest.mark.parametrize(
    ("is_secure", "tokens_wanted", "missing"),
    [
        (False, False, ["tls_certificate", "tls_key", "saltpeter token add"]),
        (False, True, ["tls_certificate"]),
        (True, False, ["saltpeter token add"]),
    ],
)
async def test_everybody_may_not_come_in(
    is_secure: bool, tokens_wanted: bool, missing: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        await bound(tmp_path, is_secure=is_secure, api_ws_bind_addr=EVERYWHERE, require_tokens=tokens_wanted)
    for word in [*missing, "api_ws_bind_addr", "127.0.0.1", "api_ws: false", "insecure: true"]:
        assert word in str(refused.value)
    assert ("saltpeter token add" in str(refused.value)) is not tokens_wanted


async def test_with_both_others_are_welcome_and_are_asked_for_tokens_for_ever(tmp_path: Path) -> None:
    assert (await bound(tmp_path, is_secure=True, api_ws_bind_addr=EVERYWHERE, require_tokens=True)).is_exposed


async def test_who_says_that_it_is_insecure_gets_it(tmp_path: Path) -> None:
    assert not (await bound(tmp_path, api_ws_bind_addr=EVERYWHERE, insecure=True)).is_exposed


async def test_without_a_control_port_there_is_nothing_to_guard(tmp_path: Path) -> None:
    assert (await bound(tmp_path, api_ws_bind_addr=EVERYWHERE, api_ws=False)).addresses.control_url is None


def with_settings(directory: Path, *problems: Problem, **settings: Any) -> Config:
    return Config(
        jobs={}, settings=Settings(statedir=str(directory), logdir=str(directory), **settings), problems=problems
    )


@pytest.mark.parametrize("key", ["tls_certificate", "tls_key", "require_tokens", "api_ws_bind_addr"])
def test_a_guard_that_cannot_be_read_is_not_left_out(key: str, tmp_path: Path) -> None:
    wrong = Problem("/etc/x.yaml", 3, "saltpeter_config", key, "must be something else")
    with pytest.raises(ConfigError, match=rf"/etc/x.yaml:3: saltpeter_config.{key}: .* nothing is served"):
        certificate(with_settings(tmp_path, wrong))


def test_other_keys_stop_nothing(tmp_path: Path) -> None:
    assert certificate(with_settings(tmp_path, Problem("x", 1, "saltpeter_config", "timezone", "is none"))) is None


@pytest.mark.parametrize("only", ["tls_certificate", "tls_key"])
def test_half_of_tls_is_none(only: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        certificate(with_settings(tmp_path, **{only: "/etc/x.pem"}))


async def test_a_group_may_be_let_in_by_the_unix_socket(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    gid = os.getgid()
    async with listening(
        Settings(
            statedir=str(directory), logdir=str(directory), api_ws=False, machines_ws_port=0, socket_group=name_of(gid)
        ),
        TokenFile(directory / "people-tokens.json"),
        None,
    ) as ports:
        found = ports.addresses.control_socket.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o710  # through it, but no look at what else is there


async def test_a_group_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(AddressInUse, match="there is no group nobody-has-this"):
        await bound(tmp_path, socket_group="nobody-has-this")


def test_strangers_leave_room_for_the_others() -> None:
    assert 1 <= most_strangers() <= 8192


def name_of(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


@attrs.define(eq=False)
class Listener(trio.abc.Listener[trio.abc.Stream]):
    """The next of `found` is accepted, or raised; after them nobody comes."""

    found: list[trio.abc.Stream | OSError]

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.found:
            await trio.sleep_forever()
        one = self.found.pop(0)
        if isinstance(one, OSError):
            raise one
        return one

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_whoever_cannot_be_accepted_waits_and_that_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    full = OSError(errno.EMFILE, "Too many open files")
    first, second, third = (memory_stream_pair()[0] for _ in range(3))
    welcomed: dict[trio.abc.Stream, float] = {}

    def welcome(stream: trio.abc.Stream) -> None:
        welcomed[stream] = trio.current_time()

    began = trio.current_time()
    with trio.move_on_after(60):
        await accept_each(Listener([first, full, full, second, full, third]), welcome)
    assert list(welcomed) == [first, second, third]
    assert [round((at - began) / RETRY_S) for at in welcomed.values()] == [0, 2, 3]
    assert [record.message for record in caplog.records] == [f"Cannot accept connections: {full}"] * 2
