"""saltpeter run, kill, pause, resume, signal, reload: what changes something"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from signal import Signals
from typing import Any

import click

from saltpeter.cli import screen, words
from saltpeter.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    ask,
    fail,
    job_argument,
    json_option,
    socket_option,
    told,
)
from saltpeter.cli.follow import follow, verdict_code
from saltpeter.cli.overview import overview
from saltpeter.client import Client
from saltpeter.domain.moments import span

MAX_NAMES = 1000  # in one request, says the protocol

machines_argument = click.argument("machines", nargs=-1)
run_option = click.option("--run", "instance", metavar="ID", help="Only this run, where several of the job live.")


@click.command()
@job_argument
@click.option("--target", "-t", "targets", multiple=True, metavar="MACHINE", help="Only on this one of its targets.")
@click.option("--follow", "-f", "following", is_flag=True, help="Show the output until it ends; exit as the run did.")
@json_option
@socket_option
def run(job: str, targets: tuple[str, ...], following: bool, as_json: bool, where: str | None) -> None:
    """Start JOB now, on all its targets or on some of them.

    With --follow the exit code is 0 where the run succeeded, 1 where it failed, 4 where there were no targets,
    and 143 where it was killed. Ctrl-C ends the following, not the run.

    \b
    saltpeter run backup
    saltpeter run backup --target db01 --target db02 --follow
    """
    request: dict[str, Any] = {"cron": job, "machines": list(targets)} if targets else {"cron": job}

    async def start(client: Client) -> dict[str, Any]:
        started: dict[str, Any] = await client.request("run", request)
        _say_started(started, as_json, following)
        return await follow(client, job, started["job_instance"], as_json=as_json) if following else {}

    ended = ask(where, start)
    if following:
        _say_ended(ended, as_json)
        sys.exit(verdict_code(ended["verdict"]))


def _say_started(started: Mapping[str, Any], as_json: bool, following: bool) -> None:
    if as_json:
        screen.print_json_line(started)
    elif following:
        screen.remark(f"started {started['job_instance']}")
    else:
        screen.say(f"started {started['job_instance']}")


def _say_ended(run: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        screen.print_json_line(run)
        return
    took = words.duration(run["duration"])
    failed = f", {run['failed']} of {run['machines']} machines failed" if run["failed"] else ""
    text = f": {run['text']}" if run["text"] else ""
    screen.remark(f"{run['job_instance']}: {run['verdict']} after {took}{failed}{text}")


def _a_signal(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and f"SIG{value.upper().removeprefix('SIG')}" not in Signals.__members__:
        raise click.BadParameter(f"{value!r} is no signal; write one like TERM, INT, HUP or USR1")
    return value


# --- kill ----------------------------------------------------------------------------------------


@click.command()
@job_argument
@machines_argument
@run_option
@click.option(
    "--signal",
    "number",
    metavar="SIGNAL",
    callback=_a_signal,
    help="Ask with this one first. [default: the job's kill_signal]",
)
@click.option("--grace", metavar="TIME", help="Time from asking to KILL. [default: the job's kill_grace]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask whether it is meant.")
@json_option
@socket_option
def kill(
    *,
    job: str,
    machines: tuple[str, ...],
    instance: str | None,
    number: str | None,
    grace: str | None,
    yes: bool,
    as_json: bool,
    where: str | None,
) -> None:
    """End JOB, on all its machines or on MACHINES.

    That is the whole process tree, first with TERM, then with KILL. Says what became of it on each machine; exit 1
    if anything survived. On a terminal it asks first when more than one machine is concerned.

    \b
    saltpeter kill backup
    saltpeter kill backup db01 db02 --signal INT --grace 30s
    """
    options = _given(cron=job, job_instance=instance, signal=number, grace=_seconds(grace))
    if not yes and screen.asked_by_a_person():
        _confirm(where, job, machines, instance)
    receipts = ask(where, lambda client: _kill(client, options, machines))
    if as_json:
        screen.print_json(receipts)
    else:
        _print_receipts(receipts)
    survived = any(_survivors(end) for receipt in receipts for end in receipt["machines"].values())
    sys.exit(EXIT_FAILED if survived else 0)


def _given(**maybe: Any) -> dict[str, Any]:
    return {name: value for name, value in maybe.items() if value is not None}


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else span(text).total_seconds()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--grace") from error


def _in_parts(options: Mapping[str, Any], machines: Sequence[str]) -> list[dict[str, Any]]:
    """Requests about all `machines`, each with no more of them than one may name; without any, one about all."""
    parts = [list(machines[first : first + MAX_NAMES]) for first in range(0, len(machines), MAX_NAMES)]
    return [{**options, "machines": part} for part in parts] or [dict(options)]


def _confirm(where: str | None, job: str, machines: Sequence[str], instance: str | None) -> None:
    """Ask, in a conversation's pause: the daemon waits for nobody who types."""
    runs = ask(where, overview, listen=True).runs
    concerned = [
        machine
        for run, about in runs.items()
        if about["cron"] == job and instance in (None, run)
        for machine, state in about["machines"].items()
        if state != "ended" and (not machines or machine in machines)
    ]
    if len(concerned) > 1:
        question = f"End {job} on {words.count(len(concerned), 'machine')} ({words.names(sorted(concerned))})?"
        try:
            meant = click.confirm(question, err=True)
        except click.Abort:
            click.echo(err=True)
            sys.exit(EXIT_INTERRUPTED)
        if not meant:
            fail("nothing was ended")


