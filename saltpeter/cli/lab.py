"""saltpeter lab"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import trio
import yaml

from saltpeter import logs
from saltpeter.cli.common import plain_errors
from saltpeter.client import connect
from saltpeter.errors import CommandRefused
from saltpeter.host import host
from saltpeter.wrapper_build import build

_STOP_S = 15.0  # for the commands that still run
_FIRST = "00-lab.yaml"  # of what several files say, the first counts

_WELCOME = """
A Salt master with {minions} minions is up, and a daemon that runs jobs on them. What happens follows below.
  control socket   {addresses.control_socket}
                   {addresses.control_url}
  jobs             {conf_d}   (edit them: changes are taken up at once)
  salt             {salt} -c {salt_config} '*' test.ping
Try, in another terminal:
  export SALTPETER_SOCKET={addresses.control_socket}
  {saltpeter} run long && sleep 5 && {saltpeter} kill long
Ctrl-C ends all of it.
"""


@click.command()
@click.option("-n", "--minions", default=3, show_default=True, type=click.IntRange(1, 20), help="How many.")
@click.option(
    "-d", "--directory", type=click.Path(path_type=Path), help="Where to put everything. [default: a temporary one]"
)
@click.option(
    "-c",
    "config",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Jobs to run. [default: examples]",
)
@click.option("--debug", is_flag=True, help="Log everything.")
def lab(minions: int, directory: Path | None, config: Path | None, debug: bool) -> None:
    """Try saltpeter out, on a private Salt master.

    Starts it, some minions, and a daemon, on this host and as this user. Touches nothing outside its directory,
    listens on loopback only, and takes everything down on Ctrl-C.

    \b
    saltpeter lab
    saltpeter lab --minions 5 -c my/conf.d
    """
    logs.configure(debug=debug)
    with plain_errors(), _directory(directory) as place:
        trio.run(_lab, place, minions, config or _examples(), debug)


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="splab"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


async def _lab(directory: Path, minions: int, jobs: Path, debug: bool) -> None:
    from saltpeter.lab import lab as salt_lab  # noqa: PLC0415  the daemon's parts take a moment to load

    click.echo(f"Starting a Salt master and {minions} minions in {directory} ...")
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with salt_lab(directory / "salt", minions) as salt:
            conf_d = _prepare(directory, jobs, salt.master_config)
            async with _daemon(conf_d, debug) as addresses:
                click.echo(
                    _WELCOME.format(
                        minions=minions,
                        addresses=addresses,
                        conf_d=conf_d,
                        salt=_program("salt"),
                        saltpeter=_program("saltpeter"),
                        salt_config=salt.master_config.parent,
                    )
                )
                async for _ in signals:
                    break
                click.echo("Taking it down ...")
                with trio.move_on_after(_STOP_S):
                    await _end_everything(addresses.control_socket)


def _program(name: str) -> str:
    """What to type for a program that is installed with us: another terminal may know nothing of our venv."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


@asynccontextmanager
async def _daemon(conf_d: Path, debug: bool) -> AsyncIterator[Any]:
    from saltpeter.daemon import Daemon  # noqa: PLC0415

    async with Daemon(conf_d, host(), debug).serving() as addresses:
        yield addresses


def _prepare(directory: Path, jobs: Path, master_config: Path) -> Path:
    """A conf.d with the jobs, and the settings that keep the daemon inside the lab, whatever stands beside them."""
    conf_d = directory / "conf.d"
    shutil.copytree(jobs, conf_d, dirs_exist_ok=True)
    build(directory / "sp_wrapper.py")
    settings = {
        "statedir": str(directory / "state"),
        "logdir": str(directory / "log"),
        "executor": "salt",
        "master_config": str(master_config),
        "api_ws": True,
        "api_ws_port": 0,
        "api_ws_bind_addr": "127.0.0.1",
        "machines_ws_port": 0,
        "machines_ws_bind_addr": "127.0.0.1",
        "default_saltpeter_server_host": "127.0.0.1",
        "default_wrapper_path": str(directory / "sp_wrapper.py"),
        "default_wrapper_logdir": str(directory / "log" / "wrapper"),
    }
    (conf_d / _FIRST).write_text(yaml.safe_dump({"saltpeter_config": settings}))
    return conf_d


async def _end_everything(control_socket: Path) -> None:
    """What was started on the machines would outlive them."""
    async with connect(control_socket) as client:
        killed = False
        async for message in client:
            if message["type"] != "status":
                continue
            jobs = {run["name"] for run in message["running"].values()}
            if not jobs:
                return
            for job in () if killed else jobs:
                with suppress(CommandRefused):  # it may have ended just now
                    await client.request("killCron", job)
            killed = True


def _examples() -> Path:
    """The example jobs, as they are installed, or as they lie beside the sources."""
    package = Path(__file__).parent.parent
    installed = package / "data" / "conf.d"
    return installed if installed.is_dir() else package.parent / "conf.d"
