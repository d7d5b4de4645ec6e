"""What a benchmark gives: figures, each with its spread and its target; and how they are shown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence

import attrs


@attrs.frozen
class Target:
    """`limit` is in the unit of the figure; a figure `at_most` or `at_least` that meets it."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {figure(self.limit)}"


def at_most(limit: float) -> Target:
    return Target(limit)


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


@attrs.frozen(kw_only=True)
class Result:
    """One figure. `values` are those of the rounds; `case` says of what (10,000 machines, for one)."""

    row: str
    case: str
    what: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.target.met_by(self.median) else "MISSED"

    def as_json(self) -> dict[str, object]:
        return {
            "row": self.row,
            "case": self.case,
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "rounds": len(self.values),
            "target": None if self.target is None else str(self.target),
            "verdict": self.verdict,
        }

    def cells(self) -> tuple[str, ...]:
        spread = f"{figure(min(self.values))} to {figure(max(self.values))}" if len(self.values) > 1 else ""
        target = "" if self.target is None else str(self.target)
        return (self.case, self.what, f"{figure(self.median)} {self.unit}", spread, target, self.verdict)


HEADINGS = ("of", "figure", "median", "spread", "target", "")


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@attrs.define
class Sheet:
    """The figures of one row, as its benchmark finds them."""

    row: str
    results: list[Result] = attrs.field(factory=list)

    def add(self, case: str, what: str, unit: str, values: Iterable[float], target: Target | None = None) -> Result:
        result = Result(row=self.row, case=case, what=what, unit=unit, values=tuple(values), target=target)
        self.results.append(result)
        return result


def as_table(results: Sequence[Result]) -> str:
    """For a terminal."""
    lines = []
    for row in dict.fromkeys(result.row for result in results):
        cells = [HEADINGS, *(result.cells() for result in results if result.row == row)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
        lines.append(f"\n{row}")
        lines += ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join(lines).lstrip("\n")


def as_markdown(results: Sequence[Result]) -> str:
    """For a page of the docs."""
    lines = []
    for row in dict.fromkeys(result.row for result in results):
        lines += [f"\n**{row}**\n", line(HEADINGS), line(["---"] * len(HEADINGS))]
        lines += [line(result.cells()) for result in results if result.row == row]
    return "\n".join(lines).lstrip("\n")


BEGIN, END = "<!-- figures: written by `make bench` -->\n", "<!-- end of the figures -->\n"


def into_page(page: str, figures: str) -> str:
    """`page` with its figures replaced. Raises ValueError if it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for figures: {BEGIN}")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def as_json(results: Sequence[Result], about: dict[str, object]) -> str:
    return json.dumps({**about, "results": [result.as_json() for result in results]}, indent=2)


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def percentile(values: Iterable[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
