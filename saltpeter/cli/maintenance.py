"""saltpeter maintenance"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from saltpeter.cli import screen, words
from saltpeter.cli.common import TIMES, as_moment, ask, json_option, socket_option

EVERY_MACHINE = ""

reason_option = click.option("--reason", default="", help="Why, for those who see it.")
until_option = click.option(
    "--until", metavar="TIME", callback=as_moment(ahead=True), help="When it ends by itself. [default: by hand only]"
)


@click.group()
def maintenance() -> None:
    """Keep jobs from starting: everywhere, or on some machines. What runs, runs on.

    \b
    saltpeter maintenance on --reason 'moving the database' --until 2h
    saltpeter maintenance add db01 db02
    saltpeter maintenance show
    """


@maintenance.command(epilog=TIMES)
@reason_option
@until_option
@json_option
@socket_option
def on(reason: str, until: datetime | None, as_json: bool, where: str | None) -> None:
    """Start nothing any more, until `saltpeter maintenance off`, or until a time.

    \b
    saltpeter maintenance on --reason 'moving the database' --until 'tomorrow 06:00'
    """
    _set(where, (EVERY_MACHINE,), reason, until, as_json)


@maintenance.command()
@json_option
@socket_option
def off(as_json: bool, where: str | None) -> None:
    """Start jobs again, after `saltpeter maintenance on`.

    \b
    saltpeter maintenance off
    """
    _end(where, (EVERY_MACHINE,), as_json)


@maintenance.command(epilog=TIMES)
@click.argument("machines", nargs=-1, required=True)
@reason_option
@until_option
@json_option
@socket_option
def add(machines: tuple[str, ...], reason: str, until: datetime | None, as_json: bool, where: str | None) -> None:
    """Leave MACHINES out of what starts from now on.

    \b
    saltpeter maintenance add db01 --reason 'new disk' --until 2h
    """
    _set(where, machines, reason, until, as_json)


@maintenance.command()
@click.argument("machines", nargs=-1, required=True)
@json_option
@socket_option
def remove(machines: tuple[str, ...], as_json: bool, where: str | None) -> None:
    """Let jobs start on MACHINES again.

    \b
    saltpeter maintenance remove db01
    """
    _end(where, machines, as_json)


@maintenance.command()
@json_option
@socket_option
def show(as_json: bool, where: str | None) -> None:
    """Show what is under maintenance, why, and until when.

    \b
    saltpeter maintenance show
    """
    _print(ask(where, lambda client: client.request("maintenance", {"show": True})), as_json)


def _set(where: str | None, machines: tuple[str, ...], reason: str, until: datetime | None, as_json: bool) -> None:
    hold: dict[str, Any] = {"reason": reason}
    if until is not None:
        hold["until"] = until.isoformat()
    _change(where, [{"set": {"machine": machine, **hold}} for machine in machines], as_json)


def _end(where: str | None, machines: tuple[str, ...], as_json: bool) -> None:
    _change(where, [{"end": {"machine": machine}} for machine in machines], as_json)


def _change(where: str | None, requests: list[dict[str, Any]], as_json: bool) -> None:
    async def change(client: Any) -> Any:
        return [await client.request("maintenance", request) for request in requests][-1]

    _print(ask(where, change), as_json)


def _print(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.print_json(state)
        return
    held = {hold["machine"] for hold in state["holds"]}
    rows = [_row(hold["machine"], hold) for hold in state["holds"]]
    if state["global"] and EVERY_MACHINE not in held:
        rows.append(_row(EVERY_MACHINE, None))
    rows += [_row(machine, None) for machine in state["machines"] if machine not in held]
    screen.print_table(("machine", "since", "until", "by", "reason"), rows, "nothing is under maintenance")


def _row(machine: str, hold: dict[str, Any] | None) -> tuple[screen.Field, ...]:
    name = screen.visible(machine, words.machine_style(machine)) if machine else screen.visible("(all)", "bold yellow")
    if hold is None:
        return name, "", "", "conf.d", ""
    return name, screen.moment(hold["since"]), screen.moment(hold["until"]), hold["by"], hold["reason"]
