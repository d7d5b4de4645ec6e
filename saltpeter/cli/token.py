"""saltpeter token"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from saltpeter.cli import screen
from saltpeter.cli.common import json_option, plain_errors
from saltpeter.cli.store import state_directory, statedir_option
from saltpeter.domain.access import GIVEN_OUT, Credential, Role
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
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Only for jobs of this group, which is their file's name without .yaml; may be given several times.",
)
@json_option
@statedir_option
def add(
    *, name: str, role: str, groups: tuple[str, ...], as_json: bool, config: Path | None, statedir: Path | None
) -> None:
    """Make a token called NAME, and print it. It cannot be shown again.

    It goes where the command line looks for it (SALTPETER_TOKEN_FILE), into the login of the web page, or into the
    header `Authorization: Bearer`.

    \b
    saltpeter token add alice --role operator
    saltpeter token add prometheus --role viewer > /etc/prometheus/saltpeter.token
    saltpeter token add bob --role operator --group web --group shop
    """
    told = {"name": name, "role": role, "groups": sorted(groups) or None}
    with plain_errors():
        made = people.add(_file(config, statedir), name, Role(role), groups, by=_who(), at=now())
        _note(config, statedir, "token add", {key: value for key, value in told.items() if value is not None})
    if as_json:
        screen.print_json({**told, "token": made})
    else:
        click.echo(made)
        limit = f" of {_named(groups)}" if groups else ""
        screen.remark(f"the token of {name} ({role}{limit}): keep it now, it cannot be shown again")


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
    if as_json:
        screen.print_json([_as_dict(each) for each in known or ()])
        return
    rows = [
        (each.name, each.role.value, screen.moment(each.created_at.isoformat()), each.by, _named(each.groups or ()))
        for each in known or ()
    ]
    asked = "there are no tokens: over TCP nobody is let in" if known is not None else "no token was ever made"
    screen.print_table(("name", "role", "created", "by", "groups"), rows, asked)


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


def _as_dict(credential: Credential) -> dict[str, Any]:
    return {
        "name": credential.name,
        "role": credential.role.value,
        "groups": None if credential.groups is None else sorted(credential.groups),
        "created": credential.created_at.isoformat(),
        "by": credential.by,
    }


def _named(groups: Iterable[str]) -> str:
    return ", ".join(sorted(groups))


def _note(config: Path | None, statedir: Path | None, did: str, what: dict[str, Any]) -> None:
    entry = audit.Entry(at=now(), who=_who(), peer=_who(), did=did, what=what, result="done")
    audit.append(state_directory(config, statedir) / audit.AUDIT_FILE, entry)


def _who() -> str:
    """As the Unix socket would call them."""
    try:
        return f"unix:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"unix:{os.getuid()}"
