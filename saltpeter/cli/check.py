"""saltpeter check"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

import click

from saltpeter.cli.common import EXIT_FAILED, plain_errors
from saltpeter.engine.reload import check as check_directory
from saltpeter.host import host


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def check(directory: Path) -> None:
    """Say all that is wrong with the jobs in DIRECTORY; exit 1 if anything is.

    \b
    saltpeter check /etc/saltpeter/conf.d
    """
    with plain_errors():
        config = check_directory(str(directory), host(), datetime.now(timezone.utc))
    for problem in config.problems:
        click.echo(str(problem))
    errors = sum(problem.fatal for problem in config.problems)
    warnings = len(config.problems) - errors
    click.echo(f"{_count(len(config.jobs), 'job')} in force, {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    sys.exit(EXIT_FAILED if errors else 0)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
