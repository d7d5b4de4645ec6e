"""How figures grow with how much there is: those that were measured of several sizes, side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from tests.bench.frame import Result, figure, line

HEADINGS = ("of N", "at each N", "times, for each tenfold")
_SIZE = re.compile(r"\d[\d,]*")


@attrs.frozen
class Growth:
    """One figure of several sizes, the smallest first; `what` has N in place of the size."""

    row: str
    what: str
    unit: str
    values: Mapping[int, float]

    @property
    def tenfold(self) -> float | None:
        """By how much it is multiplied when there is ten times as much; None where nothing is left to multiply."""
        (few, little), *_, (many, much) = self.values.items()
        return (much / little) ** (1 / math.log10(many / few)) if little > 0 and much > 0 else None

    def cells(self) -> tuple[str, ...]:
        each = "; ".join(f"{size:,}: {figure(value)}" for size, value in self.values.items())
        return (self.what, f"{each} {self.unit}".rstrip(), "" if self.tenfold is None else figure(self.tenfold))


def growths(results: Sequence[Result]) -> Iterator[Growth]:
    """Of the figures those of several sizes; the first number in a case is its size."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for each in results:
        if (size := _SIZE.search(each.case)) is not None:
            what = f"{each.case[: size.start()]}N{each.case[size.end() :]}: {each.what}"
            found.setdefault((each.row, what, each.unit), {})[int(size[0].replace(",", ""))] = each.median
    for (row, what, unit), values in found.items():
        if len(values) > 1:
            yield Growth(row, what, unit, dict(sorted(values.items())))


def as_markdown(results: Sequence[Result]) -> str:
    """For a page of the docs."""
    found = list(growths(results))
    lines = ["**How it grows**\n", line(HEADINGS), line(["---"] * len(HEADINGS))]
    for row in dict.fromkeys(each.row for each in found):
        lines += [line((f"*{row}*", "", "")), *(line(each.cells()) for each in found if each.row == row)]
    return "\n".join(lines)
