"""Who is a nuisance, by address: answered later, and written about less. No IO, and bounded memory."""

from __future__ import annotations

import ipaddress
import socket
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


LINES = 10  # about one network in a minute
MINUTE_S = 60.0


@attrs.define
class Lines:
    """What a log says of those who are refused, who could fill it. Times are those of trio's clock."""

    _minutes: OrderedDict[str, _Minute] = attrs.field(factory=OrderedDict, init=False)

    def allow(self, peer: str, at: float) -> int | None:
        """How many lines were left out since the last one about that network; None: leave this one out as well."""
        key = network_of(peer)
        minute = self._minutes.get(key)
        if minute is None or at - minute.began >= MINUTE_S:
            left_out = minute.left_out if minute else 0
            self._minutes.pop(key, None)
            self._minutes[key] = _Minute(at)
            if len(self._minutes) > REMEMBERED:
                self._minutes.popitem(last=False)
            return left_out
        minute.lines += 1
        if minute.lines <= LINES:
            return 0
        minute.left_out += 1
        return None


@attrs.define
class _Minute:
    began: float
    lines: int = 1
    left_out: int = 0


def network_of(peer: str) -> str:
    """The address in `<address>:<port>`; of IPv6 the network of 64 bits, all of which one customer has."""
    host = peer.rpartition(":")[0].strip("[]")
    if _is_ipv4(host):
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return peer
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def _is_ipv4(host: str) -> bool:
    """What `ipaddress` says as well, in a tenth of the time."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True
