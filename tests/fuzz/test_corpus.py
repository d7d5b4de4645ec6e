"""Every input that is kept, and what hypothesis makes up, put to every target: part of each run of the tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, corpus

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
SPICES = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"-1", b"1e999", b"9" * 400, b"null", b"[[[["),
    *(b"{}", b"&a *a", b"\r\n\r\n", b"%", b"\\ud800"),
)
BRIEFLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_is_no_bug_any_more(name: str) -> None:
    assert corpus(name), "there is nothing to start from"
    for path in corpus(name):
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@BRIEFLY
def test_what_is_kept_with_changes_is_none(name: str, data: st.DataObject) -> None:
    """Cut out, doubled, replaced and swapped stretches of what is known to reach far."""
    text = data.draw(st.sampled_from(corpus(name)).map(Path.read_bytes))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        middle = data.draw(st.binary(max_size=8) | st.just(text[start:end] * 2) | st.sampled_from(SPICES))
        text = text[:start] + middle + text[end:]
    TARGETS[name](text)


@pytest.mark.parametrize("name", ["wire", "control"])
@given(data=st.data())
@BRIEFLY
def test_messages_with_a_field_of_another_kind_are_none(name: str, data: st.DataObject) -> None:
    fields = json.loads(data.draw(st.sampled_from(seeds(name)).map(Path.read_bytes)))
    for key in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
        fields[key] = data.draw(JSON)
    TARGETS[name](json.dumps(fields).encode())


def seeds(name: str) -> list[Path]:
    """Of what is kept, that which is a message."""
    return [path for path in corpus(name) if path.suffix == ".json"]
