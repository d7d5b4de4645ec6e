"""The command line: argv to commands. What concerns a running daemon goes through its control socket only."""

from __future__ import annotations

from pathlib import Path

import click

from saltpeter.cli.check import check
from saltpeter.cli.control import kill, run
from saltpeter.cli.daemon import daemon
from saltpeter.cli.lab import lab
from saltpeter.cli.wrapper import wrapper
from sp_wrapper import __version__


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
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
        return
    if config is None:
        click.echo(context.get_help())
        context.exit(2)
    context.invoke(daemon, config=config, debug=debug)


for command in (daemon, check, run, kill, wrapper, lab):
    main.add_command(command)
