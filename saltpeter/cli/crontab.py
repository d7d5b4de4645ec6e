"""saltpeter import-crontab"""

from __future__ import annotations

import sys
from zoneinfo import ZoneInfo

import attrs
import click

from saltpeter.cli import screen
from saltpeter.cli.common import EXIT_FAILED, fail, json_option
from saltpeter.domain import values
from saltpeter.domain.crontab import Origin, parse, render
from saltpeter.domain.job import TargetType
from saltpeter.host import local_zone


@click.command(name="import-crontab")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--targets", required=True, metavar="TARGET", help="The Salt target that the jobs run on.")
@click.option("--target-type", type=click.Choice([kind.value for kind in TargetType]), help="How to read it.")
@click.option("--system", is_flag=True, help="A user stands before each command, as in /etc/crontab and /etc/cron.d.")
@click.option("--user", help="Who runs the commands, where the file does not say.")
@click.option("--zone", metavar="ZONE", help="The zone of the times, where no CRON_TZ says one. [default: this host's]")
@json_option
def import_crontab(
    *,
    file: str,
    targets: str,
    target_type: str | None,
    system: bool,
    user: str | None,
    zone: str | None,
    as_json: bool,
) -> None:
    """Turn a crontab into jobs.

    Prints the jobs of FILE (- for stdin) as YAML for conf.d. What could not be carried over is said on stderr;
    exit 1 if that was a whole job.

    \b
    crontab -l -u backup | saltpeter import-crontab - --targets 'db*' --user backup >conf.d/backup.yaml
    saltpeter import-crontab /etc/crontab --system --targets web01 >conf.d/web01.yaml
    """
    try:
        name = _local_zone() if zone is None else values.zone(zone).key
    except values.Wrong as error:
        raise click.BadParameter(error.problem, param_hint="--zone") from error
    origin = Origin(targets=targets, target_type=target_type, user=user, zone=name, system=system)
    source = "stdin" if file == "-" else file
    imported = parse(_read(file), origin)
    if as_json:
        jobs = {entry.name: dict(entry.keys) for entry in imported.entries}
        screen.print_json({"jobs": jobs, "problems": [attrs.asdict(complaint) for complaint in imported.complaints]})
    else:
        click.echo(render(imported.entries, f"the crontab {source}"), nl=False)
        for complaint in imported.complaints:
            screen.remark(f"{source}:{complaint.line}: {complaint.text}")
    sys.exit(EXIT_FAILED if any(complaint.lost for complaint in imported.complaints) else 0)


def _read(file: str) -> str:
    try:
        with click.open_file(file, encoding="utf-8", errors="replace") as text:
            return str(text.read())
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _local_zone() -> str | None:
    """None where this host's zone has no name of its own."""
    zone = local_zone()
    return zone.key if isinstance(zone, ZoneInfo) and zone.key != "localtime" else None
