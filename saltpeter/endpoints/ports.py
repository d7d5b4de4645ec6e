"""Where the daemon listens, and what guards that: worked out, and refused, before anything is served."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio

from saltpeter.domain.document import SETTINGS_KEY
from saltpeter.domain.job import Config, Settings
from saltpeter.endpoints.http import Front
from saltpeter.endpoints.sockets import Listener, SecureListener, is_loopback, listen_tcp, listen_unix
from saltpeter.endpoints.strangers import MOST
from saltpeter.endpoints.tls import Certificate
from saltpeter.engine.people import TokenFile
from saltpeter.errors import ConfigError
from saltpeter.host import CONTROL_SOCKET

# A setting of these that cannot be read must not be taken for its default.
GUARDING_KEYS = (
    "require_tokens",
    "tls_certificate",
    "tls_key",
    "tls_ca",
    "api_ws",
    "api_ws_bind_addr",
    "machines_ws_bind_addr",
)
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  bound there, the wrappers of this host use loopback


@attrs.frozen(kw_only=True)
class Addresses:
    """Where a daemon can be reached."""

    control_socket: Path
    control_url: str | None  # None: no TCP port
    machines_url: str

    def __str__(self) -> str:
        control = " and ".join(filter(None, (self.control_url, str(self.control_socket))))
        return f"control at {control}, wrappers at {self.machines_url}"


@attrs.define(eq=False)
class Listening:
    """The ports, bound and not yet served: a second daemon finds out before it has changed anything."""

    machines: list[Listener]
    control: list[Listener]
    addresses: Addresses
    is_exposed: bool  # other hosts reach the control port, and nobody has said that this needs no guard

    async def serve(self, services: trio.Nursery, *, machines: Front, control: Front) -> None:
        """Let wrappers and clients in."""
        await services.start(machines.serve, self.machines)
        await services.start(control.serve, self.control)


@asynccontextmanager
async def listening(settings: Settings, tokens: TokenFile, tls: Certificate | None) -> AsyncIterator[Listening]:
    """Bind what `settings` say. Raises AddressInUse, and ConfigError where everybody could come in."""
    secured = "" if tls is None else "s"
    is_exposed = False
    control_url = None
    path = Path(settings.statedir) / CONTROL_SOCKET
    async with AsyncExitStack() as bound:
        machines = await listen_tcp(settings.machines_ws_bind_addr, settings.machines_ws_port)
        await _closed_at_the_end(bound, machines)
        control: list[Listener] = [await bound.enter_async_context(listen_unix(path, settings.socket_group))]
        if settings.api_ws:
            tcp = await listen_tcp(settings.api_ws_bind_addr, settings.api_ws_port)
            await _closed_at_the_end(bound, tcp)
            control += _secured(tcp, tls)
            if is_exposed := not settings.insecure and not all(is_loopback(each) for each in tcp):
                _refuse_unguarded(settings, tokens, is_secure=tls is not None)
            control_url = f"http{secured}://{_reachable(settings.api_ws_bind_addr)}:{_port(tcp)}/"
        machines_url = f"ws{secured}://{_reachable(settings.server_host)}:{_port(machines)}/"
        addresses = Addresses(control_socket=path, control_url=control_url, machines_url=machines_url)
        yield Listening(_secured(machines, tls), control, addresses, is_exposed)


async def _closed_at_the_end(stack: AsyncExitStack, listeners: Collection[trio.SocketListener]) -> None:
    for each in listeners:
        await stack.enter_async_context(each)


def _secured(listeners: list[trio.SocketListener], tls: Certificate | None) -> list[Listener]:
    if tls is None:
        return list(listeners)
    return [SecureListener(listener, tls.context) for listener in listeners]


def _refuse_unguarded(settings: Settings, tokens: TokenFile, *, is_secure: bool) -> None:
    """Raises ConfigError unless a control port that other hosts reach has TLS and asks for tokens."""
    missing = []
    if not is_secure:
        missing.append("TLS (`tls_certificate` and `tls_key` in saltpeter_config)")
    if tokens.current() is None and not settings.require_tokens:
        missing.append(f"tokens (`saltpeter token add NAME --role admin --statedir {settings.statedir}`)")
    if missing:
        raise ConfigError(
            f"api_ws_bind_addr: {settings.api_ws_bind_addr} lets other hosts control this daemon, and so run any "
            f"job on any machine. That needs {' and '.join(missing)}. Or listen at 127.0.0.1, or set `api_ws: false` "
            "and use the Unix socket. `insecure: true` in saltpeter_config serves it to everybody all the same"
        )


def certificate(config: Config) -> Certificate | None:
    """What the TCP ports show. Raises CertificateError, or ConfigError where it is in doubt what is meant."""
    for problem in config.problems:
        if problem.job == SETTINGS_KEY and problem.key in GUARDING_KEYS and problem.fatal:
            raise ConfigError(f"{problem}; nothing is served before that is right, since it says who may come in")
    file, key = config.settings.tls_certificate, config.settings.tls_key
    if file is None and key is None:
        return None
    if file is None or key is None:
        raise ConfigError("tls_certificate and tls_key go together in saltpeter_config: one of them is missing")
    return Certificate(Path(file), Path(key))


def most_strangers() -> int:
    """How many connections of unknown peers one port may hold: a quarter of the descriptors that we may have."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 4)


def _port(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


def _reachable(address: str) -> str:
    host = "127.0.0.1" if address in _EVERYWHERE else address
    return f"[{host}]" if ":" in host else host
