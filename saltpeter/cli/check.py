"""saltpeter check"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

import attrs
import click

from saltpeter.cli import screen, words
from saltpeter.cli.common import EXIT_FAILED, json_option, plain_errors
from saltpeter.engine.reload import check as check_directory
from saltpeter.host import host


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@json_option
def check(directory: Path, as_json: bool) -> None:
    """Say all that is wrong with the jobs in DIRECTORY.

    Exit 1 if anything is.

    \b
    saltpeter check /etc/saltpeter/conf.d
    """
    with plain_errors():
        config = check_directory(str(directory), host(), datetime.now(timezone.utc))
    errors = sum(problem.fatal for problem in config.problems)
    warnings = len(config.problems) - errors
    if as_json:
        problems = [attrs.asdict(problem) for problem in config.problems]
        screen.print_json({"jobs": sorted(config.jobs), "problems": problems})
    else:
        for problem in config.problems:
            screen.say(str(problem), "bold red" if problem.fatal else "yellow")
        found = f"{words.count(errors, 'error')}, {words.count(warnings, 'warning')}"
        screen.say(f"{words.count(len(config.jobs), 'job')} in force, {found}")
    sys.exit(EXIT_FAILED if errors else 0)
