"""When a job is due: cron fields in a zone, their slots as instants, and what a span of time owes.

croniter walks the wall clock and is given naive times only. What the wall clock means in a zone is decided
here, in `Schedule.fire_times`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import islice, takewhile

import attrs

from saltpeter.domain.cronfields import Fields, ScheduleError, Walker, walked, walker

__all__ = ["DayMatch", "Fields", "Misfire", "Passed", "Plan", "Schedule", "ScheduleError", "plan"]

UTC = timezone.utc
PROMPT_S = 2.0  # up to this late, a slot counts as started when it was due
LISTED = 100  # so many slots of one fate are named one by one, and so many start from one plan

_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_LONGEST_FOLD = timedelta(days=2)  # no clock was ever put back by more
_LAST_YEAR = 9990


class DayMatch(enum.Enum):
    """What counts when dom and dow are both restricted."""

    ANY = "any"  # either, as in Vixie cron
    ALL = "all"  # both


class Misfire(enum.Enum):
    """What happens after a gap to slots that are late, but not later than the grace."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


@attrs.frozen
class Schedule:
    """When a job is due. Making one raises ScheduleError for fields that mean nothing, or no date that exists."""

    fields: Fields
    zone: tzinfo = UTC
    day_match: DayMatch = DayMatch.ANY
    misfire: Misfire = Misfire.LAST
    misfire_grace_s: float = 60.0  # how late a slot may still start
    _walkers: tuple[Walker, ...] = attrs.field(init=False, eq=False, repr=False)

    @_walkers.default
    def _walkers_of_fields(self) -> tuple[Walker, ...]:
        either = [self.fields]
        if self.fields.restricts_both_days and self.day_match is DayMatch.ANY:
            either = [attrs.evolve(self.fields, dow="*"), attrs.evolve(self.fields, dom="*")]
        walkers = tuple(each for each in map(walker, either) if each is not None)
        if not walkers:
            raise ScheduleError("schedule", f"no date is ever like {self.fields}")
        return walkers

    @property
    def every_hour(self) -> bool:
        """Is the hour a wildcard, so that real hours count and not the clock's?"""
        return self.fields.hour.startswith("*")

    def fire_times(self, since: datetime) -> Iterator[datetime]:
        """The slots after `since` (aware), oldest first, in UTC. Ends where the years do.

        While the zone's offset stands still, slots are where the wall clock shows them. When it changes, a
        fixed hour goes on from the wall time that was reached: what the clock jumps over is due at the
        first instant after the jump, and what it shows again is not due again. A wildcard hour goes by what
        the clock shows, as often as it shows it.
        """
        newest = since = since.astimezone(UTC)
        wall: datetime | None = None
        for stretch in _stretches(self.zone, since):
            if wall is None or self.every_hour:
                start = stretch.shown if self.every_hour else stretch.reached
                wall = self._next_wall(max(start - _SECOND, _naive(since + stretch.offset)))
            if wall is None:
                return
            while wall is not None and wall < stretch.until:
                at = max(stretch.begin, wall.replace(tzinfo=UTC) - stretch.offset)
                if at > newest:
                    newest = at
                    yield at
                wall = self._next_wall(wall)

    def next_after(self, since: datetime) -> datetime | None:
        """The first slot after `since`; None when there is none any more."""
        return next(self.fire_times(since), None)

    def latest_start(self, slot: datetime) -> datetime:
        """Until when a run for `slot` may start, if something kept it from that; it makes room for the next slot."""
        grace_s = PROMPT_S if self.misfire is Misfire.SKIP else max(PROMPT_S, self.misfire_grace_s)
        latest, following = slot + timedelta(seconds=grace_s), self.next_after(slot)
        return latest if following is None else min(latest, following - _SECOND)

    def newest(self, after: datetime, until: datetime) -> datetime | None:
        """The last slot in (after, until]. By bisection, since the walk could be years of seconds."""
        found: datetime | None = None
        while after < until:
            middle = after + (until - after) / 2 if until - after > _SECOND else after
            slot = self.next_after(middle)
            if slot is not None and slot <= until:
                found = after = slot
            elif middle == after:
                break
            else:
                until = middle
        return found

    def note(self, at: datetime) -> str:
        """What the clocks do to the slot `at`: `gap`, where its own time is left out that day; `first` or `second`,
        where the clock shows its time twice; else ""."""
        local = at.astimezone(self.zone)
        wall = _naive(local)
        if self._next_wall(wall - _SECOND) != wall:
            return "gap"
        if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
            return ""
        return "second" if local.fold else "first"

    def _next_wall(self, after: datetime) -> datetime | None:
        second = after.replace(microsecond=0)  # slots are whole seconds, and jobs planned in the same one ask the same
        walls = [wall for each in self._walkers if (wall := walked(each, second)) is not None]
        return min(walls, default=None)

    def __str__(self) -> str:
        return f"{self.fields} ({self.zone})"


@attrs.frozen
class Passed:
    """Slots that share a fate, oldest first. With `more`, others that are not listed lie before the last."""

    slots: tuple[datetime, ...] = ()
    more: bool = False


@attrs.frozen(kw_only=True)
class Plan:
    """What is owed. Slots up to `until` are answered: it is the next plan's `since`.

    `wake_at` says when to plan again; None means never. It is past when one plan could not hold all.
    """

    fire: tuple[datetime, ...] = ()  # oldest first
    missed: Passed = Passed()  # later than may be
    coalesced: Passed = Passed()  # the newest in `fire` stands for them
    until: datetime
    wake_at: datetime | None


