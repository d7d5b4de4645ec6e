"""saltpeter jobs, saltpeter status"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
import click
import trio
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from saltpeter.cli import screen, words
from saltpeter.cli.common import ask, json_option, socket_option
from saltpeter.cli.overview import Overview, overview
from saltpeter.client import Client
from saltpeter.engine.clock import now

AGAIN_S = 1.0  # between two looks of a status that is kept up to date
MOST_ASKED = 1000  # jobs, in one request
SCHEDULE_KEYS = ("sec", "min", "hour", "dom", "mon", "dow", "year")


@click.command()
@click.argument("pattern", default="*")
@json_option
@socket_option
def jobs(pattern: str, as_json: bool, where: str | None) -> None:
    """List jobs: when, where, and how they went.

    PATTERN matches a name, a group or a tag; * and ? work as in a shell.

    \b
    saltpeter jobs
    saltpeter jobs 'backup*'
    """
    listed = ask(where, lambda client: _jobs(client, pattern), listen=True)
    if as_json:
        screen.print_json(listed)
        return
    titles = ("job", "group", "schedule", "targets", "next", "last", "result")
    screen.print_table(titles, [_job_row(job) for job in listed], f"no job matches {pattern}")


async def _jobs(client: Client, pattern: str) -> list[dict[str, Any]]:
    seen = await overview(client)
    matching = {name: job for name, job in sorted(seen.crons.items()) if matches(name, job, pattern)}
    return [
        {
            "cron": name,
            "group": job["group"],
            "schedule": schedule_text(job),
            "zone": "UTC" if job.get("utc") is True else job.get("timezone") or "",
            "targets": targets_text(job),
            "enabled": job.get("enabled", True) is True,
            "description": str(job.get("description") or ""),
            **seen.jobs[name],
        }
        for name, job in matching.items()
    ]


def matches(name: str, job: Mapping[str, Any], pattern: str) -> bool:
    tags = job.get("tags") or ()
    listed = tags.split(",") if isinstance(tags, str) else tags
    return any(fnmatch.fnmatchcase(str(each).strip(), pattern) for each in (name, job["group"], *listed))


def schedule_text(job: Mapping[str, Any]) -> str:
    """As it is written, the keys of old in one text."""
    if job.get("schedule") is not None:
        return str(job["schedule"])
    given = {key: str(job[key]) for key in SCHEDULE_KEYS if job.get(key) is not None}
    five = " ".join(given.get(key, "*") for key in SCHEDULE_KEYS[1:6])
    if "year" in given:
        return f"{given.get('sec', '0')} {five} {given['year']}"
    return five if given.get("sec", "0") == "0" else f"{given['sec']} {five}"


def targets_text(job: Mapping[str, Any]) -> str:
    targets = job.get("targets")
    if isinstance(targets, list):
        return words.names(map(str, targets))
    return " ".join(str(part) for part in (targets, job.get("target_type")) if part)


def _job_row(job: Mapping[str, Any]) -> tuple[screen.Field, ...]:
    running = bool(job["job_instance"]) and not job["verdict"]
    style = "bold" if job["enabled"] else "dim strike"
    return (
        screen.visible(job["cron"], style),
        job["group"],
        job["schedule"],
        job["targets"],
        screen.moment(job["next_run"]) if job["enabled"] else screen.Cell("disabled", Text("disabled", "dim")),
        screen.moment(job["last_run"]),
        screen.verdict(job["verdict"]) if job["verdict"] or running else "",
    )


# --- what runs now -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Progress:
    """A living run. `usual_s` is how long the job's runs take at the median; None while nobody knows."""

    run: str
    job: str
    started: str
    by: str
    machines: int
    ended: int
    failed: int
    paused: int
    elapsed_s: float
    usual_s: float | None

    @property
    def share(self) -> float | None:
        return min(self.elapsed_s / self.usual_s, 1.0) if self.usual_s else None


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Keep it up to date, on a terminal, until Ctrl-C.")
@json_option
@socket_option
def status(watch: bool, as_json: bool, where: str | None) -> None:
    """Show what runs now, and how far it is.

    That is: for how long, compared with how long the job usually takes.

    \b
    saltpeter status
    saltpeter status --watch
    """
    if watch and not as_json and screen.on_terminal():
        ask(where, _watch, listen=True)
        return
    running = ask(where, _running, listen=True)
    if as_json:
        screen.print_json([attrs.asdict(each) for each in running])
    elif screen.on_terminal():
        screen.console().print(_overview(running))
    else:
        screen.print_table((), map(_status_row, running), "")


