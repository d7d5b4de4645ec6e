"""How values stand in the tables."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """An aware instant as whole microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


@overload
def from_us(us: int) -> datetime: ...
@overload
def from_us(us: None) -> None: ...
def from_us(us: int | None) -> datetime | None:
    """The other way round, in UTC; NULL is None."""
    return None if us is None else _EPOCH + us * _MICROSECOND


def day(at: datetime) -> str:
    """The day of `at` (UTC, as YYYYMMDD)."""
    return at.astimezone(timezone.utc).strftime("%Y%m%d")


def clean(text: str) -> str:
    """`text` with halves of surrogate pairs escaped: the one thing that a table cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
