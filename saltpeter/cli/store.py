"""saltpeter store"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from saltpeter import logs
from saltpeter.cli import screen
from saltpeter.cli.common import EXIT_FAILED, json_option, plain_errors
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
@json_option
@statedir_option
def backup(file: Path, as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Copy all that is kept into the new FILE (.tar, .tar.gz or .tgz).

    With the ledger, the output and the keys, while the daemon runs or without one. FILE appears when it is whole;
    `saltpeter store restore FILE` puts it back.

    \b
    saltpeter store backup /srv/backup/saltpeter-monday.tar.gz
    """
    with plain_errors():
        size = back_up(_places(config, statedir), file, lambda name: click.echo(f"copying {name}", err=True))
    if as_json:
        screen.print_json({"file": str(file), "bytes": size})
    else:
        screen.say(f"{file}: {in_words(size)}")


@store.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@statedir_option
def restore_(file: Path, as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Put back what FILE holds, as the user that the daemon runs as, while no daemon runs.

    Refuses where there is a store already: move the state directory away first.

    \b
    saltpeter store restore /srv/backup/saltpeter-monday.tar.gz
    """
    with plain_errors():
        places = _places(config, statedir)
        count = restore(places, file, lambda name: click.echo(f"putting back {name}", err=True))
    if as_json:
        screen.print_json({"statedir": str(places.statedir), "files": count})
    else:
        screen.say(f"{places.statedir}: {count} files are back; the daemon can be started")


@store.command()
@json_option
@statedir_option
def info(as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Say what is kept, how large it is, and whether it is sound; exit 1 if it is not.

    \b
    saltpeter store info
    """
    with plain_errors():
        places = _places(config, statedir)
        if not places.ledger.exists():
            raise StoreError(f"there is no store in {places.statedir}; say with --statedir or -c where it is")
        found = survey(places)
    if as_json:
        screen.print_json(_as_json(found))
    else:
        screen.print_facts(_describe(found))
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
@json_option
def prune(config: Path, dry_run: bool, as_json: bool) -> None:
    """Forget what `retention` in DIR does not want to keep.

    A running daemon does so by itself every few minutes, so this is for when none runs, and refuses otherwise.

    \b
    saltpeter store prune -c /etc/saltpeter/conf.d --dry-run
    """
    with plain_errors():
        settings = _settings(config)
        pruned = _look(settings) if dry_run else trio.run(_prune, settings)
    if as_json:
        screen.print_json({"dry_run": dry_run, **attrs.asdict(pruned)})
    else:
        screen.say(f"{'would forget' if dry_run else 'forgot'} {pruned}")


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


def _describe(found: Survey) -> list[tuple[str, screen.Field]]:
    days = found.partitions
    lines: list[tuple[str, screen.Field]] = [
        ("store", str(found.statedir)),
        ("in use", "yes" if found.in_use else "no"),
        ("schema", str(found.schema)),
        ("ledger", _size(found.ledger_size)),
        ("runs", str(found.runs)),
        ("not ended", str(found.unfinished)),
        ("oldest run", screen.moment(_iso(found.oldest))),
        ("output", _size(sum(day.size for day in days))),
        ("days", f"{days[0].day} to {days[-1].day}" if days else ""),
        ("disk free", _size(found.free)),
        ("last daemon", screen.moment(_iso(found.last_seen))),
    ]
    lines += [("set aside", f"{path} (was damaged)") for path in found.set_aside]
    lines += [("DAMAGED", screen.visible(f"{path}: {said}", "bold red")) for path, said in found.damaged.items()]
    return lines if found.damaged else [*lines, ("health", "nothing wrong was found")]


def _as_json(found: Survey) -> dict[str, Any]:
    return {
        "statedir": str(found.statedir),
        "in_use": found.in_use,
        "schema": found.schema,
        "runs": found.runs,
        "unfinished": found.unfinished,
        "oldest": _iso(found.oldest),
        "last_seen": _iso(found.last_seen),
        "ledger_bytes": found.ledger_size,
        "days": [{"day": each.day, "bytes": each.size} for each in found.partitions],
        "free_bytes": found.free,
        "set_aside": [str(path) for path in found.set_aside],
        "damaged": {str(path): said for path, said in found.damaged.items()},
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _size(size: int) -> screen.Cell:
    return screen.Cell(str(size), in_words(size))


def in_words(size: float) -> str:
    """`size` in bytes, as people read it."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
