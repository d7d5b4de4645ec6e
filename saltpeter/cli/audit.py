"""saltpeter audit"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from saltpeter.cli import screen
from saltpeter.cli.common import as_moment, ask, daemon_option, json_option, plain_errors
from saltpeter.cli.store import state_directory, statedir_option
from saltpeter.client import Client
from saltpeter.engine.audit import AUDIT_FILE, Wanted, read


@click.command()
@click.option("--since", metavar="TIME", callback=as_moment(), help="Only what was done then or later.")
@click.option("--who", metavar="NAME", help="Only what they did: token:NAME, unix:USER, or an address.")
@json_option
@statedir_option
@daemon_option("Ask the daemon with this control socket, or at ws://host:port. [default: read the file]")
def audit(
    *,
    since: datetime | None,
    who: str | None,
    as_json: bool,
    config: Path | None,
    statedir: Path | None,
    where: str | None,
) -> None:
    """Say who asked for which change, from where, and what came of it.

    Reads the file in the state directory of this host, with a daemon and without. With --url or --socket the daemon
    there is asked, which tells administrators whose token is not for some groups of jobs only.

    \b
    saltpeter audit --since yesterday
    saltpeter audit --who token:alice --json
    saltpeter audit --since 1h --url wss://cron01.example.org:8888
    """
    if where is not None and (config or statedir):
        raise click.UsageError("the audit is read from a state directory, or asked for with --url: give one of them")
    wanted, place = Wanted(since, who), str(where)
    if where is None:
        with plain_errors():
            file = state_directory(config, statedir) / AUDIT_FILE
            place = str(file)
            entries = [each.as_dict() for each in read(file) if wanted.takes(each)]
    else:
        entries = ask(where, lambda client: _ask_back(client, wanted))
    if as_json:
        screen.print_json(entries)
        return
    rows = [
        (screen.moment(each["at"]), each["who"], each["peer"], each["did"], json.dumps(each["what"]), each["result"])
        for each in entries
    ]
    screen.print_table(("when", "who", "from", "did", "what", "result"), rows, f"nothing of that stands in {place}")


async def _ask_back(client: Client, wanted: Wanted) -> list[dict[str, Any]]:
    """All that is wanted, oldest first, as the file has it; the daemon tells the newest first."""
    since = None if wanted.since is None else wanted.since.isoformat()
    found: list[dict[str, Any]] = []
    before = None
    while True:
        page = await client.request("getAudit", {"since": since, "who": wanted.who, "before": before, "limit": 1000})
        found += page["entries"]
        before = page["before"]
        if before is None:
            return found[::-1]
