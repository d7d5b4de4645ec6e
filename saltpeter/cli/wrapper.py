"""saltpeter wrapper"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from saltpeter.cli.common import fail
from saltpeter.wrapper_build import BuildError
from saltpeter.wrapper_build import build as build_wrapper


@click.group()
def wrapper() -> None:
    """The program that runs commands on the machines."""


@wrapper.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="sp_wrapper.py")
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="EXE",
    help="A Python whose compiled modules to include; may be given several times. Every other Python from 3.10 on "
    "runs the file too, but takes some tenths of a second longer to connect. [default: this one]",
)
def build(file: Path, pythons: tuple[str, ...]) -> None:
    """Write the wrapper, with all it needs, to one FILE [default: sp_wrapper.py].

    \b
    saltpeter wrapper build /srv/salt/sp_wrapper.py
    salt '*' cp.get_file salt://sp_wrapper.py /usr/local/bin/sp_wrapper.py
    salt '*' cmd.run 'chmod 755 /usr/local/bin/sp_wrapper.py'
    """
    try:
        build_wrapper(file, pythons or (sys.executable,))
    except BuildError as error:
        fail(str(error))
    click.echo(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
