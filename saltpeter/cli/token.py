"""saltpeter token"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click

from saltpeter.cli import screen
from saltpeter.cli.common import json_option, plain_errors
from saltpeter.cli.store import state_directory, statedir_option
from saltpeter.domain.access import GIVEN_OUT, Role
from saltpeter.engine import audit, people
from saltpeter.engine.clock import now

name_argument = click.argument("name")


@click.group()
def token() -> None:
    """Who may control the daemon over TCP, and how far. Works with a daemon and without.

    Once there is a token, everybody who comes over TCP has to show one; over the Unix socket nobody has to.

    \b
    saltpeter token add alice --role operator
    saltpeter token list
    saltpeter token revoke alice
    """


@token.command()
@name_argument
@click.option(
    "--role",
    type=click.Choice([role.value for role in GIVEN_OUT]),
    required=True,
    help="viewer sees everything, operator also runs and kills jobs, admin also reads the audit.",
)
@json_option
@statedir_option
def add(name: str, role: str, as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Make a token called NAME, and print it. It cannot be shown again.

    It goes where the command line looks for it (SALTPETER_TOKEN_FILE), into the login of the web page, or into the
    header `Authorization: Bearer`.

    \b
    saltpeter token add alice --role operator
    saltpeter token add prometheus --role viewer > /etc/prometheus/saltpeter.token
    """
    with plain_errors():
        made = people.add(_file(config, statedir), name, Role(role), by=_who(), at=now())
        _note(config, statedir, "token add", {"name": name, "role": role})
    if as_json:
        screen.print_json({"name": name, "role": role, "token": made})
    else:
        click.echo(made)
        screen.remark(f"the token of {name} ({role}): keep it now, it cannot be shown again")


@token.command("list")
@json_option
@statedir_option
def list_(as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Say which tokens there are.

    \b
    saltpeter token list
    """
    with plain_errors():
        known = people.load(_file(config, statedir))
    listed = [
        {"name": each.name, "role": each.role.value, "created": each.created_at.isoformat(), "by": each.by}
        for each in known or ()
    ]
    if as_json:
        screen.print_json(listed)
        return
    rows = [(each["name"], each["role"], screen.moment(each["created"]), each["by"]) for each in listed]
    asked = "there are no tokens: over TCP nobody is let in" if known is not None else "no token was ever made"
    screen.print_table(("name", "role", "created", "by"), rows, asked)


@token.command()
@name_argument
@json_option
@statedir_option
def revoke(name: str, as_json: bool, config: Path | None, statedir: Path | None) -> None:
    """Make the token called NAME worthless. Who is connected by it is cut off within seconds.

    \b
    saltpeter token revoke alice
    """
    with plain_errors():
        people.revoke(_file(config, statedir), name)
        _note(config, statedir, "token revoke", {"name": name})
    if as_json:
        screen.print_json({"name": name, "revoked": True})
    else:
        screen.say(f"the token of {name} is worthless now")


def _file(config: Path | None, statedir: Path | None) -> Path:
    return state_directory(config, statedir) / people.TOKENS_FILE


def _note(config: Path | None, statedir: Path | None, did: str, what: dict[str, str]) -> None:
    entry = audit.Entry(at=now(), who=_who(), peer=_who(), did=did, what=what, result="done")
    audit.append(state_directory(config, statedir) / audit.AUDIT_FILE, entry)


def _who() -> str:
    """As the Unix socket would call them."""
    try:
        return f"unix:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"unix:{os.getuid()}"
