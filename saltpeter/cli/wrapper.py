"""saltpeter wrapper"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from saltpeter import logs
from saltpeter.cli import screen, words
from saltpeter.cli.common import EXIT_FAILED, EXIT_NO_TARGETS, fail, json_option, plain_errors
from saltpeter.domain.job import Settings, Target, TargetType, WrapperSettings
from saltpeter.engine.clock import now
from saltpeter.engine.reload import check as check_directory
from saltpeter.host import host
from saltpeter.wrapper_build import BuildError
from saltpeter.wrapper_build import build as build_wrapper

BESIDE = ".order_key.pub"  # added to the wrapper's name, where it looks for the key
LOOK_S = 15.0  # in which a machine that is there answers


@click.group()
def wrapper() -> None:
    """The program that runs commands on the machines.

    \b
    saltpeter wrapper deploy '*'
    saltpeter wrapper status '*'
    """


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
@json_option
def build(file: Path, pythons: tuple[str, ...], as_json: bool) -> None:
    """Write the wrapper, with all it needs, to one FILE [default: sp_wrapper.py].

    For machines that get their files in another way than by `saltpeter wrapper deploy`.

    \b
    saltpeter wrapper build /srv/salt/sp_wrapper.py
    salt '*' cp.get_file salt://sp_wrapper.py /usr/local/bin/sp_wrapper.py
    salt '*' cmd.run 'chmod 755 /usr/local/bin/sp_wrapper.py'
    """
    try:
        build_wrapper(file, pythons or (sys.executable,))
    except (BuildError, OSError) as error:
        fail(str(error))
    size = file.stat().st_size
    if as_json:
        screen.print_json({"file": str(file), "bytes": size})
    else:
        screen.say(f"{file}: {size / 1024:.0f} KiB")


def _target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which machines, by which master, and where the file lies on them."""
    kinds = [kind.value for kind in TargetType if kind is not TargetType.LOCAL]
    for decorate in (
        json_option,
        click.option("--path", metavar="FILE", help="Where it lies there. [default: default_wrapper_path]"),
        click.option("--master-config", metavar="FILE", help="Salt's. [default: master_config]"),
        click.option("-c", "config", type=click.Path(path_type=Path), metavar="DIR", help="The conf.d that says both."),
        click.option("--target-type", type=click.Choice(kinds), default="glob", help="How to read TARGET."),
        click.argument("target"),
    ):
        command = decorate(command)
    return command


@wrapper.command()
@_target_options
@click.option("--force", is_flag=True, help="Also where the same file lies already.")
@click.option(
    "--order-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help=f"Put this public key beside it (FILE{BESIDE}): from then on it obeys no order that is not signed.",
)
def deploy(*, force: bool, order_key: Path | None, as_json: bool, **where: Any) -> None:
    """Put the wrapper on the machines that the Salt TARGET names.

    Needs nothing but the right to run commands through Salt; run it where the master is. The old file stays in its
    place until the new one is whole, and what runs, runs on. Exit 1 if a machine could not be served.

    \b
    saltpeter wrapper deploy '*' -c /etc/saltpeter/conf.d
    saltpeter wrapper deploy 'os:Debian' --target-type grain
    saltpeter wrapper deploy '*' --order-key /etc/saltpeter/order_key.pub
    """
    key = None if order_key is None else _public(order_key)
    _report(where, as_json, lambda place, content: _deploy(place, content, force, key))


@wrapper.command()
@_target_options
def status(*, as_json: bool, **where: Any) -> None:
    """Show which wrapper, and which Python for it, the machines have.

    Exit 1 if one of them has no working wrapper, or did not answer.

    \b
    saltpeter wrapper status '*' -c /etc/saltpeter/conf.d
    """
    _report(where, as_json, lambda place, _content: place.look())


@attrs.frozen
class _Place:
    """The machines that were named, how to reach them, and where the wrapper's file lies on them."""

    launcher: Any
    machines: Sequence[str]
    path: str

    async def look(self) -> Mapping[str, Any]:
        from saltpeter.deploy import look  # noqa: PLC0415  loads Salt

        found: Mapping[str, Any] = await look(self.launcher, self.machines, self.path, LOOK_S)
        return found


def _public(order_key: Path) -> bytes:
    """The lines of a public key; a private one must never leave this host."""
    text = order_key.read_bytes()
    if b"PRIVATE KEY" in text or not text.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        fail(f"{order_key} is no public key of OpenSSH; the one to give has a name that ends in .pub")
    return text


async def _deploy(place: _Place, content: bytes, force: bool, key: bytes | None) -> Mapping[str, Any]:
    from saltpeter.deploy import deploy, digest  # noqa: PLC0415  as above
    from saltpeter.deploy import place as place_file  # noqa: PLC0415  as above

    before = await place.look()
    if key is not None:
        there = [each.machine for each in before.values() if not each.problem]
        before = {**before, **await place_file(place.launcher, there, place.path + BESIDE, key, mode=0o644)}
    wanted = digest(content)
    old = [each.machine for each in before.values() if not each.problem and (force or each.digest != wanted)]
    if not old:
        return before
    screen.remark(f"{words.size(len(content))} to {words.count(len(old), 'machine')}: {words.names(old)}")
    return {**before, **await deploy(place.launcher, old, place.path, content, _show_progress)}


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total} pieces{'' if done < total else chr(10)}", err=True, nl=False)


def _report(where: Mapping[str, Any], as_json: bool, act: Callable[[_Place, bytes], Any]) -> None:
    """Do something on the machines, and say what they have then."""
    from saltpeter.deploy import digest, salt  # noqa: PLC0415  as above

    content = _content()
    with plain_errors():
        settings = _settings(where["config"])
        target = Target(where["target"], TargetType(where["target_type"]))

        async def reach() -> Mapping[str, Any]:
            async with salt(where["master_config"] or settings.master_config, logs.configure) as launcher:
                machines = await launcher.match(target)
                path = where["path"] or settings.wrapper.path
                found: Mapping[str, Any] = await act(_Place(launcher, machines, path), content) if machines else {}
                return found

        found = trio.run(reach)
    if not found:
        fail(f"{target.expression} names no machine that the Salt master knows", EXIT_NO_TARGETS)
    _print(found, digest(content), as_json)


def _settings(config: Path | None) -> Settings:
    if config is not None:
        return check_directory(str(config), host(), now()).settings
    here = host()
    return Settings(statedir=here.statedir, logdir=here.logdir, wrapper=WrapperSettings())


def _content() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sp_wrapper.py")
        try:
            build_wrapper(file)
        except (BuildError, OSError) as error:
            fail(str(error))
        return file.read_bytes()


def _print(found: Mapping[str, Any], wanted: str, as_json: bool) -> None:
    listed = [found[machine] for machine in sorted(found)]
    if as_json:
        screen.print_json([{**attrs.asdict(each), "current": each.digest == wanted} for each in listed])
    else:
        rows = [_row(each, each.digest == wanted) for each in listed]
        screen.print_table(("machine", "wrapper", "python", "state", ""), rows, "no machines")
    sys.exit(0 if all(each.version and each.python and not each.problem for each in listed) else EXIT_FAILED)


def _row(each: Any, current: bool) -> tuple[screen.Field, ...]:
    state = "failed" if each.problem else "current" if current else "other" if each.version else "missing"
    style = {"current": "green", "other": "yellow"}.get(state, "bold red")
    return (
        screen.visible(each.machine, words.machine_style(each.machine)),
        each.version.removeprefix("sp_wrapper "),
        each.python or ("" if each.problem else "none that is new enough"),
        screen.visible(state, style),
        " ".join(each.problem.split()),
    )
