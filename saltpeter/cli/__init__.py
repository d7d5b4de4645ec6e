"""The command line: argv to commands. What concerns a running daemon goes through its control socket only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saltpeter.cli.audit import audit
from saltpeter.cli.check import check
from saltpeter.cli.common import printing
from saltpeter.cli.completion import completion
from saltpeter.cli.control import kill, pause, reload, resume, run, signal
from saltpeter.cli.crontab import import_crontab
from saltpeter.cli.daemon import daemon
from saltpeter.cli.jobs import jobs, status
from saltpeter.cli.lab import lab
from saltpeter.cli.maintenance import maintenance
from saltpeter.cli.output import output, tail
from saltpeter.cli.runs import history, show, stats, why
from saltpeter.cli.store import store
from saltpeter.cli.token import token
from saltpeter.cli.upcoming import upcoming
from saltpeter.cli.wrapper import wrapper
from sp_wrapper import __version__


class Sections(click.Group):
    """Its commands are listed by what they are for."""

    def invoke(self, ctx: click.Context) -> Any:
        with printing():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(each.name), each.get_short_help_str(90)) for each in commands])


@click.group(cls=Sections, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "config", type=click.Path(path_type=Path), metavar="DIR", help="Run the daemon on this conf.d.")
@click.option("--debug", is_flag=True, help="With -c: log everything.")
@click.version_option(__version__, prog_name="saltpeter")
@click.pass_context
def main(context: click.Context, config: Path | None, debug: bool) -> None:
    """Cron for a fleet of machines run by Salt.

    \b
    saltpeter check /etc/saltpeter/conf.d      what is wrong with the jobs?
    saltpeter -c /etc/saltpeter/conf.d         run the daemon, in the foreground
    saltpeter run backup                       start a job now
    saltpeter kill backup                      end it, on every machine
    saltpeter lab                              try it all out, on a private Salt master
    """
    if context.invoked_subcommand is not None:
        if config is not None or debug:
            raise click.UsageError("-c DIR and --debug run the daemon; what a command takes stands behind the command")
        return
    if config is None:
        click.echo(context.get_help())
        context.exit(2)
    context.invoke(daemon, config=config, debug=debug)


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "See": (jobs, status, upcoming, history, show, tail, output, why, stats),
    "Control": (run, kill, pause, resume, signal, maintenance, reload),
    "Set up": (daemon, check, import_crontab, wrapper, store, token, audit, lab, completion),
}

for command in (each for section in SECTIONS.values() for each in section):
    main.add_command(command)
