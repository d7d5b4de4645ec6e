"""saltpeter history, show, why, stats: what was"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import Any

import click
from rich.text import Text

from saltpeter.cli import screen, words
from saltpeter.cli.common import (
    EXIT_FAILED,
    TIMES,
    as_moment,
    ask,
    complete_jobs,
    job_argument,
    json_option,
    socket_option,
)
from saltpeter.client import Client
from saltpeter.engine.clock import now
from saltpeter.errors import CommandRefused

MOST_RUNS = 1000
GOOD_RATE, FAIR_RATE = 0.99, 0.9  # of runs that succeeded


@click.command(epilog=TIMES)
@click.argument("job", required=False, shell_complete=complete_jobs)
@click.option("--failed", is_flag=True, help="Only those that did not succeed.")
@click.option("--since", metavar="TIME", callback=as_moment(), help="Only those that started then or later.")
@click.option("--until", metavar="TIME", callback=as_moment(), help="Only those that started before.")
@click.option("-n", "limit", type=click.IntRange(1, MOST_RUNS), default=20, show_default=True, help="How many.")
@json_option
@socket_option
def history(
    *,
    job: str | None,
    failed: bool,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    where: str | None,
) -> None:
    """List the runs of JOB, or of all jobs, the newest first.

    \b
    saltpeter history backup
    saltpeter history --failed --since 'yesterday 18:00'
    """
    request: dict[str, Any] = {"limit": limit}
    if job is not None:
        request["cron"] = job
    if failed:
        request["failed"] = True
    for field, at in (("since", since), ("until", until)):
        if at is not None:
            request[field] = at.isoformat()
    runs = ask(where, lambda client: client.request("getRuns", request))["runs"]
    if as_json:
        screen.print_json(runs)
        return
    titles = ("run", "started", "took", "verdict", "machines", "by", "")
    screen.print_table(titles, map(_run_row, runs), "no such runs")


def _run_row(run: dict[str, Any]) -> tuple[screen.Field, ...]:
    machines = Text(str(run["machines"]), justify="right")
    if run["failed"]:
        machines.append(f", {run['failed']} failed", "red")
    plain = f"{run['machines'] - run['failed']}/{run['machines']}"
    return (
        screen.visible(run["job_instance"], "bold"),
        screen.moment(run["started"]),
        screen.lasting(run["duration"]),
        screen.verdict(run["verdict"]),
        screen.Cell(plain, machines),
        run["by"],
        run["text"] or "",
    )


_LIKE_A_RUN = re.compile(r".+_\d+")


async def newest_run(client: Client, wanted: str) -> str | None:
    """The id of the newest run of the job `wanted`, "" where it has not run yet; None where that is rather a run.

    Raises CommandRefused.
    """
    try:
        runs = (await client.request("getRuns", {"cron": wanted, "limit": 1}))["runs"]
    except CommandRefused as refused:
        if refused.code != "unknown_job" or not _LIKE_A_RUN.fullmatch(wanted):
            raise
        return None
    return str(runs[0]["job_instance"]) if runs else ""


async def find_run(client: Client, wanted: str) -> str:
    """The id of a run: `wanted` itself, or where that is a job, its newest one. Raises CommandRefused."""
    newest = await newest_run(client, wanted)
    if newest == "":
        raise CommandRefused("unknown_run", f"{wanted} has not run yet")
    return wanted if newest is None else newest


# --- one run -------------------------------------------------------------------------------------


@click.command()
@click.argument("run", metavar="RUN|JOB", shell_complete=complete_jobs)
@json_option
@socket_option
def show(run: str, as_json: bool, where: str | None) -> None:
    """Show a RUN, or the newest of a JOB, machine by machine.

    That is: how it ended there, its exit code, when it started, how long it took, and what it used.

    \b
    saltpeter show backup
    saltpeter show backup_1762346049
    """

    async def look(client: Client) -> Any:
        return await client.request("getRun", {"job_instance": await find_run(client, run)})

    about = ask(where, look)
    if as_json:
        screen.print_json(about)
        return
    if screen.on_terminal():
        screen.print_facts(_run_facts(about))
        screen.console().print()
    rows = [_machine_row(machine, result) for machine, result in sorted(about["results"].items())]
    titles = ("machine", "outcome", "code", "started", "took", "cpu", "memory", "output", "")
    screen.print_table(titles, rows, "no machines")


def _run_facts(about: dict[str, Any]) -> list[tuple[str, screen.Field]]:
    return [
        ("run", screen.visible(about["job_instance"], "bold")),
        ("slot", screen.moment(about["slot"])),
        ("by", about["by"]),
        ("started", screen.moment(about["started"])),
        ("ended", screen.moment(about["ended"])),
        ("took", words.duration(about["duration"])),
        ("verdict", screen.verdict(about["verdict"])),
        ("", about["text"] or ""),
        ("killed by", words.names({str(kill["by"]): None for kill in about["kills"]})),
    ]


def _machine_row(machine: str, result: dict[str, Any]) -> tuple[screen.Field, ...]:
    begun = result["started"] or result["confirmed"] or result["launched"]
    usage = result["usage"]
    return (
        screen.visible(machine, words.machine_style(machine)),
        screen.outcome(result),
        screen.number(result["retcode"]),
        screen.moment(begun),
        screen.lasting(words.between(begun, result["ended"] or now().isoformat()) if begun else None),
        screen.lasting(usage["user_s"] + usage["system_s"] if usage else None),
        _size(usage["max_rss"] if usage else None),
        _size(result["output_length"]),
        "; ".join(_remarks(result)),
    )


def _size(count: int | None) -> screen.Cell:
    return screen.Cell("" if count is None else str(count), Text("" if not count else words.size(count)))


def _remarks(result: dict[str, Any]) -> list[str]:
    """What there is to say about a machine beyond the columns."""
    said = []
    if result["attempt"] > 1:
        said.append(f"attempt {result['attempt']}")
    if result["text"]:
        said.append(" ".join(result["text"].split()))
    if late := result["late"]:
        said.append(f"it came late: {late['outcome']} ({late['retcode']})")
    if result["receipt"]:
        said.append(words.receipt_text(result["receipt"]))
    return said


# --- reasons and figures -------------------------------------------------------------------------


@click.command(epilog=TIMES)
@job_argument
@click.argument("time", required=False, callback=as_moment())
@json_option
@socket_option
def why(job: str, time: datetime | None, as_json: bool, where: str | None) -> None:
    """Say why JOB did or did not run at TIME.

    That is: what became of its slot at that time, or of the one nearest to it [default: now]. Exit 1 unless it ran,
    is yet to come, or was not due.

    \b
    saltpeter why backup
    saltpeter why backup 'yesterday 03:30'
    """
    request = {"cron": job, "at": (time or now()).isoformat()}
    answer = ask(where, lambda client: client.request("why", request))
    if as_json:
        screen.print_json(answer)
    elif screen.on_terminal():
        screen.print_facts(_why_facts(job, answer))
    else:
        click.echo(_why_line(answer))
    sys.exit(0 if answer["answer"] in ("ran", "pending", "not_due") else EXIT_FAILED)


def _why_line(answer: dict[str, Any]) -> str:
    fields = (answer["answer"], answer.get("slot") or "", answer.get("job_instance") or "", answer["text"])
    return "\t".join(screen.visible(field).plain for field in fields)


def _why_facts(job: str, answer: dict[str, Any]) -> list[tuple[str, screen.Field]]:
    down = answer.get("down") or {}
    word = answer["answer"].replace("_", " ")
    style = "green" if answer["answer"] == "ran" else "yellow"
    return [
        (job, screen.visible(word, f"bold {style}")),
        ("slot", screen.moment(answer.get("slot"))),
        ("run", answer.get("job_instance") or ""),
        ("reason", answer.get("reason") or ""),
        ("", answer["text"]),
        ("down from", screen.moment(down.get("from"))),
        ("down to", screen.moment(down.get("to"))),
    ]


@click.command()
@job_argument
@json_option
@socket_option
def stats(job: str, as_json: bool, where: str | None) -> None:
    """Show how the latest runs of JOB went, and how long they took.

    \b
    saltpeter stats backup
    """
    found = ask(where, lambda client: client.request("stats", {"cron": job}))
    if as_json:
        screen.print_json(found)
        return
    rate = found["success_rate"]
    screen.print_facts(
        [
            ("runs", str(found["runs"])),
            ("succeeded", screen.Cell(_plain(rate), _rate(rate))),
            ("half took up to", screen.lasting(found["p50"])),
            ("19 of 20 took up to", screen.lasting(found["p95"])),
            ("durations", screen.Cell(" ".join(_plain(each) for each in found["durations"]), _durations(found))),
        ]
    )


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _rate(rate: float | None) -> Text:
    if rate is None:
        return Text("")
    return Text(f"{rate:.1%}", "green" if rate >= GOOD_RATE else "yellow" if rate >= FAIR_RATE else "bold red")


def _durations(found: dict[str, Any]) -> Text:
    """A block for each run, as high as it was long, in the colour of how it went."""
    drawn = Text()
    durations = [each or 0.0 for each in found["durations"]]
    for block, verdict in zip(words.sparkline(durations), found["verdicts"], strict=False):
        drawn.append(block, words.VERDICT_STYLES.get(verdict, ""))
    return drawn
