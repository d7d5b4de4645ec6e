"""Times as people write them."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.moments import MomentError, moment, span

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 15, 30, 20, tzinfo=BERLIN)  # 14:30:20 UTC


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", utc(2026, 11, 20, 14, 30, 20)),
        ("2h", utc(2026, 11, 20, 12, 30, 20)),
        ("90m", utc(2026, 11, 20, 13, 0, 20)),
        ("1d 12h", utc(2026, 11, 19, 2, 30, 20)),
        ("now-1h", utc(2026, 11, 20, 13, 30, 20)),
        ("NOW - 1h", utc(2026, 11, 20, 13, 30, 20)),
        ("now+30m", utc(2026, 11, 20, 15, 0, 20)),
        ("+1w", utc(2026, 11, 27, 14, 30, 20)),
        ("3d ago", utc(2026, 11, 17, 14, 30, 20)),
        ("in 10s", utc(2026, 11, 20, 14, 30, 30)),
        ("14:30", utc(2026, 11, 20, 13, 30)),
        ("today", utc(2026, 11, 19, 23, 0)),
        ("today 3:05:07", utc(2026, 11, 20, 2, 5, 7)),
        ("yesterday 03:00", utc(2026, 11, 19, 2, 0)),
        ("  Yesterday   03:00 ", utc(2026, 11, 19, 2, 0)),
        ("tomorrow", utc(2026, 11, 20, 23, 0)),
        ("2026-07-01", utc(2026, 6, 30, 22, 0)),
        ("2026-07-01 12:00", utc(2026, 7, 1, 10, 0)),
        ("2026-07-01T12:00:30Z", utc(2026, 7, 1, 12, 0, 30)),
        ("2026-07-01 12:00 UTC", utc(2026, 7, 1, 12, 0)),
        ("2026-07-01T12:00:00+05:30", utc(2026, 7, 1, 6, 30)),
        ("@1762346049", utc(2025, 11, 5, 12, 34, 9)),
    ],
)
def test_what_people_write(text: str, meant: datetime) -> None:
    assert moment(text, NOW, BERLIN) == meant


def test_a_bare_span_looks_the_way_that_is_asked_for() -> None:
    assert moment("2h", NOW, BERLIN, ahead=True) == NOW + timedelta(hours=2)
    assert moment("2h ago", NOW, BERLIN, ahead=True) == NOW - timedelta(hours=2)


def test_the_day_is_that_of_the_zone() -> None:
    late = utc(2026, 11, 20, 23, 30)  # half past midnight in Berlin
    assert moment("today 12:00", late, BERLIN) == utc(2026, 11, 21, 11, 0)
    assert moment("today 12:00", late, timezone.utc) == utc(2026, 11, 20, 12, 0)


@pytest.mark.parametrize(
    "text", ["", "soon", "2x", "25:00", "today 9", "yesterday 12:61", "2026-13-01", "now-", "@", "@x", "9" * 400 + "d"]
)
def test_what_is_no_time_is_said_so(text: str) -> None:
    with pytest.raises(MomentError, match="is not a time; write one like 2h"):
        moment(text, NOW, BERLIN)


@given(st.text())
def test_no_text_crashes(text: str) -> None:
    with contextlib.suppress(MomentError):
        assert moment(text, NOW, BERLIN).tzinfo is timezone.utc


@given(st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2090, 1, 1)))  # noqa: DTZ001  the zone follows
def test_iso_means_what_it_says(wall: datetime) -> None:
    there = wall.replace(tzinfo=timezone.utc)
    assert moment(there.isoformat(), NOW, BERLIN) == there


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("1d12h", 129600), ("0", 0)])
def test_spans(text: str, seconds: float) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-5", "5 minutes", "h", "²"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="is not a length of time"):
        span(text)
