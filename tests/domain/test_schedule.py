"""Slots in zones, against an oracle that knows nothing of the implementation; and what a span of time owes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.domain.schedule import (
    LISTED,
    PROMPT_S,
    DayMatch,
    Fields,
    Misfire,
    Passed,
    Plan,
    Schedule,
    ScheduleError,
    plan,
)

UTC = timezone.utc
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)  # a Monday

ZONES = [
    "Africa/Casablanca",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Bucharest",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
]
FIXED = ["30 3 * * *", "0 0 * * *", "*/20 1-3 * * *", "15 0,23 * * *", "45 2 * * sun"]
WILD = ["0 * * * *", "*/10 * * * *", "30 */2 * * *", "5 */3 * * 0,6"]


def every(text: str, zone: str | tzinfo = UTC, **kwargs: object) -> Schedule:
    zone = ZoneInfo(zone) if isinstance(zone, str) else zone
    return Schedule(Fields.parse(text), zone, **kwargs)  # type: ignore[arg-type]  # the keywords are the tests' own


def first(schedule: Schedule, since: datetime, count: int) -> list[str]:
    """The first slots after `since`, as the zone's clock shows them."""
    return [
        at.astimezone(schedule.zone).strftime("%a %d %b %H:%M:%S%z") for at in islice(schedule.fire_times(since), count)
    ]


def until(schedule: Schedule, since: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda at: at <= end, schedule.fire_times(since)))


# --- the oracle: minute by minute, with sets of numbers ---------------------------------------------------


