"""What holds on this host where no file of conf.d says otherwise."""

from __future__ import annotations

import os
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from saltpeter.domain.config import Host

CONTROL_SOCKET = "control.sock"  # in the state directory
SOCKET_VARIABLE = "SALTPETER_SOCKET"

_LOCALTIME = "/etc/localtime"
_ZONEINFO = "zoneinfo/"


def host() -> Host:
    """The places for state and logs, which depend on the user, and the host's time zone."""
    if os.geteuid() == 0:
        return Host(statedir="/var/lib/saltpeter", logdir="/var/log/saltpeter", zone=local_zone())
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "saltpeter"
    return Host(statedir=str(state), logdir=str(state / "log"), zone=local_zone())


def control_socket() -> Path:
    """Where a daemon of this user listens, unless its statedir or SALTPETER_SOCKET says otherwise."""
    return Path(os.environ.get(SOCKET_VARIABLE) or Path(host().statedir) / CONTROL_SOCKET)


def local_zone() -> tzinfo:
    """The zone of TZ or of /etc/localtime; UTC when neither says one."""
    name = os.environ.get("TZ", "").lstrip(":") or _linked_zone()
    try:
        return ZoneInfo(name) if name else _copied_zone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _linked_zone() -> str:
    where = os.path.realpath(_LOCALTIME)
    return where.partition(_ZONEINFO)[2] if _ZONEINFO in where else ""


def _copied_zone() -> tzinfo:
    """/etc/localtime as a file of its own, as containers have it: its rules, though not its name."""
    with Path(_LOCALTIME).open("rb") as file:
        return ZoneInfo.from_file(file, key="localtime")
