"""How facts are put for people."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.cli import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-0.2, "0.0s"),
        (0.84, "0.8s"),
        (9.96, "10.0s"),
        (42.4, "42s"),
        (185, "3m 05s"),
        (7620, "2h 07m"),
        (356400, "4d 03h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (123 * 1024, "123 KiB"),
        (8.6 * 1024**2, "8.6 MiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert words.size(count) == text


def test_an_instant_of_today_needs_no_date() -> None:
    now = datetime(2026, 11, 20, 15, 0, tzinfo=timezone.utc)
    assert words.clock("2026-11-20T03:00:05+00:00", now) == "03:00:05"
    assert words.clock("2026-11-19T23:30:00-02:00", now) == "01:30:00"
    assert words.clock("2026-11-19T03:00:05+00:00", now) == "2026-11-19 03:00"
    assert words.clock(None, now) == ""


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert words.sparkline([1, 2, 8]) == "▁▂█"
    assert words.sparkline([5, 5]) == "▁▁"
    assert words.sparkline([]) == ""


def test_long_lists_do_not_run_away() -> None:
    assert words.names(["a", "b"]) == "a, b"
    assert words.names(map(str, range(12)), most=3) == "0, 1, 2 and 9 more"


def test_colours_work_and_nothing_else_does() -> None:
    shown = words.harmless("\x1b[1;31mred\x1b[0m \x1b[2Jgone\tx\x1b[8mhidden\x9b5n")
    assert shown.plain == "red \\x1b[2Jgone    x\\x1b[8mhidden\\x9b5n"
    assert [str(span.style) for span in shown.spans] == ["bold color(1)"]


@given(st.text(alphabet=st.sampled_from("a\x1b[]0;183mJH\x07\x08\r\n\t\x9b\u202e"), max_size=60))
def test_no_line_commands_a_terminal(line: str) -> None:
    plain = words.harmless(line).plain
    assert not set(plain) & set("\x1b\x07\x08\r\n\t\x9b\u202e")


def test_a_progress_bar_is_its_states() -> None:
    assert words.overwritten("10%\r50%\r100%\r") == ["10%", "50%", "100%"]
    assert words.overwritten("") == [""]
    assert words.overwritten("dos\r") == ["dos"]


@given(st.text(alphabet="ab\n", max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_lines_come_out_whole_however_they_were_cut(text: str, cuts: list[int]) -> None:
    lines, marks = words.Lines(), sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    out: list[str] = []
    for begin, end in pairwise(marks):
        out += lines.feed("m1", text[begin:end])
        assert [*lines.feed("m2", "other")] == []
    out += lines.feed("m1", "", last=True)
    assert out == text.removesuffix("\n").split("\n") if text else out == []


def test_a_line_without_end_is_shown_in_parts() -> None:
    lines = words.Lines()
    [part] = lines.feed("m1", "x" * (words.LONGEST_LINE + 1))
    assert len(part) == words.LONGEST_LINE
    assert [*lines.feed("m1", "", last=True)] == ["x"]