def plan(schedule: Schedule, *, since: datetime, now: datetime) -> Plan:
    """Decide what `schedule` owes for the slots in (since, now]; both aware. Raises nothing.

    Prompt slots always start, each. Of those later than that, but within the grace, `misfire` decides.
    `since` after `now` means that the clock was put back: then nothing is owed until it gets there again.
    However long the span, the work is bounded.
    """
    since, now = since.astimezone(UTC), now.astimezone(UTC)
    if since >= now:
        return Plan(until=since, wake_at=schedule.next_after(since))
    prompt_from = max(since, now - timedelta(seconds=PROMPT_S) - _TICK)
    grace_s = 0.0 if schedule.misfire is Misfire.SKIP else schedule.misfire_grace_s
    late_from = max(since, min(prompt_from, now - timedelta(seconds=grace_s) - _TICK))
    slots, following = _walk(schedule, since, now)
    if following is not None and following <= now:
        return _plan_of_many(schedule, since, late_from, prompt_from, now)
    late = tuple(slot for slot in slots if late_from < slot <= prompt_from)
    prompt = tuple(slot for slot in slots if slot > prompt_from)
    fire, coalesced = (*late, *prompt), Passed()
    if schedule.misfire is not Misfire.ALL:
        fire, coalesced = (prompt, Passed(late)) if prompt else (late[-1:], Passed(late[:-1]))
    missed = Passed(tuple(slot for slot in slots if slot <= late_from))
    return Plan(fire=fire, missed=missed, coalesced=coalesced, until=now, wake_at=following)


def _walk(schedule: Schedule, since: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The slots in (since, now], but LISTED at most, and the one that follows them."""
    slots: list[datetime] = []
    for slot in schedule.fire_times(since):
        if slot > now or len(slots) == LISTED:
            return slots, slot
        slots.append(slot)
    return slots, None


def _plan_of_many(
    schedule: Schedule, since: datetime, late_from: datetime, prompt_from: datetime, now: datetime
) -> Plan:
    """The same for a span that holds more slots than are listed: each part of it is walked by itself."""
    missed = _passed(schedule, since, late_from)
    if schedule.misfire is Misfire.ALL:
        due = _passed(schedule, late_from, now)
        fire = due.slots[:-1] if due.more else due.slots
        until = fire[-1] if due.more else now
        return Plan(fire=fire, missed=missed, until=until, wake_at=schedule.next_after(until))
    fire = tuple(takewhile(lambda slot: slot <= now, schedule.fire_times(prompt_from)))
    coalesced = Passed()
    if late_from < prompt_from:
        fire, coalesced = _coalesce(schedule, late_from, prompt_from, fire)
    return Plan(fire=fire, missed=missed, coalesced=coalesced, until=now, wake_at=schedule.next_after(now))


def _coalesce(
    schedule: Schedule, after: datetime, until: datetime, prompt: tuple[datetime, ...]
) -> tuple[tuple[datetime, ...], Passed]:
    """Of the late slots in (after, until] the newest fires, unless there are `prompt` ones, which are newer."""
    late = _passed(schedule, after, until)
    if prompt or not late.slots:
        return prompt, late
    *older, newest = late.slots
    return (newest,), _passed(schedule, after, newest - _TICK) if late.more else Passed(tuple(older))


def _passed(schedule: Schedule, after: datetime, until: datetime) -> Passed:
    """The slots in (after, until]: the first LISTED of them, and the last."""
    if after >= until:
        return Passed()
    slots = tuple(islice(takewhile(lambda slot: slot <= until, schedule.fire_times(after)), LISTED + 1))
    if len(slots) <= LISTED:
        return Passed(slots)
    last = schedule.newest(slots[-1], until) or slots[-1]
    return Passed((*slots[:LISTED], last), more=last > slots[-1])


@attrs.frozen
class _Stretch:
    """A stretch of time with one offset; wall times are naive."""

    begin: datetime
    offset: timedelta
    shown: datetime  # on the wall at `begin`
    reached: datetime  # on the wall just before it
    until: datetime  # on the wall when the stretch ends


def _stretches(zone: tzinfo, since: datetime) -> Iterator[_Stretch]:
    """The stretches of `zone` that end after `since` (UTC), oldest first."""
    begin = since - _LONGEST_FOLD
    reached = _naive(begin + _offset(zone, begin))
    for year in range(begin.year, _LAST_YEAR):
        for end in _ends(zone, year):
            if end <= begin:
                continue
            offset = _offset(zone, begin)
            until = _naive(end + offset)
            if end > since:
                yield _Stretch(begin, offset, _naive(begin + offset), reached, until)
            begin, reached = end, until


@lru_cache(maxsize=4096)
def _ends(zone: tzinfo, year: int) -> tuple[datetime, ...]:
    """The instants of `year` (UTC) at which the zone's offset changes, and the year's end."""
    first, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    days = [first + day * _DAY for day in range((end - first).days + 1)]
    offsets = [_offset(zone, day) for day in days]
    changed = (index for index in range(1, len(days)) if offsets[index] != offsets[index - 1])
    return tuple(sorted({end, *(_change(zone, days[index]) for index in changed)}))


def _change(zone: tzinfo, until: datetime) -> datetime:
    """The instant, in the day before `until`, from which its offset holds."""
    offset = _offset(zone, until)
    before = until - _DAY
    while until - before > _SECOND:
        middle = (before + (until - before) / 2).replace(microsecond=0)
        before, until = (before, middle) if _offset(zone, middle) == offset else (middle, until)
    return until


def _offset(zone: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _naive(wall: datetime) -> datetime:
    return wall.replace(tzinfo=None)
