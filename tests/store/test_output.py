"""Output is byte-exact whatever arrives twice, and past its limit it says what was left out."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.storage import LogLine, Piece
from saltpeter.store import output
from saltpeter.store.schema import OUTPUT

HERE = ExecutionId("backup_1762346049", "db01")
RETRY = ExecutionId("backup_1762346049", "db01", 2)
THERE = ExecutionId("backup_1762346049", "db02")


def empty_day() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(OUTPUT))
    return connection


@pytest.fixture
def day() -> Iterator[sqlite3.Connection]:
    connection = empty_day()
    yield connection
    connection.close()


def text(day: sqlite3.Connection, execution: ExecutionId = HERE) -> bytes:
    return b"".join(piece.data for piece in output.pieces(day, execution, 0, 10_000))


def written(day: sqlite3.Connection) -> bytes:
    """What the command itself wrote."""
    return b"".join(piece.data for piece in output.pieces(day, HERE, 0, 10_000) if not piece.system)


def test_the_attempts_and_machines_of_a_run_do_not_mix(day: sqlite3.Connection) -> None:
    for execution, data in ((HERE, b"one"), (RETRY, b"two!"), (THERE, b"three"), (HERE, b"one more")):
        output.append(day, execution, 0, data, 0)
    assert [text(day, each) for each in (HERE, RETRY, THERE)] == [b"one more", b"two!", b"three"]
    assert output.lengths(day, HERE.run) == {HERE: 8, RETRY: 4, THERE: 5}
    assert output.length(day, ExecutionId("backup_1", "db01")) == 0


def test_what_is_there_already_is_left_out(day: sqlite3.Connection) -> None:
    assert output.append(day, HERE, 0, b"hello ", 0) == 6
    assert output.append(day, HERE, 0, b"hello ", 0) == 6
    assert output.append(day, HERE, 2, b"llo world", 0) == 11
    assert output.append(day, HERE, 1, b"ello", 0) == 11
    assert output.pieces(day, HERE, 0, 9) == [Piece(0, b"hello "), Piece(1, b"world")]


def test_a_gap_is_refused_unless_it_was_cut_on_purpose(day: sqlite3.Connection) -> None:
    output.append(day, HERE, 0, b"abc", 0)
    for cut in (0, 6, 8):
        with pytest.raises(output.OutputGap):
            output.append(day, HERE, 10, b"xyz", cut)
    assert output.append(day, HERE, 10, b"xyz\n", 7) == 14
    assert output.append(day, HERE, 10, b"xyz\n", 7) == 14
    assert text(day) == b"abc\n[SALTPETER: 7 bytes of output were cut here]\nxyz\n"


def test_a_note_is_a_line_by_itself_and_counts_no_bytes(day: sqlite3.Connection) -> None:
    output.note(day, HERE, "[first]")
    output.append(day, HERE, 0, b"half a li", 0)
    output.note(day, HERE, "[Job terminated by user request]")
    assert output.append(day, HERE, 9, b"ne\n", 0) == 12
    output.note(day, HERE, "[last]")
    assert text(day) == b"[first]\nhalf a li\n[Job terminated by user request]\nne\n[last]\n"
    assert [piece.system for piece in output.pieces(day, HERE, 0, 9)] == [True, False, True, False, True]


def test_pieces_are_read_from_any_index_on(day: sqlite3.Connection) -> None:
    for execution in (HERE, THERE):
        for number in range(10):
            output.append(day, execution, number, b"%d" % number, 0)
    assert output.pieces(day, HERE, 3, 2) == [Piece(3, b"3"), Piece(4, b"4")]
    assert output.pieces(day, HERE, 9, 2) == [Piece(9, b"9")]
    assert output.pieces(day, HERE, 10, 2) == []


def test_a_large_answer_is_kept_in_bearable_pieces(day: sqlite3.Connection) -> None:
    data = bytes(range(256)) * 1000
    assert output.append(day, HERE, 0, data, 0) == len(data)
    assert [len(piece.data) for piece in output.pieces(day, HERE, 0, 99)] == [65536, 65536, 65536, 59392]
    assert text(day) == data


def test_the_wrappers_log_stands_beside_the_output(day: sqlite3.Connection) -> None:
    at = datetime(2025, 11, 5, 12, 34, 9, 123456, tzinfo=timezone.utc)
    output.log(day, HERE, at, "info", "connected \ud83d")
    output.log(day, HERE, at, "error", "lost")
    assert output.logs(day, HERE) == [LogLine(at, "info", "connected \\ud83d"), LogLine(at, "error", "lost")]
    assert output.pieces(day, HERE, 0, 9) == []
    assert output.logs(day, THERE) == []


def test_past_its_limit_the_middle_is_left_out(day: sqlite3.Connection) -> None:
    output.open_stream(day, HERE, 20)
    data = b"".join(b"%02d--" % number for number in range(25))
    for offset in range(0, 100, 4):
        output.append(day, HERE, offset, data[offset : offset + 4], 0)
    assert text(day) == data[:10] + b"\n[SALTPETER: 78 bytes of output were cut here]\n" + data[88:]
    assert output.length(day, HERE) == 100
    assert output.pieces(day, HERE, 4, 1)[0].index > 4  # one who reads on misses what is gone, and nothing else


def test_a_limit_of_nothing_keeps_nothing(day: sqlite3.Connection) -> None:
    output.open_stream(day, HERE, 0)
    output.append(day, HERE, 0, b"abc", 0)
    assert output.append(day, HERE, 3, b"def", 0) == 6
    assert text(day) == b"[SALTPETER: 6 bytes of output were cut here]\n"


writes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans()), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), writes)
def test_nothing_is_lost_and_nothing_comes_twice(data: bytes, steps: list[tuple[int, int, bool]]) -> None:
    """A wrapper that resumes a little further back each time, with other lengths, changes no byte."""
    day, length = empty_day(), 0
    for back, size, noted in steps:
        offset = max(0, length - back)
        length = output.append(day, HERE, offset, data[offset : offset + size], 0)
        assert length == output.length(day, HERE)
        if noted:
            output.note(day, HERE, "[note]")
    assert written(day) == data[:length]
    day.close()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(1, 40), max_size=20), st.integers(1, 40))
def test_both_ends_survive_any_limit(limit: int, sizes: list[int], largest: int) -> None:
    day, data = empty_day(), bytes(range(32, 256)) * 4  # without line ends, so that the mark brings its own
    output.open_stream(day, HERE, limit)
    length = 0
    for size in sizes:
        length = output.append(day, HERE, length, data[length : length + min(size, largest)], 0)
    kept = text(day)
    mark = re.search(rb"\n?\[SALTPETER: (\d+) bytes of output were cut here\]\n", kept)
    if mark is None:
        assert kept == data[:length]
        assert length <= limit + largest
    else:
        head, tail, dropped = kept[: mark.start()], kept[mark.end() :], int(mark[1])
        assert head == data[: limit // 2]
        assert tail == data[length - len(tail) : length]
        assert len(head) + dropped + len(tail) == length
        assert limit - limit // 2 <= len(tail) < limit - limit // 2 + largest
    day.close()
