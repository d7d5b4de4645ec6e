"""What supervisor and reporter say to each other: small datagrams over a socket pair. No IO.

Facts are whole states, so that one may be lost when the next one follows.
"""

from __future__ import annotations

from collections import namedtuple

from sp_wrapper.claim import Claim
from sp_wrapper.order import Order


class Job(namedtuple("Job", "claim order supervisor pid started")):
    """What a reporter starts from. `pid` is the command's, 0 when it could not be started; `started` is in
    seconds since the epoch."""

    __slots__ = ()
    claim: Claim
    order: Order
    supervisor: int
    pid: int
    started: float


class Facts(namedtuple("Facts", "length paused recorded", defaults=(0, False, False))):
    """Supervisor to reporter: bytes of output in the spool, and whether the result has been written."""

    __slots__ = ()
    length: int
    paused: bool
    recorded: bool

    def encode(self) -> bytes:
        return f"{self.length} {self.paused:d} {self.recorded:d}".encode()

    @staticmethod
    def decode(data: bytes) -> Facts:
        length, paused, recorded = map(int, data.split())
        return Facts(length, bool(paused), bool(recorded))


class Kill(namedtuple("Kill", "signum grace_s")):
    __slots__ = ()
    signum: int
    grace_s: float


class Signal(namedtuple("Signal", "signum")):
    __slots__ = ()
    signum: int


class Acked(namedtuple("Acked", "offset")):
    """The daemon holds every byte below `offset`."""

    __slots__ = ()
    offset: int


def encode_request(request: Kill | Signal | Acked) -> bytes:
    return " ".join((type(request).__name__.lower(), *map(repr, request))).encode()


def decode_request(data: bytes) -> Kill | Signal | Acked:
    verb, *numbers = data.decode().split()
    match verb:
        case "kill":
            return Kill(int(numbers[0]), float(numbers[1]))
        case "signal":
            return Signal(int(numbers[0]))
        case _:
            return Acked(int(numbers[0]))
