"""The page's modules that only compute, asked in the browser that they are made for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

LINES = """async (chunks) => {
    const { Screen, textOf } = await import('/web/terminal.js');
    const screen = new Screen();
    for (const chunk of chunks) screen.write(chunk);
    return screen.lines.map(textOf);
}"""
STYLES = """async (text) => {
    const { Screen } = await import('/web/terminal.js');
    const screen = new Screen();
    screen.write(text);
    return screen.lines[0].map(({ text, style }) => [text, style]);
}"""
CALL = "async ([module, name, ...args]) => (await import(`/web/${module}.js`))[name](...args)"

# what escape sequences are made of, and what breaks them
SCRAPS = st.sampled_from(
    [
        "\x1b",
        "[",
        "]",
        "P",
        "\\",
        "\x07",
        "\x9b",
        ";",
        "3",
        "1",
        "?",
        " ",
        "m",
        "K",
        "J",
        "A",
        "C",
        "\r",
        "\n",
        "\b",
        "\t",
        "x",
        "é",
        "☃",
    ]
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\ntwo", ["one", "two"]),
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("10 %\r20 %\r100 %", ["100 %"]),
        ("loading...\rdone\x1b[K", ["done"]),
        ("abc\b\bX", ["aXc"]),
        ("a\tb", ["a       b"]),
        ("1\n2\n3\n\x1b[2Anew\x1b[J", ["1", "new"]),
        ("abc\x1b[2Dx\x1b[10Gy", ["axc      y"]),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\c", ["abc"]),
        ("\x1b[?25l\x1b(B\x1b=\x1bPq#0;2\x1b\\a\x1b[6n", ["a"]),
        ("a\x1b", ["a"]),
        ("\x00\x01\x7f\x9ca", ["a"]),
    ],
)
def test_output_is_shown_as_a_terminal_does(tab: Page, text: str, lines: list[str]) -> None:
    assert tab.evaluate(LINES, [text]) == lines
    assert tab.evaluate(LINES, list(text)) == lines


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("\x1b[31mred\x1b[0m plain", [["red", {"fg": 1}], [" plain", {}]]),
        ("\x1b[1;4;97mx\x1b[22;39my", [["x", {"bold": True, "underline": True, "fg": 15}], ["y", {"underline": True}]]),
        ("\x1b[38;5;208mx\x1b[48;2;1;2;300my", [["x", {"fg": 208}], ["y", {"fg": 208, "bg": "#0102ff"}]]),
        ("\x1b[32mabcdef\r\x1b[31mXY", [["XY", {"fg": 1}], ["cdef", {"fg": 2}]]),
        ("\x1b[mx\x1b[1;mz", [["x", {}], ["z", {}]]),
    ],
)
def test_colours_stay_with_their_text(tab: Page, text: str, runs: list[Any]) -> None:
    assert tab.evaluate(STYLES, text) == runs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scraps=st.lists(SCRAPS, max_size=60))
def test_it_does_not_matter_how_output_is_cut(tab: Page, scraps: list[str]) -> None:
    lines = tab.evaluate(LINES, ["".join(scraps)])
    assert tab.evaluate(LINES, scraps) == lines
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for line in lines for character in line)


@pytest.mark.parametrize("name", ["backup", "a/b", "ä?#%&", "<b>", "%", ".."])
def test_any_name_fits_into_an_address(tab: Page, name: str) -> None:
    address = tab.evaluate(CALL, ["route", "address", "job", [name], {"q": "x y&z"}])
    assert tab.evaluate(CALL, ["route", "parse", address]) == {"page": "job", "names": [name], "query": {"q": "x y&z"}}


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0.0 s"),
        (9_940, "9.9 s"),
        (59_000, "59 s"),
        (61_000, "1:01"),
        (3_661_000, "1:01:01"),
        (187_200_000, "2 d 4 h"),
    ],
)
def test_spans_are_short(tab: Page, ms: int, text: str) -> None:
    assert tab.evaluate(CALL, ["times", "span", ms]) == text


@pytest.mark.parametrize(
    ("count", "top", "drawn"),
    [
        (0, 0, [0, 0]),
        (3, 0, [0, 3]),
        (1000, 0, [0, 18]),
        (1000, 5000, [492, 518]),
        (1000, 9900, [982, 1000]),
        (12, 9900, [0, 12]),
    ],
)
def test_the_rows_in_sight_are_drawn_and_few_more(tab: Page, count: int, top: int, drawn: list[int]) -> None:
    assert tab.evaluate(CALL, ["windowed", "inSight", count, 10, top, 100]) == drawn


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"schedule": "@hourly"}, "@hourly"),
        ({"min": "*/5", "hour": "3"}, "*/5 3 * * *"),
        ({"sec": 30, "year": "*"}, "30 * * * * *"),
        ({}, ""),
    ],
)
def test_a_schedule_is_shown_as_written(tab: Page, keys: dict[str, Any], text: str) -> None:
    assert tab.evaluate(CALL, ["model", "scheduleAsWritten", keys]) == text


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "every hour"),
        ("5,35 * * * *", "every hour at :05 and :35"),
        ("0 */6 * * *", "every 6 hours"),
        ("20 */6 * * *", "every 6 hours at :20"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("30 0 3 * * * *", None),
        ("0 3 * * *", "every day at 03:00"),
        ("0 3,15 * * 1-5", "Monday to Friday at 03:00 and 15:00"),
        ("15 4 * * sun", "Sunday at 04:15"),
        ("*/15 * * * 7", "every 15 minutes, Sunday"),
        ("0 6 1,15 * *", "every month on the 1st and 15th at 06:00"),
        ("0 6 L * *", "every month on the last day at 06:00"),
        ("0 0 1 1 *", "January on the 1st at 00:00"),
        ("0 3 * jul *", "every day in July at 03:00"),
        ("@daily", "every day at 00:00"),
        ("@Weekly", "Sunday at 00:00"),
        ("0 3 13 * 5", None),  # either or both: `day_match` decides
        ("0 3 * * 5#2", None),
        ("0 3 * * * 2027", None),
        ("0 9-17 * * *", None),
        ("1-59/7 * * * *", None),
        ("", None),
        ("a b c d e", None),
    ],
)
def test_simple_schedules_have_words(tab: Page, schedule: str, words: str | None) -> None:
    assert tab.evaluate(CALL, ["crontext", "inWords", schedule]) == words
