"""saltpeter daemon"""

from __future__ import annotations

from pathlib import Path

import click
import trio

from saltpeter import logs
from saltpeter.cli.common import plain_errors
from saltpeter.host import host


@click.command()
@click.option(
    "-c", "config", type=click.Path(path_type=Path), metavar="DIR", required=True, help="The directory of YAML jobs."
)
@click.option("--debug", is_flag=True, help="Log everything.")
def daemon(config: Path, debug: bool) -> None:
    """Run the daemon, in the foreground.

    It logs to stderr. SIGHUP reads the jobs again (they are also read again when a file changes); SIGTERM
    stops it, and leaves running what runs on the machines: the next daemon takes that up.

    \b
    saltpeter daemon -c /etc/saltpeter/conf.d
    """
    from saltpeter.daemon import run  # noqa: PLC0415  the other commands need not wait for all of the daemon

    logs.configure(debug=debug)
    with plain_errors():
        trio.run(run, config, host(), debug)
