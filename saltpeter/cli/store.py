"""saltpeter store"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import trio

from saltpeter import logs
from saltpeter.cli.common import EXIT_FAILED, plain_errors
from saltpeter.domain.document import SETTINGS_KEY
from saltpeter.domain.job import Settings
from saltpeter.engine.clock import now
from saltpeter.engine.reload import check
from saltpeter.errors import StoreError
from saltpeter.host import host
from saltpeter.store.backup import back_up, restore
from saltpeter.store.places import Places
from saltpeter.store.retention import Pruned, Retention, look
from saltpeter.store.sqlite import open_store
from saltpeter.store.survey import Survey, survey
from sp_wrapper import __version__

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@click.group()
def store() -> None:
    """What saltpeter keeps: runs, results and output. Works on the files, with a daemon or without."""


def statedir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the store is: said, or as conf.d has it."""
    command = click.option(
        "-c", "config", type=click.Path(path_type=Path), metavar="DIR", help="The daemon's conf.d, for its statedir."
    )(command)
    return click.option(
        "--statedir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help=f"The daemon's state directory. [default: {host().statedir}]",
    )(command)


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@statedir_option
def backup(file: Path, config: Path | None, statedir: Path | None) -> None:
    """Copy all that is kept into the new FILE (.tar, .tar.gz or .tgz).

    With the ledger, the output and the keys, while the daemon runs or without one. FILE appears when it is whole;
    `saltpeter store restore FILE` puts it back.

    \b
    saltpeter store backup /srv/backup/saltpeter-monday.tar.gz
    """
    with plain_errors():
        size = back_up(_places(config, statedir), file, lambda name: click.echo(f"copying {name}", err=True))
        click.echo(f"{file}: {in_words(size)}")


@store.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@statedir_option
def restore_(file: Path, config: Path | None, statedir: Path | None) -> None:
    """Put back what FILE holds, as the user that the daemon runs as, while no daemon runs.

    Refuses where there is a store already: move the state directory away first.

    \b
    saltpeter store restore /srv/backup/saltpeter-monday.tar.gz
    """
    with plain_errors():
        places = _places(config, statedir)
        count = restore(places, file, lambda name: click.echo(f"putting back {name}", err=True))
        click.echo(f"{places.statedir}: {count} files are back; the daemon can be started")


@store.command()
@statedir_option
def info(config: Path | None, statedir: Path | None) -> None:
    """Say what is kept, how large it is, and whether it is sound; exit 1 if it is not.

    \b
    saltpeter store info
    """
    with plain_errors():
        found = survey(_places(config, statedir))
    for name, text in _describe(found):
        click.echo(f"{name + ':':<12}{text}")
    sys.exit(EXIT_FAILED if found.damaged else 0)


@store.command()
@click.option(
    "-c",
    "config",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="The daemon's conf.d, which says what to keep.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go. Works while the daemon runs, too.")
def prune(config: Path, dry_run: bool) -> None:
    """Forget what `retention` in DIR does not want to keep.

    A running daemon does so by itself every few minutes, so this is for when none runs, and refuses otherwise.

    \b
    saltpeter store prune -c /etc/saltpeter/conf.d --dry-run
    """
    with plain_errors():
        settings = _settings(config)
        pruned = _look(settings) if dry_run else trio.run(_prune, settings)
    click.echo(f"{'would forget' if dry_run else 'forgot'} {pruned}")


def _look(settings: Settings) -> Pruned:
    _, pruned = look(Places(Path(settings.statedir)), settings.retention, now())
    return pruned


async def _prune(settings: Settings) -> Pruned:
    logs.configure()
    places = Places(Path(settings.statedir))
    if places.in_use():
        raise StoreError(f"{places.statedir} is in use by a daemon, which forgets by itself what is too old")
    async with open_store(places.statedir, __version__, now) as opened:
        return await Retention(lambda: settings.retention, opened, now).prune()


def _settings(config: Path) -> Settings:
    """Raises StoreError where it is in doubt what belongs to whom, or what is to be kept."""
    found = check(str(config), host(), now())
    for problem in found.problems:
        if problem.fatal and problem.job in ("", SETTINGS_KEY):
            raise StoreError(str(problem))
    return found.settings


def state_directory(config: Path | None, statedir: Path | None) -> Path:
    """What the options of `statedir_option` say. Raises StoreError."""
    return statedir or Path(host().statedir if config is None else _settings(config).statedir)


def _places(config: Path | None, statedir: Path | None) -> Places:
    return Places(state_directory(config, statedir))


def _describe(found: Survey) -> list[tuple[str, str]]:
    days = found.partitions
    span = f", {days[0].day} to {days[-1].day}" if days else ""
    lines = [
        ("store", f"{found.statedir}, {'in use' if found.in_use else 'not in use'}, schema {found.schema}"),
        ("ledger", f"{in_words(found.ledger_size)}, {found.runs} runs, {found.unfinished} of them not ended"),
        ("oldest run", _instant(found.oldest)),
        ("output", f"{in_words(sum(day.size for day in days))}, {len(days)} days{span}"),
        ("disk", f"{in_words(found.free)} free"),
        ("daemon", f"last seen {_instant(found.last_seen)}"),
    ]
    lines += [("set aside", f"{path} (was damaged)") for path in found.set_aside]
    lines += [("DAMAGED", f"{path}: {said}") for path, said in found.damaged.items()]
    return lines if found.damaged else [*lines, ("health", "nothing wrong was found")]


def _instant(at: datetime | None) -> str:
    return "never" if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")


def in_words(size: float) -> str:
    """`size` in bytes, as people read it."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
