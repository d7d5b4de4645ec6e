"""saltpeter audit"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from saltpeter.cli import screen
from saltpeter.cli.common import as_moment, json_option, plain_errors
from saltpeter.cli.store import state_directory, statedir_option
from saltpeter.engine.audit import AUDIT_FILE, read


@click.command()
@click.option("--since", metavar="TIME", callback=as_moment(), help="Only what was done then or later.")
@click.option("--who", metavar="NAME", help="Only what they did: token:NAME, unix:USER, or an address.")
@json_option
@statedir_option
def audit(since: datetime | None, who: str | None, as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Say who asked for which change, from where, and what came of it. Works with a daemon and without.

    \b
    saltpeter audit --since yesterday
    saltpeter audit --who token:alice --json
    """
    with plain_errors():
        file = state_directory(config, statedir) / AUDIT_FILE
        entries = [
            each for each in read(file) if (since is None or each.at >= since) and (who is None or each.who == who)
        ]
    if as_json:
        screen.print_json([each.as_dict() for each in entries])
        return
    rows = [
        (screen.moment(each.at.isoformat()), each.who, each.peer, each.did, json.dumps(each.what), each.result)
        for each in entries
    ]
    screen.print_table(("when", "who", "from", "did", "what", "result"), rows, f"nothing of that stands in {file}")