@lru_cache
def numbers(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.replace("sun", "0").split(","):
        body, _, step = part.partition("/")
        begin, _, end = body.partition("-")
        span = (low, high) if body == "*" else (int(begin), int(end or begin))
        found |= set(range(span[0], span[1] + 1, int(step or 1)))
    return found


def names_it(text: str, wall: datetime) -> bool:
    minute, hour, _, _, dow = text.split()
    return (
        wall.second == 0
        and wall.minute in numbers(minute, 0, 59)
        and wall.hour in numbers(hour, 0, 23)
        and wall.isoweekday() % 7 in numbers(dow, 0, 6)
    )


def minutes(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin <= end:
        yield begin
        begin += MINUTE


def expected(text: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Slots in (begin, end], where no change of offset is less than a day and a bit from either."""
    shown = [(at, at.astimezone(zone).replace(tzinfo=None)) for at in minutes(begin + MINUTE, end)]
    if text.split()[1].startswith("*"):
        return [at for at, wall in shown if names_it(text, wall)]
    found = set()
    highest = begin.astimezone(zone).replace(tzinfo=None)
    for at, wall in shown:
        if any(names_it(text, passed) for passed in minutes(highest + MINUTE, wall)):
            found.add(at)
        highest = max(highest, wall)
    return sorted(found)


def changes(zone: ZoneInfo) -> list[datetime]:
    """The days from 2015 to 2030 within which the offset changes."""
    days = [datetime(2015, 1, 1, tzinfo=UTC) + index * DAY for index in range(16 * 365 + 4)]
    return [day for day in days if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset()]


@pytest.mark.parametrize("name", ZONES)
def test_every_change_of_every_clock(name: str) -> None:
    zone = ZoneInfo(name)
    days = changes(zone) or [datetime(2026, 3, 28, tzinfo=UTC)]
    for day in days:
        begin, end = day - 5 * HOUR, day + DAY + 5 * HOUR
        text = (FIXED + WILD)[day.toordinal() % 9]
        assert until(every(text, zone), begin, end) == expected(text, zone, begin, end), (text, day)


@pytest.mark.parametrize("text", FIXED + WILD)
@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("Australia/Lord_Howe", "2026-10-03"),
        ("Australia/Lord_Howe", "2026-04-04"),
        ("Europe/Dublin", "2026-03-29"),
        ("Europe/Dublin", "2026-10-25"),
        ("Africa/Casablanca", "2026-02-15"),
        ("America/Sao_Paulo", "2018-02-18"),
        ("America/Sao_Paulo", "2018-11-04"),
        ("Pacific/Apia", "2011-12-30"),
    ],
)
def test_the_odd_clocks_with_every_kind_of_schedule(name: str, day: str, text: str) -> None:
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - 30 * HOUR
    end = begin + 84 * HOUR
    assert until(every(text, name), begin, end) == expected(text, ZoneInfo(name), begin, end)


@pytest.mark.parametrize("text", ["30 3 * * *", "0 * * * *", "*/30 2-4 * * *"])
@given(start=st.integers(0, 60 * 24 * 4))
@settings(max_examples=25, deadline=None)
def test_where_a_walk_starts_does_not_matter(text: str, start: int) -> None:
    for begin in (datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)):
        schedule = every(text, "Europe/Bucharest")
        whole = until(schedule, begin, begin + 5 * DAY)
        since = begin + start * MINUTE
        assert until(schedule, since, begin + 5 * DAY) == [at for at in whole if at > since]


# --- what a clock that is put forward or back means -------------------------------------------------------


def test_a_fixed_hour_runs_right_after_the_gap_and_once_in_the_fold() -> None:
    nightly = every("30 3 * * *", "Europe/Bucharest")
    assert first(nightly, datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "Sun 29 Mar 04:00:00+0300",
        "Mon 30 Mar 03:30:00+0300",
    ]
    assert first(nightly, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "Sun 25 Oct 03:30:00+0300",
        "Mon 26 Oct 03:30:00+0200",
    ]


def test_several_slots_in_one_gap_are_one_run() -> None:
    assert first(every("*/10 3 * * *", "Europe/Bucharest"), datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "Sun 29 Mar 04:00:00+0300",
        "Mon 30 Mar 03:00:00+0300",
    ]


def test_a_wildcard_hour_runs_in_every_real_hour() -> None:
    hourly = every("@hourly", "Europe/Bucharest")
    assert len(until(hourly, datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 3, 29, 21, tzinfo=UTC))) == 23
    assert len(until(hourly, datetime(2026, 10, 24, 21, tzinfo=UTC), datetime(2026, 10, 25, 22, tzinfo=UTC))) == 25


def test_a_whole_day_that_never_was() -> None:
    assert first(every("0 12 * * *", "Pacific/Apia"), datetime(2011, 12, 30, tzinfo=UTC), 2) == [
        "Sat 31 Dec 00:00:00+1400",
        "Sat 31 Dec 12:00:00+1400",
    ]


def test_the_last_hour_of_a_schedule_that_ends_may_come_twice() -> None:
    once = every("0 30 */23 17 2 * 2018", "America/Sao_Paulo")
    assert first(once, datetime(2018, 1, 1, tzinfo=UTC), 9) == [
        "Sat 17 Feb 00:30:00-0200",
        "Sat 17 Feb 23:30:00-0200",
        "Sat 17 Feb 23:30:00-0300",
    ]


# --- fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("@daily", ["Tue 05 May 00:00:00", "Wed 06 May 00:00:00"]),
        ("@weekly", ["Sun 10 May 00:00:00", "Sun 17 May 00:00:00"]),
        ("@yearly", ["Fri 01 Jan 00:00:00", "Sat 01 Jan 00:00:00"]),
        ("*/20 * * * * *", ["Mon 04 May 12:00:20", "Mon 04 May 12:00:40"]),
        ("0 0 8 1 JAN * 2027-2028", ["Fri 01 Jan 08:00:00", "Sat 01 Jan 08:00:00"]),
        ("0 3-3 * * *", ["Tue 05 May 03:00:00", "Wed 06 May 03:00:00"]),
        ("0 22-1/2 * * *", ["Mon 04 May 22:00:00", "Tue 05 May 00:00:00"]),
        ("0 9 * * fri-mon", ["Fri 08 May 09:00:00", "Sat 09 May 09:00:00"]),
        ("0 9 * * 5-7", ["Fri 08 May 09:00:00", "Sat 09 May 09:00:00"]),
        ("0 9 * * 7", ["Sun 10 May 09:00:00", "Sun 17 May 09:00:00"]),
        ("0 9 * * mon#1", ["Mon 01 Jun 09:00:00", "Mon 06 Jul 09:00:00"]),
        ("0 9 * * L5", ["Fri 29 May 09:00:00", "Fri 26 Jun 09:00:00"]),
        ("0 9 L * ?", ["Sun 31 May 09:00:00", "Tue 30 Jun 09:00:00"]),
        ("0 9 16W * ?", ["Fri 15 May 09:00:00", "Tue 16 Jun 09:00:00"]),
        ("0 9 29 2 *", ["Tue 29 Feb 09:00:00", "Sun 29 Feb 09:00:00"]),
        ("0 0 13 * fri", ["Fri 08 May 00:00:00", "Wed 13 May 00:00:00"]),
        ("0 0 31 2 fri", ["Fri 05 Feb 00:00:00", "Fri 12 Feb 00:00:00"]),
        ("0 0 15 * mon#1", ["Fri 15 May 00:00:00", "Mon 01 Jun 00:00:00"]),
        ("0 0 */2 * mon", ["Mon 11 May 00:00:00", "Mon 25 May 00:00:00"]),
    ],
)
def test_fields_mean_what_cron_means(text: str, slots: list[str]) -> None:
    assert first(every(text), NOON, 2) == [f"{slot}+0000" for slot in slots]


def test_both_days_may_be_asked_for() -> None:
    friday_13th = every("0 0 13 * fri", day_match=DayMatch.ALL)
    assert first(friday_13th, NOON, 2) == ["Fri 13 Nov 00:00:00+0000", "Fri 13 Aug 00:00:00+0000"]


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("61 * * * *", "min", "61 is not in 0-59"),
        ("0 24 * * *", "hour", "24 is not in 0-23"),
        ("0 0 0 * *", "dom", "0 is not in 1-31"),
        ("0 0 * 13 *", "mon", "13 is not in 1-12"),
        ("0 0 * * 8", "dow", "8 is not in 0-6"),
        ("0 0 0 1 1 * 1969", "year", "1969 is not in 1970-2099"),
        ("60 0 0 * * *", "sec", "60 is not in 0-59"),
        ("0 0 * foo *", "mon", "'foo' means nothing"),
        ("0 0 * * mon#6", "dow", "'mon#6' means nothing"),
        ("1,,2 * * * *", "min", "'1,,2' means nothing"),
        ("*/60 * * * *", "min", "the step must be 1 to 59"),
        ("0 0-4/9 * * *", "hour", "the step must be 1 to 4"),
        ("0 */0 * * *", "hour", "the step must be"),
        ("0 0 0 * * * 2030-2027", "year", "runs backwards"),
        ("H * * * *", "min", "use splay"),
        ("0 r(0-5) * * *", "hour", "use splay"),
        ("0 0 * * é", "dow", "not a cron field"),
        ("0 0 31 2 *", "schedule", "no date is ever like"),
        ("0 0 31 4,6 *", "schedule", "no date is ever like"),
        ("@reboot", "schedule", "none of @hourly"),
        ("* * * *", "schedule", "4 fields"),
        ("* * * * * * * *", "schedule", "8 fields"),
        ("", "schedule", "0 fields"),
    ],
)
def test_what_means_nothing_is_refused_by_its_field(text: str, field: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        every(text)
    assert caught.value.field == field
    assert problem in caught.value.problem


@given(st.lists(st.text("0123456789*/-,?lwhr#jansu ", max_size=12), min_size=1, max_size=7).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_no_text_does_worse_than_a_schedule_error(text: str) -> None:
    try:
        slot = every(text).next_after(NOON)
    except ScheduleError:
        return
    assert slot is None or slot > NOON


def test_schedules_are_values() -> None:
    assert every("0 3 * * *") == every("0 3 * * *") != every("0 4 * * *")
    assert str(every("30 0 3 * * * 2027", "Europe/Berlin")) == "30 0 3 * * * 2027 (Europe/Berlin)"


def test_ten_thousand_of_them_are_no_burden() -> None:
    begin = time.process_time()
    schedules = [every(f"{index % 60} {index % 24} * * *", "Europe/Berlin") for index in range(1000)]
    for schedule in schedules:
        schedule.next_after(NOON)
    assert time.process_time() - begin < 2  # a tenth of it on an idle machine


# --- what a span of time owes -----------------------------------------------------------------------------


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_nothing_is_due() -> None:
    planned = plan(every("@hourly"), since=after(10), now=after(20))
    assert planned == Plan(until=after(20), wake_at=after(3600))


def test_a_prompt_slot_fires() -> None:
    planned = plan(every("* * * * *"), since=NOON, now=after(60.4))
    assert planned == Plan(fire=(after(60),), until=after(60.4), wake_at=after(120))


@pytest.mark.parametrize("misfire", Misfire)
def test_prompt_slots_fire_each_whatever_the_policy(misfire: Misfire) -> None:
    planned = plan(every("* * * * * *", misfire=misfire, misfire_grace_s=0), since=NOON, now=after(2))
    assert planned.fire == (after(1), after(2))


def test_across_a_gap_the_newest_stands_for_the_others() -> None:
    planned = plan(every("*/10 * * * * *"), since=NOON, now=after(95))
    assert planned.missed == Passed((after(10), after(20), after(30)))
    assert planned.coalesced == Passed((after(40), after(50), after(60), after(70), after(80)))
    assert planned.fire == (after(90),)


def test_a_prompt_slot_stands_for_the_late_ones() -> None:
    planned = plan(every("*/10 * * * * *"), since=after(75), now=after(101))
    assert (planned.fire, planned.coalesced) == ((after(100),), Passed((after(80), after(90))))


def test_all_of_them_may_be_wanted_or_none() -> None:
    every_ten = {"since": after(75), "now": after(95)}
    assert plan(every("*/10 * * * * *", misfire=Misfire.ALL), **every_ten).fire == (after(80), after(90))
    planned = plan(every("*/10 * * * * *", misfire=Misfire.SKIP), **every_ten)
    assert (planned.fire, planned.missed) == ((), Passed((after(80), after(90))))


def test_a_slot_exactly_as_late_as_may_be_still_fires() -> None:
    nightly = every("0 0 12 * * *", misfire_grace_s=30)
    assert plan(nightly, since=after(-99), now=after(30)).fire == (NOON,)
    assert plan(nightly, since=after(-99), now=after(30.1)).missed == Passed((NOON,))


def test_a_clock_that_was_put_back_repeats_nothing() -> None:
    minutely = every("* * * * *")
    planned = plan(minutely, since=after(3600), now=NOON)
    assert planned == Plan(until=after(3600), wake_at=after(3660))


def test_years_of_seconds_are_answered_at_once() -> None:
    begin = time.process_time()
    planned = plan(every("* * * * * *"), since=NOON - 3650 * DAY, now=NOON)
    assert time.process_time() - begin < 1
    assert len(planned.missed.slots) == LISTED + 1
    assert planned.missed.more
    assert planned.missed.slots[-1] == after(-61)
    assert planned.coalesced.slots[0] == after(-60)
    assert planned.fire == (after(-2), after(-1), NOON)


def test_more_than_one_plan_can_hold_is_planned_again_at_once() -> None:
    schedule = every("* * * * * *", misfire=Misfire.ALL, misfire_grace_s=1000)
    planned = plan(schedule, since=NOON, now=after(250))
    assert len(planned.fire) == LISTED
    assert planned.wake_at == after(LISTED + 1)
    assert fired(schedule, NOON, [after(250)]) == [after(second) for second in range(1, 251)]


def test_a_schedule_that_is_over_wakes_nobody() -> None:
    assert plan(every("0 0 0 1 1 * 2026"), since=NOON, now=after(5)) == Plan(until=after(5), wake_at=None)


def fired(schedule: Schedule, since: datetime, wakes: list[datetime]) -> list[datetime]:
    """Everything that fires when plans are made at `wakes`, as a scheduler makes them."""
    found: list[datetime] = []
    for now in wakes:
        planned = plan(schedule, since=since, now=now)
        found += planned.fire
        while planned.wake_at is not None and planned.wake_at <= now:
            planned = plan(schedule, since=planned.until, now=now)
            found += planned.fire
        since = planned.until
    return found


wakes_in_an_hour = st.lists(st.integers(0, 36000).map(lambda tenths: after(tenths / 10)), max_size=40)
texts = st.sampled_from(["*/7 * * * * *", "* * * * *", "*/15 * * * *", "30 12,13 * * *"])


@given(texts, wakes_in_an_hour)
@settings(max_examples=40, deadline=None)
def test_however_time_is_cut_the_same_slots_fire(text: str, wakes: list[datetime]) -> None:
    """Also when the clock is put back in between: the wakes come in any order."""
    schedule = every(text, "Europe/Berlin", misfire=Misfire.ALL, misfire_grace_s=7200)
    whole = until(schedule, NOON, max(wakes, default=NOON))
    assert fired(schedule, NOON, wakes) == whole


# an hour before a change of each kind, and one at which nothing changes
beginnings = st.sampled_from(
    [
        ("Europe/Berlin", NOON),
        ("Europe/Berlin", datetime(2026, 3, 29, 0, 30, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 14, 30, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2011, 12, 30, 9, 30, tzinfo=UTC)),
        ("America/St_Johns", datetime(2026, 11, 1, 4, 0, tzinfo=UTC)),
    ]
)
gaps_s = st.lists(st.one_of(st.floats(0, 10), st.floats(0, 600), st.floats(0, 7200)), max_size=8)
graces_s = st.one_of(st.just(0.0), st.floats(0, 90), st.floats(0, 7200))
busy_texts = st.one_of(texts, st.sampled_from(FIXED), st.sampled_from(WILD))


@given(busy_texts, beginnings, gaps_s, st.sampled_from(Misfire), graces_s)
@settings(max_examples=150, deadline=None)
def test_every_slot_has_one_answer(
    text: str, beginning: tuple[str, datetime], gaps: list[float], misfire: Misfire, grace_s: float
) -> None:
    """Whatever the schedule, the zone, the gaps and the policy. What starts late is not later than it may be."""
    zone, begin = beginning
    schedule = every(text, zone, misfire=misfire, misfire_grace_s=grace_s)
    since, now, answered, unlisted = begin, begin, list[datetime](), False
    for gap_s in gaps:
        now += timedelta(seconds=gap_s)
        planned = plan(schedule, since=since, now=now)
        answered += [*planned.missed.slots, *planned.coalesced.slots, *planned.fire]
        unlisted |= planned.missed.more or planned.coalesced.more
        assert all((now - slot).total_seconds() <= max(grace_s, PROMPT_S) + 1e-5 for slot in planned.fire)
        assert all((now - slot).total_seconds() >= grace_s or misfire is Misfire.SKIP for slot in planned.missed.slots)
        since = planned.until
    due = until(schedule, begin, since)
    assert sorted(answered) == (sorted(set(due) & set(answered)) if unlisted else due)
    assert len(answered) == len(set(answered))


def test_schedules_of_the_same_fields_read_them_once() -> None:
    first, second = (Schedule(Fields.parse("7 3 * * 1"), zone) for zone in (timezone.utc, ZoneInfo("Europe/Berlin")))
    assert first._walkers[0] is second._walkers[0]
    assert Schedule(Fields.parse("8 3 * * 1"))._walkers[0] is not first._walkers[0]


def test_schedules_with_a_year_are_walked_by_themselves() -> None:
    first, second = (Schedule(Fields.parse("0 7 3 * * 1 2099")) for _ in range(2))
    assert first._walkers[0] is not second._walkers[0]
