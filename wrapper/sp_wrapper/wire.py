"""The messages between a wrapper and the daemon, as frozen classes; `frames` writes and reads them. No IO.

Old wrappers stay in the field for years: add fields with defaults, never change what one means.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, TypeAlias, Union

import attrs

HEARTBEAT_S = 5.0
MAX_CHUNK = 64 * 1024  # bytes of output in one message
MAX_FRAME = 1024 * 1024  # bytes of one frame


class RemoteProtocolError(Exception):
    """The peer broke the protocol: close the connection, log it, go on."""


@attrs.frozen
class About:
    """Whom a message is about; every frame in both directions carries it."""

    job_name: str
    job_instance: str
    machine: str


@attrs.frozen
class Process:
    """One process of a command's tree. `state` is the letter of /proc/<pid>/stat: R, S, D, Z, T..."""

    pid: int
    name: str
    state: str = ""


@attrs.frozen
class Receipt:
    """What a kill did: every process that was signalled, those that are gone, those that are left."""

    signalled: tuple[Process, ...] = ()
    ended: tuple[Process, ...] = ()
    survived: tuple[Process, ...] = ()


@attrs.frozen
class Usage:
    """What the command used: seconds of CPU, and the largest resident set in bytes."""

    user_s: float = 0.0
    system_s: float = 0.0
    max_rss: int = 0


# --- wrapper to daemon ---------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Connect:
    """First frame of each connection. `sent` is how many bytes the command has written so far.

    `secret` is the wrapper's own, made when it claimed the run. The first that is shown counts from then on. `proof`,
    by the machine's own key, shows where that was, to a daemon that wants it.
    """

    TYPE: ClassVar[str] = "connect"
    version: str = ""
    token: str = attrs.field(default="", repr=False)
    secret: str = attrs.field(default="", repr=False)
    proof: str = attrs.field(default="", repr=False)
    sent: int | None = None  # None: a wrapper of 0.9.x, which knows no offsets
    attempt: int = 1
    wants_secrets: bool = False  # the command waits for the values that its order only names


@attrs.frozen(kw_only=True)
class Start:
    TYPE: ClassVar[str] = "start"
    pid: int
    version: str = ""
    started: datetime | None = None


@attrs.frozen(kw_only=True)
class Output:
    """A piece of what the command wrote. `offset` is its first byte's place in the whole output.

    `cut` counts bytes that stood before `offset` and had to be dropped, because the daemon was out of
    reach for longer than the output limit lasts.
    """

    TYPE: ClassVar[str] = "output"
    seq: int
    data: bytes
    stream: str = "stdout"
    offset: int | None = None  # None: a wrapper of 0.9.x
    cut: int = 0


@attrs.frozen(kw_only=True)
class Heartbeat:
    """Sign of life. `rss` in bytes and `cpu` in seconds are those of the command's whole tree."""

    TYPE: ClassVar[str] = "heartbeat"
    rss: int | None = None
    cpu: float | None = None
    paused: bool = False


@attrs.frozen(kw_only=True)
class SyncRequest:
    TYPE: ClassVar[str] = "sync_request"
    last_acked_seq: int
    next_seq: int


@attrs.frozen(kw_only=True)
class Complete:
    """The end. `outcome` is one of exited, timeout, killed, refused, error; `length` counts all output bytes."""

    TYPE: ClassVar[str] = "complete"
    retcode: int
    outcome: str = "exited"
    seq: int | None = None
    length: int | None = None
    error: str = ""
    receipt: Receipt | None = None
    rusage: Usage | None = None
    started: datetime | None = None
    ended: datetime | None = None


@attrs.frozen(kw_only=True)
class Killed:
    """The command's tree has been ended; `complete` follows after the last output."""

    TYPE: ClassVar[str] = "killed"
    receipt: Receipt = Receipt()


@attrs.frozen(kw_only=True)
class Log:
    """The wrapper's own event, kept beside the output and never inside it."""

    TYPE: ClassVar[str] = "log"
    text: str
    level: str = "info"


@attrs.frozen(kw_only=True)
class Failure:
    """The wrapper failed in a way that it wants known; the execution may still complete."""

    TYPE: ClassVar[str] = "error"
    error: str


# --- daemon to wrapper ---------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Ack:
    """`ack_type` is connect, start, output or complete. An ack of connect carries `offset`: the durable bytes."""

    TYPE: ClassVar[str] = "ack"
    ack_type: str
    seq: int | None = None
    offset: int | None = None


@attrs.frozen(kw_only=True)
class Nack:
    TYPE: ClassVar[str] = "nack"
    expected_seq: int
    received_seq: int
    nack_type: str = "out_of_order"


@attrs.frozen(kw_only=True)
class SyncResponse:
    TYPE: ClassVar[str] = "sync_response"
    last_seq: int


@attrs.frozen(kw_only=True)
class Kill:
    """End the whole tree: `signal` first, KILL after `grace` seconds. `reason` is user or timeout."""

    TYPE: ClassVar[str] = "kill"
    signal: str = "TERM"
    grace: float = 5.0
    reason: str = "user"


@attrs.frozen(kw_only=True)
class Signal:
    TYPE: ClassVar[str] = "signal"
    signal: str


@attrs.frozen(kw_only=True)
class Secrets:
    """The variables that a command waits for, by name. With `error` there are none to come, and nothing is to run.

    A message of its own, because reading them may take longer than a greeting may.
    """

    TYPE: ClassVar[str] = "secrets"
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    error: str = ""


@attrs.frozen(kw_only=True)
class Refusal:
    """`code` is JOB_NOT_FOUND, BAD_TOKEN or PROTOCOL; the daemon closes the connection after it."""

    TYPE: ClassVar[str] = "error"
    code: str
    message: str


FromWrapper: TypeAlias = Union[Connect, Start, Output, Heartbeat, SyncRequest, Complete, Killed, Log, Failure]
FromDaemon: TypeAlias = Union[Ack, Nack, SyncResponse, Kill, Signal, Secrets, Refusal]