async def _watch(client: Client) -> None:
    seen = await overview(client)
    usual: dict[str, float | None] = {}
    with Live(console=screen.console(), auto_refresh=False) as live:
        while True:
            shown = _overview(await _progress(client, seen, usual))
            if seen.store_problem is not None:
                notice = screen.visible(f"no run starts: {seen.store_problem}", "bold red").shown
                shown = Group(notice, shown)
            live.update(shown, refresh=True)
            with trio.move_on_after(AGAIN_S):  # time goes on also when nothing changes
                async for message in client:
                    seen.take(message)


async def _running(client: Client) -> list[Progress]:
    seen = await overview(client)
    if seen.store_problem is not None:
        screen.remark(f"no run starts: {seen.store_problem}")
    return await _progress(client, seen, {})


async def _progress(client: Client, seen: Overview, usual: dict[str, float | None]) -> list[Progress]:
    """The living runs, oldest first. `usual` keeps what was asked for."""
    new = sorted({run["cron"] for run in seen.runs.values()} - usual.keys())
    for some in (new[start : start + MOST_ASKED] for start in range(0, len(new), MOST_ASKED)):
        latest = (await client.request("getLatest", {"crons": some, "count": 1}))["crons"]
        usual |= {job: latest.get(job, {}).get("usual") for job in some}
    at = now()
    found = [_one(name, run, usual[run["cron"]], at) for name, run in seen.runs.items() if run["cron"] in usual]
    return sorted(found, key=lambda each: each.started)


def _one(name: str, run: Mapping[str, Any], usual_s: float | None, at: datetime) -> Progress:
    states = run["machines"].values()
    return Progress(
        run=name,
        job=run["cron"],
        started=run["started"],
        by=run["by"],
        machines=run["targets"],
        ended=run["targets"] - run["open"],
        failed=run["failed"],
        paused=sum(state == "paused" for state in states),
        elapsed_s=(at - datetime.fromisoformat(run["started"])).total_seconds(),
        usual_s=usual_s,
    )


def _overview(running: list[Progress]) -> RenderableType:
    if not running:
        return Text("nothing runs", "dim")
    titles = ("run", "started", "by", "machines", "for", "usually", "")
    return Group(screen.table(titles, map(_status_row, running)), Text(words.count(len(running), "run"), "dim"))


def _status_row(each: Progress) -> tuple[screen.Field, ...]:
    done = Text(f"{each.ended}/{each.machines}", justify="right")
    if each.failed:
        done.append(f" {each.failed} failed", "bold red")
    if each.paused:
        done.append(f" {each.paused} paused", "yellow")
    return (
        screen.visible(each.run, "bold"),
        screen.moment(each.started),
        each.by,
        screen.Cell(f"{each.ended}/{each.machines}", done),
        screen.lasting(each.elapsed_s),
        screen.lasting(each.usual_s),
        _bar(each),
    )


def _bar(each: Progress) -> screen.Cell:
    """How much of the usual time has passed."""
    if each.share is None:
        return screen.Cell("", "")
    late = each.share >= 1
    bar = ProgressBar(total=1.0, completed=each.share, width=20, complete_style="cyan", finished_style="yellow")
    return screen.Cell(f"{each.share:.2f}", Group(bar) if not late else Group(bar, Text("longer than usual", "yellow")))
