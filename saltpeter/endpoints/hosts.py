"""By which names a browser may call this daemon. No IO.

A page whose own name is made to lead to this host (DNS rebinding) shares our origin, but it sends that name as `Host`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection


def name_in(host: str) -> str:
    """The name or address in a `Host`, without the port, in small letters."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether `host` is an address, which no other page can have as its name, or one of our names."""
    name = name_in(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in {name_in(each) for each in names}
    return True


def own_names(hostname: str) -> tuple[str, ...]:
    """What this host, which calls itself `hostname`, may be called."""
    return (hostname, hostname.partition(".")[0])
