"""The messages between wrapper and daemon: what is written is read back, and nothing that is sent can do harm."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper import frames, wire

NOON = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=timezone.utc)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 2**40)
instants = st.none() | st.just(NOON)
processes = st.lists(st.builds(wire.Process, pid=counts, name=texts, state=texts), max_size=3).map(tuple)
receipts = st.builds(wire.Receipt, signalled=processes, ended=processes, survived=processes)
seconds = st.floats(0, 1e9)
usages = st.builds(wire.Usage, user_s=seconds, system_s=seconds, max_rss=counts)
abouts = st.builds(wire.About, job_name=texts, job_instance=texts, machine=texts)

from_wrapper = st.one_of(
    st.builds(wire.Connect, version=texts, token=texts, sent=st.none() | counts, attempt=counts),
    st.builds(wire.Start, pid=counts, version=texts, started=instants),
    st.builds(wire.Output, seq=counts, data=st.binary(max_size=200), offset=st.none() | counts, cut=counts),
    st.builds(wire.Heartbeat, rss=st.none() | counts, cpu=st.none() | seconds, paused=st.booleans()),
    st.builds(wire.SyncRequest, last_acked_seq=st.integers(-1, 99), next_seq=counts),
    st.builds(
        wire.Complete,
        retcode=st.integers(-64, 255),
        outcome=texts,
        seq=st.none() | counts,
        length=st.none() | counts,
        error=texts,
        receipt=st.none() | receipts,
        rusage=st.none() | usages,
        started=instants,
        ended=instants,
    ),
    st.builds(wire.Killed, receipt=receipts),
    st.builds(wire.Log, text=texts, level=texts),
    st.builds(wire.Failure, error=texts),
)
from_daemon = st.one_of(
    st.builds(wire.Ack, ack_type=texts, seq=st.none() | counts, offset=st.none() | counts),
    st.builds(wire.Nack, expected_seq=counts, received_seq=counts),
    st.builds(wire.SyncResponse, last_seq=counts),
    st.builds(wire.Kill, signal=texts, grace=seconds, reason=texts),
    st.builds(wire.Signal, signal=texts),
    st.builds(wire.Refusal, code=texts, message=texts),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(abouts, from_wrapper)
def test_what_a_wrapper_says_is_what_the_daemon_reads(about: wire.About, message: wire.FromWrapper) -> None:
    assert frames.decode_from_wrapper(frames.encode(about, message, NOON)) == frames.Frame(about, NOON, message)


@given(abouts, from_daemon)
def test_what_the_daemon_says_is_what_a_wrapper_reads(about: wire.About, message: wire.FromDaemon) -> None:
    assert frames.decode_from_daemon(frames.encode(about, message, NOON)) == frames.Frame(about, NOON, message)


@given(st.text() | st.binary() | anything.map(json.dumps))
def test_no_text_does_more_than_break_the_protocol(text: str | bytes) -> None:
    for decode in (frames.decode_from_wrapper, frames.decode_from_daemon):
        with pytest.raises(wire.RemoteProtocolError):
            decode(text)


@given(abouts, from_wrapper, st.data())
def test_no_field_does_more_than_break_the_protocol(
    about: wire.About, message: wire.FromWrapper, data: st.DataObject
) -> None:
    """A message with one of its fields replaced by anything is read, or refused in order."""
    fields: dict[str, Any] = json.loads(frames.encode(about, message, NOON))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(anything)
    try:
        frame = frames.decode_from_wrapper(json.dumps(fields))
    except wire.RemoteProtocolError as error:
        assert str(error)  # noqa: PT017  the peer is told
    else:
        frame.about.job_name.encode()


def test_fields_that_are_not_known_are_left_alone() -> None:
    """So that newer wrappers can speak to older daemons, and the other way round."""
    fields = json.loads(frames.encode(wire.About("j", "j_1", "m"), wire.Heartbeat(), NOON)) | {"mood": "fine"}
    assert frames.decode_from_wrapper(json.dumps(fields)).message == wire.Heartbeat()


def test_a_frame_of_the_first_wrappers_is_understood() -> None:
    text = (
        '{"type": "output", "job_name": "backup", "job_instance": "backup_1", "machine": "db01",'
        ' "timestamp": "2026-03-02T12:00:00Z", "stream": "stdout", "seq": 4, "data": "hello"}'
    )
    frame = frames.decode_from_wrapper(text)
    assert frame.message == wire.Output(seq=4, data=b"hello")
    assert (frame.about, frame.at) == (wire.About("backup", "backup_1", "db01"), NOON.replace(microsecond=0))
