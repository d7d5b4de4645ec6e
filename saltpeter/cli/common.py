"""What the commands share."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import trio
from exceptiongroup import BaseExceptionGroup, catch

from saltpeter.cli.overview import overview
from saltpeter.client import Access, Client, ConnectionLost, DaemonUnreachable, connect, host_and_port
from saltpeter.domain.moments import FORMS, MomentError, moment
from saltpeter.engine.clock import now
from saltpeter.errors import SaltpeterError
from saltpeter.host import SOCKET_VARIABLE, control_socket, local_zone
from saltpeter.logs import escape

T = TypeVar("T")

TOKEN_VARIABLE = "SALTPETER_TOKEN"  # noqa: S105  the variable's name
COMPLETE_S = 1.0  # a shell's user does not wait longer
_PLAIN = re.compile(r"\w[\w.:@%+=/-]*")  # bash puts a completion into its line without quoting it

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3
EXIT_NO_TARGETS = 4
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as shells say of programs that a closed pipe ends
EXIT_KILLED = 143


class AccessError(SaltpeterError):
    """There is no token where it was said to be."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """An error of ours, or Ctrl-C, ends the program with a sentence, not with a traceback.

    Either may come in a group, as whatever leaves a nursery does.
    """
    errors: list[BaseExceptionGroup[SaltpeterError]] = []
    interrupts: list[BaseExceptionGroup[KeyboardInterrupt]] = []
    with catch({SaltpeterError: errors.append, KeyboardInterrupt: interrupts.append}):
        yield
    if interrupts:
        sys.exit(EXIT_INTERRUPTED)
    if errors:
        each = list(_single(errors[0]))
        lost = all(isinstance(error, (DaemonUnreachable, ConnectionLost)) for error in each)
        fail("; ".join(dict.fromkeys(map(str, each))), EXIT_UNREACHABLE if lost else EXIT_FAILED)


@contextmanager
def printing() -> Iterator[None]:
    """Where stdout takes no more, the program ends: without a word where nobody reads any more, else saying why.

    What its encoding has no character for is printed as an escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except OSError as error:
        if _takes_more():
            raise  # it is about something else
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # for what is flushed at the end
        if error.errno == errno.EPIPE:
            sys.exit(EXIT_UNREAD)
        fail(f"stdout cannot be written: {error.strerror}")


def _takes_more() -> bool:
    """Whether stdout does, and somebody is there to read it."""
    try:
        print(end="", flush=True)  # with what it could not write before
    except OSError:
        return False
    look = select.poll()
    look.register(sys.stdout, 0)
    return not look.poll(0)


def _single(group: BaseExceptionGroup[SaltpeterError]) -> Iterator[SaltpeterError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _single(error)
        else:
            yield error


def fail(text: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(f"saltpeter: {escape(text)}", err=True)
    sys.exit(code)


def _kept(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    context.meta[f"saltpeter.{parameter.name}"] = value


def _file_option(name: str, variable: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A file that opens the daemon's door; `access` finds it in the context, and the command need not know."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    return click.option(name, type=file, metavar="FILE", envvar=variable, expose_value=False, callback=_kept, help=text)


_TOKEN_OPTION = _file_option(
    "--token-file",
    "SALTPETER_TOKEN_FILE",
    f"Holds the token to show to a URL. [default: $SALTPETER_TOKEN_FILE, else ${TOKEN_VARIABLE} itself]",
)
_CA_OPTION = _file_option(
    "--ca",
    "SALTPETER_CA",
    "Certificates to trust behind a URL of wss://. [default: $SALTPETER_CA, else those of this host]",
)


def access(context: click.Context) -> Access:
    """What the options and variables say. Raises AccessError."""
    meta = context.meta
    token, file = os.environ.get(TOKEN_VARIABLE, ""), meta.get("saltpeter.token_file")
    try:
        return Access(file.read_text().strip() if file else token.strip(), meta.get("saltpeter.ca"))
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"the token cannot be read: {error}") from error


def _checked_place(_context: click.Context, _parameter: click.Parameter, where: str | None) -> str | None:
    if where is not None and "://" in where:
        try:
            host_and_port(where)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return where


def daemon_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Where the daemon listens, and what opens its door."""
    where = click.option("--socket", "--url", "where", metavar="PATH|URL", callback=_checked_place, help=help)
    return lambda command: where(_TOKEN_OPTION(_CA_OPTION(command)))


socket_option = daemon_option(
    f"The daemon's control socket, or ws://host:port. [default: ${SOCKET_VARIABLE}, else {control_socket()}]"
)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """For programs that read what a command says."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def as_moment(*, ahead: bool = False) -> Callable[..., Any]:
    """The callback of an option or argument that takes a time as people write it, in the zone of this host.

    `ahead`: a bare `2h` lies before us, not behind.
    """

    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
        try:
            return None if value is None else moment(value, now(), local_zone(), ahead=ahead)
        except MomentError as error:
            raise click.BadParameter(str(error)) from error

    return read


TIMES = f"A TIME is one of {FORMS}."


def complete_jobs(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The names of jobs, for the shell: as far as a daemon answers at once, and a shell reads them as they are."""

    async def look() -> list[str]:
        with trio.move_on_after(COMPLETE_S):
            async with connect(_place(context.params.get("where")), access(context)) as client:
                names = (await overview(client)).crons
                return [name for name in names if name.startswith(begun) and _PLAIN.fullmatch(name)]
        return []

    try:
        return sorted(trio.run(look))
    except SaltpeterError:
        return []


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("job", shell_complete=complete_jobs)(command)


def ask(where: str | None, conversation: Callable[[Client], Awaitable[T]], *, listen: bool = False) -> T:
    """Hold `conversation` with the daemon. Errors of ours end the program.

    With `listen` the conversation itself says hello; else only what it asks for is answered.
    """

    async def converse() -> T:
        async with connect(_place(where), access(click.get_current_context())) as client:
            if not listen:
                await client.hello(listen=False)
            return await conversation(client)

    with plain_errors():
        return trio.run(converse)
    raise AssertionError("plain_errors lets nothing pass")


def _place(where: str | None) -> Path | str:
    return control_socket() if where is None else where if "://" in where else Path(where)


async def told(client: Client, kind: str) -> dict[str, Any]:
    """The next message of that kind."""
    async for message in client:
        if message["type"] == kind:
            return message
    raise AssertionError("a client's messages have no end")
