from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.state import ExecutionId
from saltpeter.endpoints.tail import PIECES, Tail, utf16_length
from saltpeter.engine.storage import Piece

DB01 = ExecutionId("backup_7", "db01")


@given(st.text(), st.lists(st.integers(0, 400), max_size=30))
def test_text_survives_any_cutting(text: str, cuts: list[int]) -> None:
    """A browser that puts the chunks together where they say has exactly the command's text."""
    data = text.encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [Piece(index, data[a:b]) for index, (a, b) in enumerate(pairwise(edges))]
    tail, shown = Tail("backup", DB01), b""
    while True:
        read = pieces[tail.next_index : tail.next_index + PIECES]
        messages = tail.advance(read, ("mark",), ended=True)
        for message in messages:
            assert message["position"] == len(shown) // 2
            shown += message["chunk"].encode("utf-16-le")
        if not tail.is_behind(("mark",)):
            break
    assert shown.decode("utf-16-le") == text
    assert [message["is_complete"] for message in messages][-1:] == [True]
    assert messages[-1]["total_length"] == utf16_length(text)


def test_saltpeters_own_lines_do_not_split_a_character() -> None:
    tail = Tail("backup", DB01)
    pieces = [Piece(0, b"caf\xc3"), Piece(1, b"[cut]\n", system=True), Piece(2, b"\xa9!")]
    [message] = tail.advance(pieces, (1,), ended=True)
    assert message["chunk"] == "caf[cut]\né!"


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    tail = Tail("backup", DB01)
    [message] = tail.advance([Piece(0, b"caf\xc3")], (1,), ended=False)
    assert (message["chunk"], message["is_complete"]) == ("caf", False)
    [message] = tail.advance([], (2,), ended=True)
    assert (message["chunk"], message["position"], message["is_complete"]) == ("\ufffd", 3, True)


def test_the_end_is_said_once_even_without_output() -> None:
    tail = Tail("backup", DB01)
    assert tail.advance([], (1,), ended=False) == []
    [message] = tail.advance([], (2,), ended=True)
    assert (message["chunk"], message["is_complete"]) == ("", True)
    assert tail.advance([], (3,), ended=True) == []


def test_a_retrys_output_follows() -> None:
    tail = Tail("backup", DB01)
    tail.advance([Piece(0, b"one\n")], (1,), ended=True)
    tail.turn_to(ExecutionId("backup_7", "db01", 2))
    [message] = tail.advance([Piece(0, b"two\n")], (1,), ended=False)
    assert (message["position"], message["chunk"]) == (4, "two\n")
