"""What commands print: tables and colours on a terminal, plain lines in a pipe, JSON where it is asked for.

A plain line has its fields separated by tabs, with instants as ISO 8601 and lengths of time in seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, Union

import attrs
import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from saltpeter.cli import words
from saltpeter.engine.clock import now
from saltpeter.host import local_zone
from saltpeter.logs import escape


@attrs.frozen
class Cell:
    """One field: for programs, and for people."""

    plain: str
    shown: RenderableType


Field: TypeAlias = Union[Cell, str]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704  as whatever else prints does; rich's SystemExit would come out of a nursery in a group


def console() -> Console:
    """Writes to stdout as it is now. Nothing in a text is markup."""
    return _Console(highlight=False, markup=False, emoji=False)


def on_terminal() -> bool:
    """Is stdout one? FORCE_COLOR says that it is, as for other programs."""
    return console().is_terminal


def asked_by_a_person() -> bool:
    """Is there somebody who could answer a question?"""
    return sys.stdin.isatty()


def say(text: str, style: str = "") -> None:
    """One line; whatever stands in it cannot command the terminal."""
    console().print(Text(escape(text), style), soft_wrap=True)


def remark(text: str) -> None:
    """Beside the result, on stderr."""
    click.echo(escape(text), err=True)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: object) -> None:
    """One of several objects, each on a line of its own."""
    click.echo(json.dumps(value, separators=(",", ":")))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[Field]], empty: str) -> None:
    """A table for people, tabs for programs. Without any rows people are told `empty`."""
    listed = list(rows)
    if not on_terminal():
        for row in listed:
            click.echo("\t".join(field.plain if isinstance(field, Cell) else escape(field) for field in row))
    elif not listed:
        say(empty, "dim")
    else:
        console().print(table(titles, listed))


def table(titles: Sequence[str], rows: Iterable[Sequence[Field]]) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, title in enumerate(titles):  # where the terminal is narrow all give way but the first, which names
        made.add_column(title, overflow="fold", no_wrap=number == 0)
    for row in rows:
        made.add_row(*(field.shown if isinstance(field, Cell) else Text(escape(field)) for field in row))
    return made


def print_facts(facts: Iterable[tuple[str, Field]]) -> None:
    """Names with their values, one a line; those without a value are left out."""
    rows = [(name, value) for name, value in facts if (value.plain if isinstance(value, Cell) else value)]
    if not on_terminal():
        print_table((), rows, "")
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in rows:
        grid.add_row(Text(escape(name), "dim"), value.shown if isinstance(value, Cell) else Text(escape(value)))
    console().print(grid)


def moment(iso: str | None) -> Cell:
    return Cell(iso or "", Text(words.clock(iso, now().astimezone(local_zone()))))


def lasting(seconds: float | None) -> Cell:
    return Cell("" if seconds is None else f"{seconds:.3f}", Text(words.duration(seconds), justify="right"))


def number(value: int | float | str | None) -> Cell:
    plain = "" if value is None else str(value)
    return Cell(plain, Text(plain, justify="right"))


def verdict(word: str | None) -> Cell:
    """How a run ended; while it has not, that it runs."""
    text = word or "running"
    return Cell(text, Text(text, words.VERDICT_STYLES.get(text, "")))


def outcome(result: dict[str, Any]) -> Cell:
    """How a machine's part ended, or what it does."""
    word, code = result["outcome"] or "", result["retcode"]
    if not word:
        return Cell(result["state"], Text(result["state"], "cyan"))
    failed = "bold red" if code else "green"
    return Cell(word, Text(word, words.OUTCOME_STYLES.get(word, "bold red") or failed))


def visible(text: str, style: str = "") -> Cell:
    return Cell(escape(text), Text(escape(text), style))
