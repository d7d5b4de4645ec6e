"""How facts are put for people: lengths of time, sizes, endings, and other programs' text. Plain functions."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from rich.text import Text

from saltpeter.logs import escape

LONGEST_LINE = 16 * 1024  # characters; a longer one is shown in parts
VERDICT_STYLES = {
    "success": "green",
    "failed": "bold red",
    "killed": "magenta",
    "no_targets": "yellow",
    "running": "cyan",
}
OUTCOME_STYLES = {"exited": "", "killed": "magenta", "maintenance": "yellow", "refused": "yellow"}  # others: red
MACHINE_STYLES = ("cyan", "green", "yellow", "blue", "magenta", "bright_cyan", "bright_green", "bright_magenta")

_COLOUR = re.compile("(\x1b\\[(?:0?[1-79]|0|2[1-79]|3[0-79]|4[0-79]|9[0-7]|10[0-7]|;)*m)")
_SPARKS = "▁▂▃▄▅▆▇█"
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float | None) -> str:
    """`0.8s`, `42s`, `3m 05s`, `2h 07m`, `4d 03h`; "" for what is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    for unit, smaller, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part:02d}{smaller}"
    return f"{whole}s"


def size(count: float) -> str:
    """Bytes, in the unit that keeps it short."""
    unit = 0
    while count >= 1000 and unit < len(_BYTE_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_BYTE_UNITS[unit]}" if not unit or count >= 100 else f"{count:.1f} {_BYTE_UNITS[unit]}"


def clock(iso: str | None, now: datetime) -> str:
    """An instant on the wall clock of the zone of `now`, without the date where that is the same; "" for none."""
    if not iso:
        return ""
    local = datetime.fromisoformat(iso).astimezone(now.tzinfo)
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M}"


def between(begin: str | None, end: str | None) -> float | None:
    """Seconds from one instant to another; None where either is not known."""
    if not begin or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def names(given: Iterable[str], most: int = 8) -> str:
    """A list that does not run away: `db01, db02 and 40 more`."""
    listed = list(given)
    text = ", ".join(map(escape, listed[:most]))
    return text if len(listed) <= most else f"{text} and {len(listed) - most} more"


def sparkline(values: Sequence[float]) -> str:
    """One block for each value, from the lowest to the highest of them."""
    if not values:
        return ""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in values)


def machine_style(machine: str) -> str:
    """The same colour for a machine every time."""
    return MACHINE_STYLES[zlib.crc32(machine.encode(errors="replace")) % len(MACHINE_STYLES)]


def ending(end: Mapping[str, Any]) -> str:
    """One machine's end after a kill, in words."""
    text = f"{end['outcome']} ({end['retcode']})"
    receipt = end["receipt"]
    if receipt is None:
        return f"{text}, without a receipt from the machine"
    return f"{text}, {receipt_text(receipt)}"


def receipt_text(receipt: Mapping[str, Any]) -> str:
    text = f"{len(receipt['ended'])} of {len(receipt['signalled'])} processes ended"
    left = ", ".join(f"{each['pid']} {escape(each['name'])} ({each['state']})" for each in receipt["survived"])
    return f"{text}, STILL ALIVE: {left}" if left else text


def harmless(line: str) -> Text:
    """A line of a command's output for a terminal: its colours, and all else that could command one made visible."""
    parts = _COLOUR.split(line)
    shown = (part if number % 2 else escape(part.replace("\t", "    ")) for number, part in enumerate(parts))
    return Text.from_ansi("".join(shown))


@attrs.define
class Lines:
    """Puts the lines of several machines together from the pieces that arrive. No IO."""

    _begun: dict[str, str] = attrs.field(factory=dict, init=False)

    def feed(self, machine: str, piece: str, *, last: bool = False) -> Iterator[str]:
        """The lines that are complete now, without their ends; with `last` also the one that never will be."""
        *lines, rest = (self._begun.pop(machine, "") + piece).split("\n")
        yield from lines
        while len(rest) > LONGEST_LINE:
            yield rest[:LONGEST_LINE]
            rest = rest[LONGEST_LINE:]
        if last and rest:
            yield rest
        elif rest:
            self._begun[machine] = rest


def overwritten(line: str) -> list[str]:
    """The states of a line that a progress bar drew again and again, each a line of its own."""
    return [part for part in line.removesuffix("\r").split("\r") if part] or [""]
