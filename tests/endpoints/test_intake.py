from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saltpeter.endpoints.intake import Accepted, Intake, Repeat, merged
from sp_wrapper import wire


def piece(seq: int, data: bytes, offset: int | None, cut: int = 0, stream: str = "stdout") -> wire.Output:
    return wire.Output(seq=seq, data=data, offset=offset, cut=cut, stream=stream)


def test_output_in_its_place_is_accepted() -> None:
    intake = Intake(10)
    assert intake.judge(piece(4, b"abc", 10)) == piece(4, b"abc", 10)
    assert intake.judge(piece(5, b"d", 13)) == piece(5, b"d", 13)
    assert intake.length == 14


def test_what_is_held_is_a_repeat_and_what_overlaps_is_not() -> None:
    intake = Intake(10)
    assert intake.judge(piece(0, b"abc", 0)) == Repeat(0)
    assert intake.judge(piece(1, b"0123456789", 5)) == piece(1, b"0123456789", 5)
    assert intake.length == 15


def test_a_gap_is_refused_unless_it_was_cut() -> None:
    intake = Intake(10, next_seq=3)
    assert intake.judge(piece(9, b"abc", 12)) == wire.Nack(expected_seq=3, received_seq=9)
    assert intake.judge(piece(9, b"abc", 12, cut=1)) == wire.Nack(expected_seq=3, received_seq=9)
    assert intake.judge(piece(9, b"abc", 12, cut=2)) == piece(9, b"abc", 12, cut=2)
    assert intake.length == 15


def test_only_what_is_missing_counts_as_cut() -> None:
    assert Intake(10).judge(piece(9, b"abc", 12, cut=7)) == piece(9, b"abc", 12, cut=2)
    assert Intake(12).judge(piece(9, b"", 20, cut=20)) == piece(9, b"", 20, cut=8)


def test_a_wrapper_without_offsets_is_followed_by_its_numbers() -> None:
    intake = Intake(10)
    assert intake.judge(piece(7, b"abc", None)) == piece(7, b"abc", 10)  # nobody knows better
    assert intake.judge(piece(7, b"abc", None)) == Repeat(7)
    assert intake.judge(piece(9, b"ghi", None)) == wire.Nack(expected_seq=8, received_seq=9)
    assert intake.judge(piece(8, b"def", None)) == piece(8, b"def", 13)


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60))))
def test_whatever_is_sent_again_the_bytes_are_right(command: bytes, sends: list[tuple[int, int]]) -> None:
    intake, held = Intake(0), b""
    for seq, (start, size) in enumerate(sends):
        data = command[start : start + size]
        verdict = intake.judge(piece(seq, data, min(start, len(command))))
        if isinstance(verdict, wire.Output):
            assert verdict.offset is not None
            assert verdict.offset <= len(held)
            held += verdict.data[len(held) - verdict.offset :]
        assert held == command[: intake.length]


def test_however_much_adjoins_is_put_together() -> None:
    size = 64 * 1024
    outputs = [piece(number, bytes(size), number * size) for number in range(64)]
    assert list(merged(outputs)) == [tuple(outputs)]


def test_adjoining_output_is_put_together() -> None:
    messages: list[Accepted] = [
        piece(1, b"ab", 0),
        piece(2, b"c", 2),
        piece(3, b"d", 3, stream="stderr"),
        wire.Log(text="between"),
        piece(4, b"e", 4, stream="stderr"),
        piece(5, b"f", 9, cut=4, stream="stderr"),
        Repeat(2),
    ]
    assert list(merged(messages)) == [
        (piece(1, b"ab", 0), piece(2, b"c", 2)),
        (piece(3, b"d", 3, stream="stderr"),),
        wire.Log(text="between"),
        (piece(4, b"e", 4, stream="stderr"),),
        (piece(5, b"f", 9, cut=4, stream="stderr"),),
        Repeat(2),
    ]
