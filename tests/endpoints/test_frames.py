from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from saltpeter.endpoints.frames import Frames, Heard, Owed


def client() -> Connection:
    return Connection(ConnectionType.CLIENT)


def hear(connection: Connection, data: bytes) -> list[Event]:
    connection.receive_data(data)
    return list(connection.events())


def feed(frames: Frames, data: bytes, cuts: list[int]) -> list[Heard]:
    """Feed `data` in parts."""
    ends = sorted({cut for cut in cuts if cut < len(data)})
    heard: list[Heard] = []
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        heard += frames.feed(data[start:end])
    return heard


texts = st.lists(st.text(max_size=40), max_size=5)


@given(texts, st.lists(st.integers(1, 400), max_size=8), st.booleans())
def test_messages_come_through_however_they_are_cut(said: list[str], cuts: list[int], in_parts: bool) -> None:
    peer, frames, data = client(), Frames(1000), b""
    for text in said:
        if in_parts:
            data += peer.send(TextMessage(data=text[:3], message_finished=False))
            data += peer.send(Ping(payload=b"there?"))
            data += peer.send(TextMessage(data=text[3:]))
        else:
            data += peer.send(TextMessage(data=text))
    heard = feed(frames, data, cuts)
    assert [each for each in heard if isinstance(each, str)] == said
    owed = b"".join(each.data for each in heard if isinstance(each, Owed))
    pongs = [event for event in hear(peer, owed) if isinstance(event, Pong)]
    assert len(pongs) == (len(said) if in_parts else 0)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_no_bytes_break_it(data: bytes, cuts: list[int]) -> None:
    frames = Frames(50)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        if not frames.ended:
            list(frames.feed(data[start:end]))
    assert isinstance(frames.farewell(1000, ""), bytes)
    assert frames.farewell(1000, "") == b""


def test_bytes_come_as_bytes() -> None:
    frames, peer = Frames(10), client()
    assert list(frames.feed(peer.send(BytesMessage(data=b"\xff")))) == [b"\xff"]


@pytest.mark.parametrize("parts", [["much too long"], ["much ", "too ", "long"]])
def test_a_message_past_the_limit_ends_it(parts: list[str]) -> None:
    frames, peer = Frames(10), client()
    data = b"".join(peer.send(TextMessage(data=part, message_finished=part is parts[-1])) for part in parts)
    assert list(frames.feed(peer.send(TextMessage(data="short")) + data + b"more")) == ["short"]
    assert frames.ended
    [end] = hear(peer, frames.farewell(1000, "as asked for"))
    assert isinstance(end, CloseConnection)
    assert end.code == 1009  # of RFC 6455: the message is too big


@pytest.mark.parametrize("parts", [[b"\xff"], [b"caf\xc3", b"("]])
def test_text_that_is_no_utf_8_ends_it(parts: list[bytes]) -> None:
    frames = Frames(10)
    whole = Frame(Opcode.TEXT, b"".join(parts))
    first = Frame(Opcode.TEXT, parts[0], fin=False)
    rest = Frame(Opcode.CONT, b"".join(parts[1:]))
    for frame in [whole] if len(parts) == 1 else [first, rest]:
        assert list(frames.feed(frame.serialize(mask=True))) == []
    assert frames.ended
    [end] = hear(client(), frames.farewell(1000, "as asked for"))
    assert isinstance(end, CloseConnection)
    assert end.code == 1007  # of RFC 6455: text that is none


def test_a_character_may_be_cut() -> None:
    frames = Frames(10)
    parts = [Frame(Opcode.TEXT, b"caf\xc3", fin=False), Frame(Opcode.CONT, b"\xa9")]
    assert [heard for part in parts for heard in frames.feed(part.serialize(mask=True))] == ["café"]


def test_a_farewell_is_answered_with_the_same_code() -> None:
    frames, peer = Frames(10), client()
    assert list(frames.feed(peer.send(CloseConnection(code=1001, reason="leaving")))) == []
    assert frames.ended
    [end] = hear(peer, frames.farewell(1000, ""))
    assert isinstance(end, CloseConnection)
    assert end.code == 1001
