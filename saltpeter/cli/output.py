"""saltpeter tail, saltpeter output: what commands wrote"""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from saltpeter.cli import screen, words
from saltpeter.cli.common import ask, complete_jobs, json_option, socket_option
from saltpeter.cli.follow import Printer, follow, verdict_code
from saltpeter.cli.runs import find_run, newest_run
from saltpeter.client import Client


@click.command()
@click.argument("wanted", metavar="JOB|RUN", shell_complete=complete_jobs)
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Go on as it comes: until RUN ends, or with all of JOB's."
)
@click.option("-m", "--machine", metavar="MACHINE", help="Only this machine's.")
@json_option
@socket_option
def tail(wanted: str, following: bool, machine: str | None, as_json: bool, where: str | None) -> None:
    """Print the output of a RUN, or of the newest of a JOB.

    Each line stands behind the name of its machine. Following a RUN ends with it, and with the exit code that its
    verdict has for `saltpeter run --follow`.

    \b
    saltpeter tail backup
    saltpeter tail backup -f --machine db01
    saltpeter tail backup_1762346049 | grep error
    """

    async def print_it(client: Client) -> int:
        if following and await newest_run(client, wanted) is not None:
            await _follow_job(client, wanted, machine, as_json)
        about = await client.request("getRun", {"job_instance": await find_run(client, wanted)})
        if following and not about["ended"]:
            ended = await follow(client, about["cron"], wanted, machine=machine, as_json=as_json)
            return verdict_code(ended["verdict"])
        await _print_stored(client, about, machine, Printer(as_json))
        return verdict_code(about["verdict"]) if following else 0

    sys.exit(ask(where, print_it))


async def _follow_job(client: Client, job: str, machine: str | None, as_json: bool) -> None:
    """The newest run's output, and that of each one after it, without end."""
    printer, run = Printer(as_json), ""
    await client.request("subscribe", {"cron": job} if machine is None else {"cron": job, "machine": machine})
    async for message in client:
        if message["type"] == "output_chunk" and message["cron"] == job:
            if message["instance"] != run:
                run = message["instance"]
                printer.heading(run)
            printer.chunk(message)


async def _print_stored(client: Client, about: dict[str, Any], machine: str | None, printer: Printer) -> None:
    run = about["job_instance"]
    machines = sorted(about["results"]) if machine is None else [machine]
    for each in machines:
        position = 0
        async for page in _pages(client, {"job_instance": run, "machine": each}):
            message = {"type": "output_chunk", "cron": about["cron"], "instance": run, "machine": each}
            printer.chunk({**message, "position": position, **page})
            position += len(page["chunk"].encode("utf-16-le", "surrogatepass")) // 2


async def _pages(client: Client, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """All that there is now of one machine's output; the last page is complete, as nothing follows it."""
    position = 0
    while True:
        page = await client.request("getOutput", {**request, "position": position})
        if page["next"] == position:
            yield {**page, "is_complete": True}
            return
        yield {**page, "is_complete": False}
        position = page["next"]


@click.command()
@click.argument("run", metavar="RUN|JOB", shell_complete=complete_jobs)
@click.argument("machine")
@click.option("--attempt", type=click.IntRange(1), help="Which one, where it was tried again. [default: the last]")
@click.option("--raw", is_flag=True, help="On a terminal as well, every byte as it is.")
@json_option
@socket_option
def output(*, run: str, machine: str, attempt: int | None, raw: bool, as_json: bool, where: str | None) -> None:
    """Print what the command of a RUN wrote on MACHINE: byte for byte.

    On a terminal, colours work, and all else that could command it is made visible.

    \b
    saltpeter output backup db01
    saltpeter output backup_1762346049 db01 >dump.sql
    """
    write = _print_json if as_json else _print_bytes if raw or not screen.on_terminal() else _print_visibly

    async def print_it(client: Client) -> None:
        request: dict[str, Any] = {"job_instance": await find_run(client, run), "machine": machine}
        if attempt is not None:
            request["attempt"] = attempt
        await write(client, request)

    ask(where, print_it)


async def _print_json(client: Client, request: dict[str, Any]) -> None:
    async for page in _pages(client, request):
        screen.print_json_line(page)


async def _print_bytes(client: Client, request: dict[str, Any]) -> None:
    async for page in _pages(client, {**request, "raw": True}):
        sys.stdout.buffer.write(base64.b64decode(page["data_b64"]))
    sys.stdout.buffer.flush()


async def _print_visibly(client: Client, request: dict[str, Any]) -> None:
    console, lines = screen.console(), words.Lines()
    async for page in _pages(client, request):
        for line in lines.feed("", page["chunk"], last=page["is_complete"]):
            for part in words.overwritten(line):
                console.print(words.harmless(part), soft_wrap=True)
