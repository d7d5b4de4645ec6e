"""Where the endpoints listen: TCP, and a Unix socket whose file mode is the credential."""

from __future__ import annotations

import fcntl
import grp
import ipaddress
import logging
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeAlias, Union

import attrs
import trio

from saltpeter.errors import SaltpeterError
from saltpeter.logs import fields

BACKLOG = 1024
RETRY_S = 0.1  # after a connection could not be accepted: most often too many files are open

log = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class SecureListener(trio.abc.Listener[trio.SSLStream[trio.SocketStream]]):
    """A listener whose connections are by TLS; each asks anew what to show."""

    listener: trio.SocketListener
    context: Callable[[], ssl.SSLContext]

    async def accept(self) -> trio.SSLStream[trio.SocketStream]:
        stream = await self.listener.accept()
        return trio.SSLStream(stream, self.context(), server_side=True, https_compatible=True)

    async def aclose(self) -> None:
        await self.listener.aclose()


Listener: TypeAlias = Union[trio.SocketListener, SecureListener]


async def accept_each(
    listener: trio.abc.Listener[trio.abc.Stream], welcome: Callable[[trio.abc.Stream], None]
) -> NoReturn:
    """Call `welcome` with every connection; it is theirs to close. When none can be accepted, that is said once, and
    those that come wait until it can be again.
    """
    failing = False
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as exc:
                if not failing:
                    log.error("Cannot accept connections: %s", exc, extra=fields("listener.failed", error=str(exc)))
                failing = True
                await trio.sleep(RETRY_S)
            else:
                failing = False
                welcome(stream)


class AddressInUse(SaltpeterError):
    """The place to listen at is taken, or cannot be had."""


async def listen_tcp(host: str, port: int) -> list[trio.SocketListener]:
    """Listen at every address of `host`; port 0 takes a free one. Raises AddressInUse."""
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as exc:
        raise AddressInUse(f"cannot listen at {host}:{port}: {exc.strerror or exc}") from exc


@asynccontextmanager
async def listen_unix(path: Path, group: str | None = None) -> AsyncIterator[trio.SocketListener]:
    """Listen at `path`, for its owner only, or for a `group` too; the socket goes when the block ends.

    A socket that a dead daemon left behind is replaced; that of a living one is not: AddressInUse.
    """
    with _held(path.with_name(path.name + ".lock"), path), _bound(path, group) as sock:
        async with trio.SocketListener(trio.socket.from_stdlib_socket(sock)) as listener:
            yield listener


@contextmanager
def _held(lock: Path, path: Path) -> Iterator[None]:
    """Hold `lock`, which the kernel lets go of when its holder dies: nobody can be mistaken about who lives."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise AddressInUse(f"cannot listen at {path}: {lock}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AddressInUse(f"another saltpeter is listening at {path}") from exc
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _bound(path: Path, group: str | None) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _clear(path)
            sock.bind(os.fspath(path))
            path.chmod(0o600)  # before listen(): until then nobody can connect
            if group is not None:
                _open_to(path, group)
            sock.listen(BACKLOG)
        except OSError as exc:
            raise AddressInUse(f"cannot listen at {path}: {exc.strerror or exc}") from exc
        try:
            yield sock
        finally:
            path.unlink(missing_ok=True)


def _open_to(path: Path, group: str) -> None:
    """Let the members of `group` connect: through the directory too, of whose other files they can open none."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise AddressInUse(f"socket_group: there is no group {group} on this host") from exc
    try:
        os.chown(path.parent, -1, gid)
        path.parent.chmod(0o710)
        os.chown(path, -1, gid)
        path.chmod(0o660)
    except PermissionError as exc:
        raise AddressInUse(f"socket_group: the daemon's user must be root or a member of {group}") from exc


def is_loopback(listener: trio.SocketListener) -> bool:
    """Whether only this host can connect."""
    return ipaddress.ip_address(listener.socket.getsockname()[0].partition("%")[0]).is_loopback


def _clear(path: Path) -> None:
    """Remove a socket that was left behind, and nothing but a socket."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} is not a socket")
        path.unlink()
