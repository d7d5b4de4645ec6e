from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper.chunks import sendable, torn


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"abc", 0),
        ("é".encode(), 0),
        ("€".encode()[:1], 1),
        ("€".encode()[:2], 2),
        ("😀".encode()[:3], 3),
        (b"\xff", 0),
        (b"\x80\x80\x80\x80", 0),
        (b"\xc0", 0),
    ],
)
def test_what_is_torn_at_the_end(data: bytes, expected: int) -> None:
    assert torn(data) == expected


@given(st.text(), st.integers(1, 10))
def test_text_goes_out_as_text_however_it_comes(text: str, step: int) -> None:
    data, held, sent = text.encode(), b"", []
    for at in range(0, len(data), step):
        held += data[at : at + step]
        ready = sendable(held, final=at + step >= len(data))
        sent.append(ready.decode())
        held = held[len(ready) :]
    assert "".join(sent) == text
    assert not held


@given(st.binary())
def test_at_most_three_bytes_wait(data: bytes) -> None:
    ready = sendable(data, final=False)
    assert data.startswith(ready)
    assert len(data) - len(ready) <= 3
    assert sendable(data, final=True) == data
