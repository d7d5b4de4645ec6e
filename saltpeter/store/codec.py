"""How values stand in the tables."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import overload

import cattrs.preconf.json

from saltpeter.domain.outcome import Outcome

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_JSON = cattrs.preconf.json.make_converter(omit_if_default=True)


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


def dump_outcome(outcome: Outcome) -> str:
    return _JSON.dumps(outcome)


@lru_cache(maxsize=1024)  # most machines of a run end alike
def load_outcome(text: str | None) -> Outcome | None:
    return None if text is None else _JSON.loads(text, Outcome)


def clean(text: str) -> str:
    """`text` with halves of surrogate pairs escaped: the one thing that a table cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
