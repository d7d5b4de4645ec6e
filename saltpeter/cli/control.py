"""saltpeter run, saltpeter kill"""

from __future__ import annotations

import sys
from typing import Any

import click

from saltpeter.cli.common import EXIT_FAILED, ask, socket_option
from saltpeter.client import Client


@click.command()
@click.argument("job")
@socket_option
def run(job: str, where: str | None) -> None:
    """Start JOB now.

    \b
    saltpeter run backup
    """

    async def start(client: Client) -> Any:
        return await client.request("run", job)

    started = ask(where, start)
    click.echo(f"started {started['job_instance']}")


@click.command()
@click.argument("job")
@click.argument("machines", nargs=-1)
@socket_option
def kill(job: str, machines: tuple[str, ...], where: str | None) -> None:
    """End JOB, on all its machines or on MACHINES: the whole process tree, first TERM, then KILL.

    Says what became of it on each machine; exit 1 if anything survived.

    \b
    saltpeter kill backup
    saltpeter kill backup db01 db02
    """

    requests: list[tuple[str, Any]] = [("killMachine", {"cron": job, "machine": machine}) for machine in machines]
    receipts = ask(where, lambda client: _kill(client, requests or [("killCron", job)]))
    survived = False
    for receipt in receipts:
        for machine, end in sorted(receipt["machines"].items()):
            click.echo(f"{receipt['job_instance']} on {machine}: {_ending(end)}")
            survived |= bool(end["receipt"] and end["receipt"]["survived"])
    sys.exit(EXIT_FAILED if survived else 0)


async def _kill(client: Client, requests: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The receipts, one for each run that was concerned by a request."""
    expected = 0
    for verb, value in requests:
        for run in (await client.request(verb, value))["runs"]:
            expected += 1
            click.echo(f"{run['job_instance']}: asked {len(run['machines'])} of its machines to end it", err=True)
    receipts: list[dict[str, Any]] = []
    while len(receipts) < expected:
        message = await client.__anext__()
        if message["type"] == "kill_receipt":
            receipts.append(message)
    return receipts


def _ending(end: dict[str, Any]) -> str:
    """One machine's end in words."""
    text = f"{end['outcome']} ({end['retcode']})"
    receipt = end["receipt"]
    if receipt is None:
        return f"{text}, without a receipt from the machine"
    text += f", {len(receipt['ended'])} of {len(receipt['signalled'])} processes ended"
    left = ", ".join(f"{process['pid']} {process['name']} ({process['state']})" for process in receipt["survived"])
    return f"{text}, STILL ALIVE: {left}" if left else text
