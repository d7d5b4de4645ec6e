"""Starting processes on this host that may outlive the daemon, and reading what they wrote."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs
import trio

OUTPUT_LIMIT = 1024 * 1024  # bytes kept of what a process wrote, as much as Salt carries by default
CUT_TEXT = b"\n[SALTPETER: %d bytes left out]\n"


class CannotStart(Exception):
    """The process cannot be started as asked; the text is for the operator."""


@attrs.frozen
class Account:
    """A user of this host, whom a command is to run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def of(cls, name: str) -> Account:
        """Raises CannotStart when there is no such user, or when this process may not become it."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise CannotStart(f"user {name!r} does not exist on this host") from None
        if os.geteuid() not in (0, entry.pw_uid):
            raise CannotStart(f"only root can run a command as {name!r}")
        groups = os.getgrouplist(name, entry.pw_gid)
        return cls(name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir)

    def env(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def options(self) -> dict[str, Any]:
        """What Popen needs to become this user."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}


async def start(
    argv: Sequence[str],
    output: IO[bytes],
    env: Mapping[str, str],
    cwd: str | None = None,
    account: Account | None = None,
) -> trio.Process:
    """Start `argv` in a session of its own, with `env` added to this process's environment.

    It writes to a file and not to a pipe, so that it neither blocks nor dies when nobody reads any more, and
    its end does not wait for children that hold the pipe. Raises CannotStart.
    """
    home = account.home if account is not None else str(Path.home())
    try:
        return await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output.fileno(),
            stderr=subprocess.STDOUT,
            env={**os.environ, **(account.env() if account is not None else {}), **env},
            cwd=cwd or (home if os.access(home, os.X_OK) else "/"),
            start_new_session=True,
            **(account.options() if account is not None else {}),
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise CannotStart(str(exc)) from exc


def code(process: trio.Process) -> int:
    """The exit code of a process that has ended, as shells give it: 128+N after signal N."""
    returned = process.returncode
    assert returned is not None  # noqa: S101  the caller's part
    return 128 - returned if returned < 0 else returned


def read(output: IO[bytes], limit: int = OUTPUT_LIMIT) -> str:
    """What was written to `output`; of more than `limit` bytes, the first and the last half."""
    length = output.seek(0, os.SEEK_END)
    output.seek(0)
    if length <= limit:
        data = output.read()
    else:
        first = output.read(limit // 2)
        output.seek(-(limit // 2), os.SEEK_END)
        data = first + CUT_TEXT % (length - limit // 2 * 2) + output.read()
    return data.decode(errors="replace")
