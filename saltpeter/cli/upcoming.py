"""saltpeter next"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import attrs
import click

from saltpeter.cli import screen
from saltpeter.cli.common import (
    TIMES,
    as_moment,
    ask,
    complete_jobs,
    fail,
    json_option,
    plain_errors,
    socket_option,
)
from saltpeter.cli.overview import Overview, overview
from saltpeter.client import Client
from saltpeter.domain import values
from saltpeter.domain.job import Config
from saltpeter.engine.clock import now
from saltpeter.engine.reload import check as check_directory
from saltpeter.host import host, local_zone

COUNT = 10
MOST = 1000
WITH_A_SPAN = 10_000  # slots, where the end of a span limits them

_SECOND = timedelta(seconds=1)


@attrs.frozen
class Slot:
    """A job's slot, and the zone by whose clocks it goes; `at` is in UTC."""

    at: datetime
    job: str
    zone: tzinfo


@attrs.frozen(kw_only=True)
class Span:
    """Which slots are asked for: those after `since`, up to `until`, at most `count`."""

    since: datetime
    until: datetime | None
    count: int


@click.command(name="next", epilog=TIMES)
@click.argument("job", required=False, shell_complete=complete_jobs)
@click.option("-n", "count", type=click.IntRange(1, MOST), help=f"How many. [default: {COUNT}, with --to all]")
@click.option("--from", "since", metavar="TIME", callback=as_moment(ahead=True), help="After this time. [default: now]")
@click.option("--to", "until", metavar="TIME", callback=as_moment(ahead=True), help="Up to this time.")
@click.option("--zone", metavar="ZONE", help="Show the times in this zone. [default: each job's own]")
@click.option("-c", "config", type=click.Path(path_type=Path), metavar="DIR", help="Ask these files, not the daemon.")
@json_option
@socket_option
def upcoming(
    *,
    job: str | None,
    count: int | None,
    since: datetime | None,
    until: datetime | None,
    zone: str | None,
    config: Path | None,
    as_json: bool,
    where: str | None,
) -> None:
    """Show when JOB, or any job, is due next.

    Also what it has to do with a change of the clocks.

    \b
    saltpeter next backup -n 5
    saltpeter next --from 'tomorrow 00:00' --to 'tomorrow 06:00' --zone UTC
    saltpeter next backup -c /etc/saltpeter/conf.d
    """
    span = Span(since=since or now(), until=until, count=count or (WITH_A_SPAN if until else COUNT))
    shown = _zone(zone)
    slots = _from_files(config, job, span) if config else _from_daemon(where, job, span)
    if as_json:
        screen.print_json([_facts(slot, shown) for slot in slots])
        return
    rows = [_row(slot, shown) for slot in slots]
    screen.print_table(
        ("due", "zone", "job", ""), rows, f"{job or 'Any job'} is not due{' in that time' if until else ''}"
    )


def _zone(name: str | None) -> tzinfo | None:
    try:
        return None if name is None else values.zone(name)
    except values.Wrong as error:
        raise click.BadParameter(error.problem, param_hint="--zone") from error


def _from_files(directory: Path, job: str | None, span: Span) -> list[Slot]:
    with plain_errors():
        config = check_directory(str(directory), host(), now())
    for problem in config.problems:
        if problem.fatal:
            screen.remark(str(problem))
    if job is not None and job not in config.jobs:
        fail(f"there is no job {job!r} in {directory}{values.suggestion(job, config.jobs)}")
    return list(due(config, job, span))


def due(config: Config, job: str | None, span: Span) -> Iterator[Slot]:
    """The slots of one job or of all that are enabled, soonest first."""
    wanted = [config.jobs[job]] if job is not None else [each for each in config.jobs.values() if each.enabled]
    walks = [_walk(each.name, each.schedule.fire_times(span.since), each.schedule.zone) for each in wanted]
    merged = heapq.merge(*walks, key=lambda slot: (slot.at, slot.job))
    until = span.until
    return islice(takewhile(lambda slot: until is None or slot.at <= until, merged), span.count)


def _walk(job: str, times: Iterator[datetime], zone: tzinfo) -> Iterator[Slot]:
    return (Slot(at, job, zone) for at in times)


def _from_daemon(where: str | None, job: str | None, span: Span) -> list[Slot]:
    request: dict[str, Any] = {"from": span.since.isoformat()}
    if job is not None:
        request["cron"] = job
    if span.until is not None:
        request["to"] = span.until.isoformat()
    if span.until is None or span.count <= MOST:
        request["count"] = span.count

    async def look(client: Client) -> list[Slot]:
        seen = await overview(client)
        slots = (await client.request("next", request))["slots"]
        return [
            Slot(datetime.fromisoformat(each["slot"]), each["cron"], _zone_of(seen, each["cron"])) for each in slots
        ]

    return ask(where, look, listen=True)


def _zone_of(seen: Overview, job: str) -> tzinfo:
    """The zone of a job as the daemon tells of it; where neither job nor settings have one, this host's."""
    written = seen.crons.get(job, {})
    name = "UTC" if written.get("utc") is True else written.get("timezone") or seen.settings["timezone"]
    try:
        return values.zone(name) if name else local_zone()
    except values.Wrong:  # the daemon's host knows zones that this one does not
        return timezone.utc


def _facts(slot: Slot, shown: tzinfo | None) -> dict[str, str]:
    local = slot.at.astimezone(shown or slot.zone)
    return {
        "cron": slot.job,
        "slot": slot.at.astimezone(timezone.utc).isoformat(),
        "local": local.isoformat(),
        "zone": str(local.tzinfo),
        "note": clock_change(slot.zone, slot.at),
    }


def _row(slot: Slot, shown: tzinfo | None) -> tuple[screen.Field, ...]:
    local = slot.at.astimezone(shown or slot.zone)
    day = screen.Cell(local.isoformat(), f"{local:%a %Y-%m-%d %H:%M:%S}")
    note = clock_change(slot.zone, slot.at)
    return day, f"{local:%Z}", screen.visible(slot.job, "bold"), screen.visible(note, "yellow")


def clock_change(zone: tzinfo, at: datetime) -> str:
    """What a change of the clocks of `zone` has to do with a slot at `at`; "" for nothing."""
    here, just_before = at.astimezone(zone), (at - _SECOND).astimezone(zone)
    jump = _offset(here) - _offset(just_before)
    if jump > timedelta():
        return f"clocks go forward: {just_before + _SECOND:%H:%M} to {here:%H:%M} does not exist that day"
    if jump < timedelta():
        return f"clocks go back, to {here:%H:%M}"
    if _offset(here.replace(fold=0)) != _offset(here.replace(fold=1)):
        return f"clocks show {here:%H:%M} twice that day; this is the {'second' if here.fold else 'first'} time"
    return ""


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()
