"""Secrets: read on this host when a run's first wrapper asks for them, and kept in memory only while the run lives."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import attrs
import trio

from saltpeter.domain.job import SecretSource
from saltpeter.errors import SecretError

VALUE_BYTES = 64 * 1024  # the longest value
TOTAL_BYTES = 128 * 1024  # of one job's names and values together: they travel in one message
WITHIN_S = 30.0  # for each source
KILL_S = 1.0

ReadSecrets: TypeAlias = Callable[[Mapping[str, SecretSource]], Awaitable[Mapping[str, str]]]
NONE: Mapping[str, SecretSource] = MappingProxyType({})


class _Unusable(Exception):
    """What is wrong with a source; goes on where its name ends."""


async def read_secrets(sources: Mapping[str, SecretSource], within_s: float = WITHIN_S) -> Mapping[str, str]:
    """The value of each variable. Raises SecretError, which names the variable and its source and no value."""
    values: dict[str, str] = {}
    for name, source in sources.items():
        try:
            values[name] = _text(await _value(source, within_s))
        except (OSError, _Unusable) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SecretError(f"secret_env.{name}: {_named(source)}: {why}") from None
    if (total := sum(len(name.encode()) + len(value.encode()) for name, value in values.items())) > TOTAL_BYTES:
        raise SecretError(f"secret_env: names and values take {total} bytes together; the most is {TOTAL_BYTES}")
    return values


@attrs.define(eq=False)
class Vault:
    """The secrets of one run. They are read once; after a failure, once more for each further attempt."""

    _sources: Mapping[str, SecretSource] = NONE
    _read: ReadSecrets = read_secrets
    _values: Mapping[str, str] | None = attrs.field(default=None, init=False, repr=False)
    _failure: str = attrs.field(default="", init=False)
    _failed_attempt: int = attrs.field(default=0, init=False)
    _one_by_one: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def open(self, attempt: int) -> Mapping[str, str]:
        """The values by name. Whoever asks while they are being read waits for the same. Raises SecretError."""
        async with self._one_by_one:
            if self._values is None and attempt > self._failed_attempt:
                try:
                    self._values = await self._read(self._sources)
                except SecretError as error:
                    self._failure, self._failed_attempt = str(error), attempt
        if self._values is None:
            raise SecretError(self._failure)
        return self._values

    def forget(self) -> None:
        """The run has ended."""
        self._values = None


def _named(source: SecretSource) -> str:
    """For everybody who sees how a run ended: a command may hold what is not for them all."""
    return f"the file {source.file}" if source.file is not None else "its command"


async def _value(source: SecretSource, within_s: float) -> bytes:
    """Raises OSError or _Unusable."""
    with trio.move_on_after(within_s):
        if source.file is not None:
            return await trio.to_thread.run_sync(_read_file, source.file, abandon_on_cancel=True)
        return await _run(source.command or "")
    raise _Unusable(f"took longer than {within_s:g} seconds")


def _text(data: bytes) -> str:
    """The value, without the newline that ends it. Raises _Unusable."""
    if len(data) > VALUE_BYTES:
        raise _Unusable(f"gives more than {VALUE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:  # which would quote it
        raise _Unusable("gives something that is not UTF-8") from None
    if "\0" in text:
        raise _Unusable("gives a NUL, which no variable can hold")
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _read_file(path: str) -> bytes:
    """Blocks. A byte more than is allowed at most. Raises OSError or _Unusable."""
    source = Path(path)
    if not stat.S_ISREG(source.stat().st_mode):  # opening a pipe could hold the thread for ever
        raise _Unusable("is no regular file")
    with source.open("rb") as file:
        return file.read(VALUE_BYTES + 1)


async def _run(command: str) -> bytes:
    """What `command` writes, a byte more than is allowed at most; its errors go nowhere, for they may quote it.

    Raises OSError or _Unusable.
    """
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101  asked for above
    code = None
    async with process.stdout:
        try:
            data = await _read_all(process.stdout)
            if len(data) <= VALUE_BYTES:
                code = await process.wait()
        finally:
            if code is None:
                await _end(process)
    if code:
        raise _Unusable(f"ended with the code {code}")
    return data


async def _read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while len(data) <= VALUE_BYTES and (more := await stream.receive_some()):
        data += more
    return data


async def _end(process: trio.Process) -> None:
    """End it and all that it started. As long as nobody has waited for it, its number is no other's."""
    os.killpg(process.pid, signal.SIGKILL)
    with trio.move_on_after(KILL_S, shield=True):
        await process.wait()
