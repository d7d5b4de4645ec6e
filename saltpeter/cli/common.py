"""What the commands share."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import trio
from exceptiongroup import BaseExceptionGroup, catch

from saltpeter.client import Client, connect
from saltpeter.errors import SaltpeterError
from saltpeter.host import SOCKET_VARIABLE, control_socket

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_UNUSABLE = 2  # as click's own for a command line that makes no sense


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
        sys.exit(130)
    if errors:
        fail("; ".join(_texts(errors[0])))


def _texts(group: BaseExceptionGroup[SaltpeterError]) -> Iterator[str]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _texts(error)
        else:
            yield str(error)


def fail(text: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(f"saltpeter: {text}", err=True)
    sys.exit(code)


def socket_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the daemon listens."""
    return click.option(
        "--socket",
        "where",
        metavar="PATH|URL",
        help=f"The daemon's control socket, or ws://host:port. [default: ${SOCKET_VARIABLE}, else {control_socket()}]",
    )(command)


def ask(where: str | None, conversation: Callable[[Client], Awaitable[T]]) -> T:
    """Hold `conversation` with the daemon. Errors of ours end the program."""

    async def converse() -> T:
        place: Path | str = control_socket() if where is None else where if "://" in where else Path(where)
        async with connect(place) as client:
            return await conversation(client)

    with plain_errors():
        return trio.run(converse)
    raise AssertionError("plain_errors lets nothing pass")
