"""What supervisor and reporter say to each other: small datagrams over a socket pair. No IO.

Facts are whole states, so that one may be lost when the next one follows.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping

from sp_wrapper.claim import Claim
from sp_wrapper.order import Order

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would delay the command
    from typing import TypeAlias, Union

    Request: TypeAlias = Union["Kill", "Signal", "Acked", "Secrets"]  # reporter to supervisor


MAX_REQUEST = 256 * 1024  # bytes; secrets are the longest


class Job(namedtuple("Job", "claim order supervisor pid started waiting", defaults=(False,))):
    """What a reporter starts from. `pid` is the command's, 0 when it was not started or could not be; `started` is
    in seconds since the epoch. `waiting`: the command waits for its secrets."""

    __slots__ = ()
    claim: Claim
    order: Order
    supervisor: int
    pid: int
    started: float
    waiting: bool


_Facts = namedtuple("_Facts", "length paused recorded waiting pid started", defaults=(0, False, False, False, 0, 0.0))


class Facts(_Facts):
    """Supervisor to reporter: bytes of output in the spool, whether the result has been written, and what may have
    changed of the Job. `pid` is 0, and `started` says nothing, while no command has been started."""

    __slots__ = ()
    length: int
    paused: bool
    recorded: bool
    waiting: bool
    pid: int
    started: float

    def encode(self) -> bytes:
        flags = f"{self.paused:d} {self.recorded:d} {self.waiting:d}"
        return f"{self.length} {flags} {self.pid} {self.started!r}".encode()

    @staticmethod
    def decode(data: bytes) -> Facts:
        *numbers, started = data.split()
        length, paused, recorded, waiting, pid = map(int, numbers)
        return Facts(length, bool(paused), bool(recorded), bool(waiting), pid, float(started))


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


class Secrets(namedtuple("Secrets", "env error")):
    """What the command waits for, by name; or `error`, why it is not to be started."""

    __slots__ = ()
    env: Mapping[str, str]
    error: str

    def __repr__(self) -> str:
        return f"Secrets(error={self.error!r})"  # the values belong into no log

    def encode(self) -> bytes:
        return "\0".join(
            ("secrets", self.error.replace("\0", " "), *(f"{name}={value}" for name, value in self.env.items()))
        ).encode()

    @staticmethod
    def decode(data: bytes) -> Secrets:
        _, error, *entries = data.decode().split("\0")
        return Secrets(dict(entry.split("=", 1) for entry in entries), error)


def encode_request(request: Request) -> bytes:
    if isinstance(request, Secrets):
        return request.encode()
    return " ".join((type(request).__name__.lower(), *map(repr, request))).encode()


def decode_request(data: bytes) -> Request:
    if data.startswith(b"secrets\0"):
        return Secrets.decode(data)
    verb, *numbers = data.decode().split()
    match verb:
        case "kill":
            return Kill(int(numbers[0]), float(numbers[1]))
        case "signal":
            return Signal(int(numbers[0]))
        case _:
            return Acked(int(numbers[0]))
