"""Cron fields: what may be written in them, and the wall times that they name (croniter's part of the work)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

import attrs
from croniter import croniter
from croniter.croniter import CroniterBadDateError

Walker: TypeAlias = Callable[[datetime], "datetime | None"]  # the next wall time after a wall time, both naive

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LIMITS = {
    "min": (0, 59),
    "hour": (0, 23),
    "dom": (1, 31),
    "mon": (1, 12),
    "dow": (0, 6),  # and 7, for Sunday
    "sec": (0, 59),
    "year": (1970, 2099),
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = {"mon": {name: number for number, name in enumerate(MONTHS, 1)}, "dow": dict(zip(DAYS, range(7), strict=True))}
LONGEST = 400  # characters of one field
_YEARS_AHEAD = 130  # as far as croniter's own years go, and past every coincidence of date and weekday
_START = datetime(1970, 1, 1)  # noqa: DTZ001  # wall time
_ALLOWED = re.compile(r"[0-9a-z*?,/#-]+", re.ASCII)
_MADE_UP = re.compile(r"[hr](\(.*|/.*)?", re.ASCII)  # Jenkins' hashed and random values
_RANGE = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?", re.ASCII)


class ScheduleError(ValueError):
    """`field` names the cron field to blame, or is "schedule" when it is all of them together."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem


def _tidy(text: str) -> str:
    return text.strip().lower()


@attrs.frozen
class Fields:
    """The seven cron fields, as written but in lower case."""

    min: str = attrs.field(default="*", converter=_tidy)
    hour: str = attrs.field(default="*", converter=_tidy)
    dom: str = attrs.field(default="*", converter=_tidy)
    mon: str = attrs.field(default="*", converter=_tidy)
    dow: str = attrs.field(default="*", converter=_tidy)
    sec: str = attrs.field(default="0", converter=_tidy)
    year: str = attrs.field(default="*", converter=_tidy)

    @classmethod
    def parse(cls, text: str) -> Fields:
        """Five fields as in a crontab, six with seconds first, seven with years last, or `@daily` and the like.

        Raises ScheduleError when it is none of these; the fields are looked at by `walker`.
        """
        line = _tidy(text)
        if line.startswith("@") and line not in ALIASES:
            raise ScheduleError("schedule", f"{text!r} is none of {' '.join(ALIASES)}")
        words = ALIASES.get(line, line).split()
        if not 5 <= len(words) <= 7:
            raise ScheduleError(
                "schedule",
                f"{text!r} has {len(words)} fields, not 5 (min hour dom mon dow), 6 (sec first) or 7 (year last)",
            )
        sec = words.pop(0) if len(words) > 5 else "0"
        return cls(**dict(zip(LIMITS, [*words[:5], sec, *words[5:]], strict=False)))

    @property
    def restricts_both_days(self) -> bool:
        """As in Vixie cron, a field that starts with a wildcard is not restricted, whatever its step."""
        return not self.dom.startswith(("*", "?")) and not self.dow.startswith(("*", "?"))

    def __str__(self) -> str:
        five = f"{self.min} {self.hour} {self.dom} {self.mon} {self.dow}"
        if self.year != "*":
            return f"{self.sec} {five} {self.year}"
        return five if self.sec == "0" else f"{self.sec} {five}"


def walker(fields: Fields) -> Walker | None:
    """What walks the wall times of `fields`, dom and dow both matching. None when there is no such time.

    Schedules of the same fields share it, for reading them takes longer than all else about a job. Those with a year
    do not: they are walked already while they are read, in another thread, and croniter remembers where it stands.
    Raises ScheduleError for a field that means nothing.
    """
    return _shared(fields) if fields.year == "*" else _made(fields)


def _made(fields: Fields) -> Walker | None:
    plain = Fields(**{name: _plain(name, text) for name, text in attrs.asdict(fields).items()})
    cron = _croniter(plain)

    def walk(after: datetime) -> datetime | None:
        try:
            wall: datetime = cron.get_next(datetime, start_time=after)
        except CroniterBadDateError:
            return None
        return wall

    always = plain.dom == "*" and plain.year == "*"  # every month has each weekday, so this needs no look
    return walk if always or walk(_START) is not None else None


_shared = lru_cache(maxsize=4096)(_made)


@lru_cache(maxsize=4096)
def walked(walk: Walker, after: datetime) -> datetime | None:
    """What `walk` finds, remembered: many jobs are due in the same second, and go by the same fields."""
    return walk(after)


def _croniter(fields: Fields) -> croniter:
    try:
        return _read(fields)
    except ValueError as exc:
        for name, text in attrs.asdict(fields).items():
            try:
                _read(Fields(**{name: text}))
            except ValueError:
                raise ScheduleError(name, f"{text!r} means nothing in this field") from exc
        raise ScheduleError("schedule", f"{str(fields)!r} means nothing") from exc


def _read(fields: Fields) -> croniter:
    # day_or stands for both here: where either may match, there is one walker for each
    return croniter(str(fields), 0.0, day_or=False, second_at_beginning=True, max_years_between_matches=_YEARS_AHEAD)


def _plain(name: str, text: str) -> str:
    """`text` without what croniter reads in other ways than cron. Raises ScheduleError."""
    if text == "*" or (text == "?" and name in ("dom", "dow")):
        return "*"
    if not text or len(text) > LONGEST:
        raise ScheduleError(name, f"{len(text)} characters are not a cron field")
    if _MADE_UP.fullmatch(text):
        raise ScheduleError(name, f"{text!r}: hashed and random values are not supported; to spread starts, use splay")
    if not _ALLOWED.fullmatch(text):
        raise ScheduleError(name, f"{text!r} is not a cron field")
    return ",".join(_plain_part(name, part) for part in text.split(","))


def _plain_part(name: str, part: str) -> str:
    match = _RANGE.fullmatch(part)
    if match is None:
        return part
    lowest, highest = LIMITS[name]
    first, last = _number(name, match["first"]), _number(name, match["last"])
    if match["first"] == "*":
        first, last = lowest, highest
    elif match["step"] and match["last"] is None:
        last = highest
    if first is None or last is None:
        return part  # one value, or one of L and W
    return _plain_range(name, part, first, last, int(match["step"] or 1))


def _plain_range(name: str, part: str, first: int, last: int, step: int) -> str:
    lowest, highest = LIMITS[name]
    around = highest - lowest + 1
    span = last - first if first <= last else last - first + around
    if name == "year" and first > last:
        raise ScheduleError(name, f"{part!r} runs backwards")
    if step == 0 or ("/" in part and step > span):
        raise ScheduleError(
            name, f"{part!r}: the step must be 1 to {span}" if span else f"{part!r} has a step but no range"
        )
    if part.startswith("*") or lowest <= first < last <= highest:
        return part
    # croniter takes 3-3 for every value there is, and 5-7 for a range that ends before it begins
    numbers = dict.fromkeys((first - lowest + ahead) % around + lowest for ahead in range(0, span + 1, step))
    return ",".join(map(str, numbers))


def _number(name: str, text: str | None) -> int | None:
    """The value that `text` stands for; None when it is none, or more than a number."""
    if text is None:
        return None
    if not text.isdecimal():
        return NAMES.get(name, {}).get(text)
    lowest, highest = LIMITS[name]
    number = int(text)
    if not lowest <= number <= highest + (name == "dow"):
        raise ScheduleError(name, f"{text} is not in {lowest}-{highest}")
    return number
