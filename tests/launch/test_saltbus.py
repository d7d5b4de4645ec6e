"""Salt's event bus, byte by byte, and over the lives of a master."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.launch import saltbus
from saltpeter.launch.saltbus import BadStreamError, Decoder, Return


def event(tag: str, data: Any) -> bytes:
    packed: bytes = msgpack.packb({b"head": {}, b"body": tag.encode() + b"\n\n" + msgpack.packb(data)})
    return packed


def returned(jid: str, minion: str, value: Any) -> bytes:
    return event(f"salt/job/{jid}/ret/{minion}", {"id": minion, "jid": jid, "return": value, "retcode": 0})


def decoded(chunks: Iterable[bytes], wanted: Iterable[str] = ("1",)) -> list[Return]:
    decoder = Decoder(set(wanted).__contains__)
    return [found for chunk in chunks for found in decoder.feed(chunk)]


@pytest.mark.parametrize(
    "data",
    [
        {"id": "m2", "cmd": "_minion_event", "tag": "salt/job/1/ret/m1", "data": {"return": "forged"}},
        {"id": "m2", "jid": "1", "return": "forged", "retcode": 0},
        {"id": "m1", "jid": "1"},
        ["return"],
    ],
)
def test_what_another_minion_says_is_no_return(data: object) -> None:
    """Any minion may put an event under any tag; its own id is then in it (Salt 3008: `event.fire_master`)."""
    assert decoded([event("salt/job/1/ret/m1", data)]) == []


def test_only_returns_of_wanted_jobs_are_found() -> None:
    stream = [
        event("salt/job/1/new", {"jid": "1"}),
        returned("1", "m1", True),
        returned("2", "m1", True),
        event("salt/auth", {"id": "m1"}),
        event("minion/refresh/m1", {}),
    ]
    assert [(found.jid, found.minion, found.data["return"]) for found in decoded(stream)] == [("1", "m1", True)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("12"), st.sampled_from(["m1", "ü"]), st.text()), max_size=5), st.data())
def test_returns_are_found_however_the_bytes_are_cut(events: list[tuple[str, str, str]], data: st.DataObject) -> None:
    stream = b"".join(returned(*each) for each in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = [(each.jid, each.minion, each.data["return"]) for each in decoded(pieces)]
    assert found == [each for each in events if each[0] == "1"]


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_do_worse_than_a_bad_stream(noise: bytes) -> None:
    with suppress(BadStreamError):
        decoded([noise])


def test_what_is_not_a_bus_is_said() -> None:
    with pytest.raises(BadStreamError, match="without a body"):
        decoded([b"GET / HTTP/1.1"])


def test_bytes_that_are_no_text_are_replaced() -> None:
    data = msgpack.packb({"return": b"\xff", "id": "m1"}, use_bin_type=False)
    frame = msgpack.packb({"head": {}, "body": b"salt/job/1/ret/m1\n\n" + data})
    [found] = decoded([frame])
    assert found.data["return"] == "\ufffd"


def test_the_bus_is_a_socket_file_or_a_port() -> None:
    assert saltbus.address({"sock_dir": "/run/salt"}) == Path("/run/salt/master_event_pub.ipc")
    assert saltbus.address({"sock_dir": "/x", "ipc_mode": "tcp", "tcp_master_pub_port": 4512}) == ("127.0.0.1", 4512)


class Heard:
    """What a listener passes on: True and False for connections, and the returns."""

    def __init__(self) -> None:
        self.things: list[bool | str] = []

    def connection(self, connected: bool) -> None:
        self.things.append(connected)

    def returned(self, found: Return) -> None:
        self.things.append(found.minion)

    async def until(self, *things: bool | str) -> None:
        with trio.fail_after(5):
            while self.things != list(things):  # noqa: ASYNC110
                await trio.sleep(0.005)


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Heard]:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(saltbus.listen, path, lambda _: True, heard.connection, heard.returned)
        yield heard
        nursery.cancel_scope.cancel()


async def bus(path: Path) -> trio.SocketListener:
    """As a master's start makes it: over whatever its last life has left."""
    path.unlink(missing_ok=True)  # noqa: ASYNC240
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await sock.bind(str(path))
    sock.listen()
    return trio.SocketListener(sock)


async def test_each_life_of_the_master_is_a_connection_and_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    async with listening(path) as heard:
        await trio.sleep(0.01)  # there is nothing yet, and that is normal
        for life in ("m1", "m2"):
            heard.things.clear()
            async with await bus(path) as listener, await listener.accept() as stream:
                await stream.send_all(returned("1", life, True))
                await heard.until(True, life)
            await heard.until(True, life, False)


async def test_a_stream_that_makes_no_sense_is_left_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saltbus, "_LAST_RETRY_S", 0.01)
    path = tmp_path / "bus"
    async with await bus(path) as listener, listening(path) as heard, await listener.accept() as stream:
        await stream.send_all(b"\xc1")
        async with await listener.accept() as better:
            await better.send_all(returned("1", "m1", True))
            await heard.until(True, False, True, "m1")
    assert "cannot be understood" in caplog.text


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything, so what others may not is tried as nobody."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


async def test_a_bus_that_may_not_be_read_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saltbus, "_LAST_RETRY_S", 0.01)
    path = tmp_path / "bus"
    async with await bus(path):
        path.chmod(0)
        with as_somebody_else():
            async with listening(path):
                await trio.sleep(0.3)
    assert caplog.text.count("may not be read") == 1
