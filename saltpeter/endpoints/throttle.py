"""Who has failed to log in, by address: each further failure is answered later. No IO, and bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

import attrs

REMEMBERED = 10_000  # addresses
FORGOTTEN_S = 600.0  # after the last failure
FREE = 3  # failures that are answered at once
LONGEST_S = 5.0


@attrs.define
class Throttle:
    """Times are those of trio's clock."""

    _failures: OrderedDict[str, tuple[int, float]] = attrs.field(factory=OrderedDict, init=False)

    def failed(self, peer: str, at: float) -> int:
        """How many failures in a row that makes."""
        key = network_of(peer)
        count, last = self._failures.pop(key, (0, at))
        count = 1 if at - last > FORGOTTEN_S else count + 1
        self._failures[key] = (count, at)
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
        return count


def delay_s(failures: int) -> float:
    """How long the answer to the so-manieth failure is held back."""
    return 0.0 if failures <= FREE else min(0.25 * 2.0 ** min(failures - FREE, 10), LONGEST_S)


def is_worth_a_record(failures: int) -> bool:
    """1, 2, 4, 8...: so that somebody who tries for days fills no disk."""
    return failures & (failures - 1) == 0


def network_of(peer: str) -> str:
    """The address in `<address>:<port>`; of IPv6 the network of 64 bits, all of which one customer has."""
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)
