"""Times as people write them: `2h`, `now-90m`, `yesterday 03:00`, `14:30`, or ISO 8601. Text in, an instant out."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo

FORMS = "2h, now-90m, now+1d, 14:30, yesterday 03:00, 2026-11-20, 2026-11-20T03:00:00Z, @1762346049"

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_SPAN = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_RELATIVE = re.compile(r"(?:now)?\s*(?P<sign>[+-])\s*(?P<span>.+)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


class MomentError(ValueError):
    """The text is not a time; says which forms are."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a time; write one like {FORMS}")


def moment(text: str, now: datetime, zone: tzinfo, *, ahead: bool = False) -> datetime:
    """The instant that `text` means, aware and in UTC. Raises MomentError.

    `now` is aware. What names no offset is of `zone`. A bare span (`2h`) lies before now, or, with `ahead`,
    after it; `in 2h` and `2h ago` say themselves which. A bare `14:30` is today's.
    """
    tidy = " ".join(text.split()).lower()
    try:
        found = _from_now(tidy, now, ahead) or _by_clock(tidy, now.astimezone(zone)) or _absolute(tidy, zone)
        return found.astimezone(timezone.utc)
    except (ValueError, OverflowError) as exc:
        raise MomentError(text) from exc


def span(text: str) -> timedelta:
    """A length of time: `90`, `90s`, `2h`, `1d 12h`; a bare number is seconds. Raises ValueError and OverflowError."""
    tidy = text.strip().lower()
    if tidy.isascii() and tidy.isdecimal():
        return timedelta(seconds=int(tidy))
    if not _SPAN.fullmatch(tidy):
        raise ValueError(f"{text!r} is not a length of time; write one like 90, 90s, 5m, 2h or 1d12h")
    return timedelta(seconds=sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(tidy)))


def _from_now(text: str, now: datetime, ahead: bool) -> datetime | None:
    if text == "now":
        return now
    if match := _RELATIVE.fullmatch(text):
        return now + span(match["span"]) * (1 if match["sign"] == "+" else -1)
    if text.endswith(" ago"):
        return now - span(text.removesuffix(" ago"))
    if text.startswith("in "):
        return now + span(text.removeprefix("in "))
    if _SPAN.fullmatch(text):
        return now + span(text) * (1 if ahead else -1)
    return None


def _by_clock(text: str, now: datetime) -> datetime | None:
    """A day by its name, a time of the day, or both; `now` is in the zone that is meant."""
    day, _, clock = text.partition(" ")
    if day not in _DAYS:
        day, clock = "today", text
    elif not clock:
        clock = "0:00"
    match = _CLOCK.fullmatch(clock)
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups())
    date = now.date() + timedelta(days=_DAYS[day])
    return datetime(date.year, date.month, date.day, hour, minute, second, tzinfo=now.tzinfo)


def _absolute(text: str, zone: tzinfo) -> datetime:
    if text.startswith("@"):
        return datetime.fromtimestamp(int(text[1:]), timezone.utc)
    iso = text.upper().replace(" UTC", "Z")
    found = datetime.fromisoformat(iso.removesuffix("Z") + "+00:00" if iso.endswith("Z") else iso)
    return found if found.tzinfo else found.replace(tzinfo=zone)