async def _kill(client: Client, options: Mapping[str, Any], machines: Sequence[str]) -> list[dict[str, Any]]:
    """The receipts, one for each run that was concerned by a request."""
    asked: list[dict[str, Any]] = []
    for request in _in_parts(options, machines):
        asked += (await client.request("killCron", request))["runs"]
    for run in asked:
        screen.remark(f"{run['job_instance']}: asked {len(run['machines'])} of its machines to end it")
    _say_left_out(machines, asked)
    return [await told(client, "kill_receipt") for _ in asked]


def _say_left_out(machines: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> None:
    """Which of `machines` were not concerned any more."""
    concerned = {machine for run in runs for machine in run["machines"]}
    if ended := [machine for machine in machines if machine not in concerned]:
        screen.remark(f"it had ended already on {words.names(ended)}")


def _print_receipts(receipts: Sequence[Mapping[str, Any]]) -> None:
    for receipt in receipts:
        if not receipt["machines"]:
            screen.say(f"{receipt['job_instance']}: ended before it had begun on any machine")
        for machine, end in sorted(receipt["machines"].items()):
            style = "bold red" if _survivors(end) else ""
            screen.say(f"{receipt['job_instance']} on {machine}: {words.ending(end)}", style)


def _survivors(end: Mapping[str, Any]) -> bool:
    return bool(end["receipt"] and end["receipt"]["survived"])


# --- pause, resume, signal -----------------------------------------------------------------------


def _some_of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which of a job's processes are meant, and how to answer."""
    return machines_argument(run_option(json_option(socket_option(command))))


@click.command()
@job_argument
@_some_of_a_run
def pause(job: str, machines: tuple[str, ...], instance: str | None, as_json: bool, where: str | None) -> None:
    """Stop the processes of JOB where they are.

    On all its machines or on MACHINES. While they are stopped its timeout is, too.

    \b
    saltpeter pause backup
    saltpeter pause backup db01
    """
    _signal(where, "pause", _given(cron=job, job_instance=instance), machines, as_json)


@click.command()
@job_argument
@_some_of_a_run
def resume(job: str, machines: tuple[str, ...], instance: str | None, as_json: bool, where: str | None) -> None:
    """Let the processes of JOB that were paused go on.

    On all its machines or on MACHINES.

    \b
    saltpeter resume backup
    """
    _signal(where, "resume", _given(cron=job, job_instance=instance), machines, as_json)


@click.command()
@job_argument
@click.argument("signal", callback=_a_signal)
@_some_of_a_run
def signal(
    *, job: str, signal: str, machines: tuple[str, ...], instance: str | None, as_json: bool, where: str | None
) -> None:
    """Send SIGNAL to the processes of JOB.

    On all its machines or on MACHINES.

    \b
    saltpeter signal backup HUP
    saltpeter signal backup USR1 db01
    """
    _signal(where, "signal", _given(cron=job, signal=signal, job_instance=instance), machines, as_json)


def _signal(where: str | None, verb: str, options: Mapping[str, Any], machines: Sequence[str], as_json: bool) -> None:
    async def send(client: Client) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for request in _in_parts(options, machines):
            told += (await client.request(verb, request))["runs"]
        return told

    runs = ask(where, send)
    _say_left_out(machines, runs)
    if as_json:
        screen.print_json(runs)
    for run in [] if as_json else runs:
        waiting = set(run["machines"]) - set(run["told"])
        screen.say(f"{run['job_instance']}: {verb} told to {words.names(run['told']) or 'no machine'}")
        if waiting:
            screen.remark(f"{run['job_instance']}: not connected now: {words.names(sorted(waiting))}")


@click.command()
@json_option
@socket_option
def reload(as_json: bool, where: str | None) -> None:
    """Have the daemon read its jobs again.

    Says what is wrong with them; exit 1 if anything is.

    \b
    saltpeter reload
    """
    done = ask(where, lambda client: client.request("reload", True))
    if as_json:
        screen.print_json(done)
    else:
        for problem in done["problems"]:
            screen.say(problem_line(problem))
        screen.say(f"{words.count(done['jobs'], 'job')} in force")
    sys.exit(EXIT_FAILED if any(problem["fatal"] for problem in done["problems"]) else 0)


def problem_line(problem: Mapping[str, Any]) -> str:
    """As `check` says it."""
    where = f"{problem['path']}:{problem['line']}" if problem["line"] else problem["path"]
    what = ".".join(part for part in (problem["job"], problem["key"]) if part)
    return f"{where}: {'' if problem['fatal'] else 'warning: '}{what + ': ' if what else ''}{problem['text']}"
