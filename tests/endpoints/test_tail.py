from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from saltpeter.endpoints.tail import PIECES, Mark, Tail, utf16_length, without_first
from saltpeter.engine.storage import Piece

RUNNING = Mark(attempt=1, length=1, ended=False, late=False, run_ended=False)
ENDED = Mark(attempt=1, length=1, ended=True, late=False, run_ended=False)
AFTERWARDS = Mark(attempt=1, length=1, ended=True, late=False, run_ended=True)
RETRIED = Mark(attempt=2, length=1, ended=False, late=False, run_ended=False)


def tail(skip: int = 0) -> Tail:
    return Tail("backup", "backup_7", "db01", skip)


def cut(data: bytes, cuts: list[int]) -> list[Piece]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return [Piece(index, data[a:b]) for index, (a, b) in enumerate(pairwise(edges))]


def play(one: Tail, attempts: list[list[Piece]], mark: Mark) -> list[dict[str, Any]]:
    """All that `one` says until it has read everything."""
    said: list[dict[str, Any]] = []
    while one.is_behind(mark):
        pieces = [piece for piece in attempts[one.attempt - 1] if piece.index >= one.next_index]
        said += one.advance(pieces[:PIECES], mark)
    return said


def shown(messages: list[dict[str, Any]], known: str = "") -> str:
    """What a browser has that puts each chunk where it says that it belongs, and forgets what it had there."""
    units = known.encode("utf-16-le")
    for message in messages:
        assert message["position"] * 2 <= len(units), "a gap"
        units = units[: message["position"] * 2] + message["chunk"].encode("utf-16-le")
    return units.decode("utf-16-le")


@given(st.text(), st.lists(st.integers(0, 400), max_size=30))
def test_text_survives_any_cutting(text: str, cuts: list[int]) -> None:
    messages = play(tail(), [cut(text.encode(), cuts)], ENDED)
    assert shown(messages) == text
    assert [message["is_complete"] for message in messages][-1:] == [True]
    assert messages[-1]["total_length"] == utf16_length(text)


@given(st.text(min_size=1), st.lists(st.integers(0, 400), max_size=30), st.integers(0, 100))
def test_who_comes_back_goes_on_where_it_was(text: str, cuts: list[int], had: int) -> None:
    """The part that the client had already is not sent again; a position inside a character does no harm."""
    known = text[:had]
    messages = play(tail(utf16_length(known)), [cut(text.encode(), cuts)], ENDED)
    assert shown(messages, known) == text
    assert sum(len(message["chunk"]) for message in messages) == len(text) - len(known)


@given(st.text(), st.integers(0, 50))
def test_the_rest_of_a_text_is_what_a_browser_would_cut(text: str, units: int) -> None:
    rest = without_first(text, units)
    assert text.endswith(rest)
    assert utf16_length(text) - utf16_length(rest) in (min(units, utf16_length(text)), units + 1)


def test_a_position_that_cannot_be_is_answered_from_the_beginning() -> None:
    assert shown(play(tail(skip=100), [[Piece(0, b"short")]], ENDED), "x" * 100) == "short"


def test_a_position_beyond_what_was_left_out_is_answered_from_the_beginning() -> None:
    kept = [Piece(0, b"head"), Piece(1, b"[cut]\n", system=True), Piece(5, b"tail")]
    assert shown(play(tail(skip=12), [kept], ENDED), "x" * 12) == "head[cut]\ntail"


def test_saltpeters_own_lines_do_not_split_a_character() -> None:
    pieces = [Piece(0, b"caf\xc3"), Piece(1, b"[cut]\n", system=True), Piece(2, b"\xa9!")]
    [message] = tail().advance(pieces, ENDED)
    assert message["chunk"] == "caf[cut]\né!"


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    one = tail()
    [message] = one.advance([Piece(0, b"caf\xc3")], RUNNING)
    assert (message["chunk"], message["is_complete"]) == ("caf", False)
    [message] = one.advance([], ENDED)
    assert (message["chunk"], message["position"], message["is_complete"]) == ("\ufffd", 3, True)


def test_the_end_is_said_once_even_without_output() -> None:
    one = tail()
    assert one.advance([], RUNNING) == []
    [message] = one.advance([], ENDED)
    assert (message["chunk"], message["is_complete"]) == ("", True)
    assert one.advance([], AFTERWARDS) == []


def test_a_retrys_output_follows_all_of_its_predecessors() -> None:
    """Whoever was slow still gets the end of the first attempt; and whoever comes late gets both."""
    first, second = cut(b"one " * 20, list(range(0, 80, 4))), [Piece(0, b"two")]
    slow = tail()
    said = slow.advance(first[:PIECES], RUNNING)
    said += play(slow, [first, second], RETRIED)
    assert shown(said) == "one " * 20 + "two"
    assert shown(play(tail(), [first, second], RETRIED)) == "one " * 20 + "two"
    assert shown(play(tail(skip=82), [first, second], RETRIED), "one " * 20 + "tw") == "one " * 20 + "two"
