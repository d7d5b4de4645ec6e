"""Output is byte-exact whatever arrives twice, and past its limit it says what was left out."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.storage import LogLine, Piece
from saltpeter.store import output
from saltpeter.store.codec import to_us
from saltpeter.store.output import name_of
from saltpeter.store.schema import OUTPUT
from saltpeter.store.streams import MAX_PIECE, Addition, Note, OutputGap, Remark, Word, Written, write

HERE = ExecutionId("backup_1762346049", "db01")
RETRY = ExecutionId("backup_1762346049", "db01", 2)
THERE = ExecutionId("backup_1762346049", "db02")
AT = datetime(2025, 11, 5, 12, 34, 9, 123456, tzinfo=timezone.utc)


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


def append(
    day: sqlite3.Connection, execution: ExecutionId, offset: int, data: bytes, cut: int = 0, *, limit: int | None = None
) -> int:
    [written] = write(day, [Addition(name_of(execution), offset, [data], cut, limit)])
    return written.length


def note(day: sqlite3.Connection, execution: ExecutionId, text: str) -> None:
    write(day, [Note(name_of(execution), text)])


def written(day: sqlite3.Connection) -> bytes:
    """What the command itself wrote."""
    return b"".join(piece.data for piece in output.pieces(day, HERE, 0, 10_000) if not piece.system)


def test_the_attempts_and_machines_of_a_run_do_not_mix(day: sqlite3.Connection) -> None:
    for execution, data in ((HERE, b"one"), (RETRY, b"two!"), (THERE, b"three"), (HERE, b"one more")):
        append(day, execution, 0, data)
    assert [text(day, each) for each in (HERE, RETRY, THERE)] == [b"one more", b"two!", b"three"]
    assert output.lengths(day, [HERE.run]) == {name_of(HERE): 8, name_of(RETRY): 4, name_of(THERE): 5}
    assert output.length(day, ExecutionId("backup_1", "db01")) == 0


def test_what_is_there_already_is_left_out(day: sqlite3.Connection) -> None:
    assert append(day, HERE, 0, b"hello ") == 6
    assert append(day, HERE, 0, b"hello ") == 6
    assert append(day, HERE, 2, b"llo world") == 11
    assert append(day, HERE, 1, b"ello") == 11
    assert output.pieces(day, HERE, 0, 9) == [Piece(0, b"hello "), Piece(1, b"world")]


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, 40_000, MAX_PIECE, MAX_PIECE + 9])), st.data())
def test_the_portions_in_which_it_comes_do_not_matter(sizes: list[int], data: st.DataObject) -> None:
    day, portions = empty_day(), [bytes([number]) * size for number, size in enumerate(sizes)]
    whole = b"".join(portions)
    held = data.draw(st.integers(0, len(whole)))
    append(day, HERE, 0, whole[:held])
    assert write(day, [Addition(name_of(HERE), 0, portions)]) == [Written(len(whole), len(whole) - held)]
    pieces = output.pieces(day, HERE, 0, 10_000)
    assert b"".join(piece.data for piece in pieces) == whole
    assert max((len(piece.data) for piece in pieces), default=0) <= MAX_PIECE
    day.close()


def test_small_portions_are_one_piece(day: sqlite3.Connection) -> None:
    write(day, [Addition(name_of(HERE), 0, [b"line\n"] * 1000)])
    assert [piece.data for piece in output.pieces(day, HERE, 0, 9)] == [b"line\n" * 1000]


def test_a_gap_is_refused_unless_it_was_cut_on_purpose(day: sqlite3.Connection) -> None:
    append(day, HERE, 0, b"abc")
    for cut in (0, 6, 8):
        with pytest.raises(OutputGap):
            append(day, HERE, 10, b"xyz", cut)
    assert append(day, HERE, 10, b"xyz\n", 7) == 14
    assert append(day, HERE, 10, b"xyz\n", 7) == 14
    assert text(day) == b"abc\n[SALTPETER: 7 bytes of output were cut here]\nxyz\n"


def test_a_note_is_a_line_by_itself_and_counts_no_bytes(day: sqlite3.Connection) -> None:
    note(day, HERE, "[first]")
    append(day, HERE, 0, b"half a li")
    note(day, HERE, "[Job terminated by user request]")
    assert append(day, HERE, 9, b"ne\n") == 12
    note(day, HERE, "[last]")
    assert text(day) == b"[first]\nhalf a li\n[Job terminated by user request]\nne\n[last]\n"
    assert [piece.system for piece in output.pieces(day, HERE, 0, 9)] == [True, False, True, False, True]


def test_pieces_are_read_from_any_index_on(day: sqlite3.Connection) -> None:
    for execution in (HERE, THERE):
        for number in range(10):
            append(day, execution, number, b"%d" % number)
    assert output.pieces(day, HERE, 3, 2) == [Piece(3, b"3"), Piece(4, b"4")]
    assert output.pieces(day, HERE, 9, 2) == [Piece(9, b"9")]
    assert output.pieces(day, HERE, 10, 2) == []


def test_a_large_answer_is_kept_in_bearable_pieces(day: sqlite3.Connection) -> None:
    data = bytes(range(256)) * 1000
    assert append(day, HERE, 0, data) == len(data)
    assert [len(piece.data) for piece in output.pieces(day, HERE, 0, 99)] == [65536, 65536, 65536, 59392]
    assert text(day) == data


def test_the_wrappers_log_stands_beside_the_output(day: sqlite3.Connection) -> None:
    for level, said in (("info", "connected \ud83d"), ("error", "lost")):
        write(day, [Remark(name_of(HERE), to_us(AT), level, said)])
    assert output.logs(day, HERE) == [LogLine(AT, "info", "connected \\ud83d"), LogLine(AT, "error", "lost")]
    assert output.pieces(day, HERE, 0, 9) == []
    assert output.logs(day, THERE) == []


def test_past_its_limit_the_middle_is_left_out(day: sqlite3.Connection) -> None:
    data = b"".join(b"%02d--" % number for number in range(25))
    for offset in range(0, 100, 4):
        append(day, HERE, offset, data[offset : offset + 4], limit=20)
    assert text(day) == data[:10] + b"\n[SALTPETER: 78 bytes of output were cut here]\n" + data[88:]
    assert output.length(day, HERE) == 100
    assert output.pieces(day, HERE, 4, 1)[0].index > 4  # one who reads on misses what is gone, and nothing else


def test_a_limit_of_nothing_keeps_nothing(day: sqlite3.Connection) -> None:
    append(day, HERE, 0, b"abc", limit=0)
    assert append(day, HERE, 3, b"def") == 6
    assert text(day) == b"[SALTPETER: 6 bytes of output were cut here]\n"


writes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans()), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), writes)
def test_nothing_is_lost_and_nothing_comes_twice(data: bytes, steps: list[tuple[int, int, bool]]) -> None:
    """A wrapper that resumes a little further back each time, with other lengths, changes no byte."""
    day, length = empty_day(), 0
    for back, size, noted in steps:
        offset = max(0, length - back)
        length = append(day, HERE, offset, data[offset : offset + size])
        assert length == output.length(day, HERE)
        if noted:
            note(day, HERE, "[note]")
    assert written(day) == data[:length]
    day.close()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(1, 40), max_size=20), st.integers(1, 40))
def test_both_ends_survive_any_limit(limit: int, sizes: list[int], largest: int) -> None:
    day, data = empty_day(), bytes(range(32, 256)) * 4  # without line ends, so that the mark brings its own
    length = 0
    for size in sizes:
        length = append(day, HERE, length, data[length : length + min(size, largest)], limit=limit)
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


class Counting(sqlite3.Connection):
    """A connection that counts its statements."""

    statements = 0

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.statements += 1
        return super().execute(*args)


words = st.lists(
    st.one_of(
        st.builds(lambda size: (HERE, size), st.integers(0, 30)),
        st.builds(lambda size: (THERE, size), st.integers(0, 30)),
        st.sampled_from([(HERE, "note"), (THERE, "note"), (HERE, "remark")]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(words, st.integers(0, 60) | st.none())
def test_written_together_is_as_written_one_by_one(
    said: list[tuple[ExecutionId, int | str]], limit: int | None
) -> None:
    lengths, wanted = {HERE: 0, THERE: 0}, list[Word]()
    for execution, what in said:
        if isinstance(what, int):
            offset = lengths[execution]
            data = bytes((offset + number) % 251 for number in range(what))
            wanted.append(Addition(name_of(execution), offset, [data], limit=limit))
            lengths[execution] += what
        elif what == "note":
            wanted.append(Note(name_of(execution), "[note]", limit))
        else:
            wanted.append(Remark(name_of(execution), to_us(AT), "info", "remark", limit))
    together, one_by_one = empty_day(), empty_day()
    assert write(together, wanted) == [done for word in wanted for done in write(one_by_one, [word])]
    for execution in (HERE, THERE):
        assert output.pieces(together, execution, 0, 99) == output.pieces(one_by_one, execution, 0, 99)
        assert output.logs(together, execution) == output.logs(one_by_one, execution)
        assert output.length(together, execution) == lengths[execution]
    together.close()
    one_by_one.close()


def test_what_many_machines_say_takes_a_few_statements() -> None:
    """Each statement of a thread is a quarrel with the loop about Python's lock."""
    day = sqlite3.connect(":memory:", isolation_level=None, factory=Counting)
    day.executescript("".join(OUTPUT))
    names = [ExecutionId("backup_1762346049", f"m{number}") for number in range(64)]
    for offset in (0, 5):
        day.statements = 0
        write(day, [Addition(name_of(name), offset, [b"done\n"]) for name in names])
        assert day.statements <= 4
    assert [text(day, name) for name in names] == [b"done\ndone\n"] * 64
    day.close()
