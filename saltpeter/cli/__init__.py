"""The command line: argv to commands. What concerns a running daemon goes through its control socket only.

A command's module is loaded when it is asked for: all of them take longer than most answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from saltpeter.cli.common import printing
from sp_wrapper import __version__

# By what they are for: each command's name, and its module here.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "See": {
        "jobs": "jobs",
        "status": "jobs",
        "next": "upcoming",
        "history": "runs",
        "show": "runs",
        "tail": "output",
        "output": "output",
        "why": "runs",
        "stats": "runs",
    },
    "Control": {
        "run": "control",
        "kill": "control",
        "pause": "control",
        "resume": "control",
        "signal": "control",
        "maintenance": "maintenance",
        "reload": "control",
    },
    "Set up": {
        "daemon": "daemon",
        "check": "check",
        "import-crontab": "crontab",
        "wrapper": "wrapper",
        "store": "store",
        "token": "token",
        "audit": "audit",
        "lab": "lab",
        "completion": "completion",
    },
}


_MODULES = {name: module for section in SECTIONS.values() for name, module in section.items()}


def load(name: str) -> click.Command:
    """The command of that name. Raises KeyError."""
    module = importlib.import_module(f"saltpeter.cli.{_MODULES[name]}")
    return next(each for each in vars(module).values() if isinstance(each, click.Command) and each.name == name)


class Sections(click.Group):
    """Its commands are listed by what they are for."""

    def invoke(self, ctx: click.Context) -> Any:
        with printing():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in _MODULES else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, load(name).get_short_help_str(90)) for name in section])


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
    context.invoke(load("daemon"), config=config, debug=debug)
