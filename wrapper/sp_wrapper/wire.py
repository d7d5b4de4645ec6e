"""The messages between a wrapper and the daemon: JSON text frames, as frozen classes. No IO.

Old wrappers stay in the field for years: add fields with defaults, never change what one means.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, ClassVar, TypeAlias, Union

import attrs

from sp_wrapper.codes import KILLED, REFUSED, TIMED_OUT

__all__ = ["KILLED", "REFUSED", "TIMED_OUT", "decode_from_daemon", "decode_from_wrapper", "encode"]

HEARTBEAT_S = 5.0
MAX_CHUNK = 64 * 1024  # bytes of output in one message
MAX_FRAME = 1024 * 1024  # characters of one frame


class ProtocolError(Exception):
    """The conversation went wrong; see the two subclasses for whose fault it is."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol: close the connection, log it, go on."""


class LocalProtocolError(ProtocolError):
    """We broke the protocol: a bug here."""


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

    `secret` is the wrapper's own, made when it claimed the run. The first that is shown counts from then on.
    """

    TYPE: ClassVar[str] = "connect"
    version: str = ""
    token: str = attrs.field(default="", repr=False)
    secret: str = attrs.field(default="", repr=False)
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


# --- text to message and back --------------------------------------------------------------------


@attrs.frozen
class Frame:
    """A decoded frame: whom it is about, when it was sent (aware), and what it says."""

    about: About
    at: datetime
    message: Any


def decode_from_wrapper(text: str | bytes) -> Frame:
    """Read a frame that a wrapper sent. Raises RemoteProtocolError and nothing else."""
    return _decode(text, _FROM_WRAPPER)


def decode_from_daemon(text: str | bytes) -> Frame:
    """Read a frame that the daemon sent. Raises RemoteProtocolError and nothing else."""
    return _decode(text, _FROM_DAEMON)


def encode(about: About, message: FromWrapper | FromDaemon, at: datetime) -> str:
    """Write a frame. `at` is aware."""
    head: dict[str, Any] = {
        "type": message.TYPE,
        "job_name": about.job_name,
        "job_instance": about.job_instance,
        "machine": about.machine,
        "timestamp": at.isoformat(),
    }
    if isinstance(message, Output):
        return json.dumps(head | _output_fields(message))
    fields = attrs.asdict(message, filter=lambda _, value: value is not None, value_serializer=_plain)
    return json.dumps(head | fields)


def _output_fields(message: Output) -> dict[str, Any]:
    fields: dict[str, Any] = {"stream": message.stream, "seq": message.seq}
    if message.offset is not None:
        fields["offset"] = message.offset
    if message.cut:
        fields["cut"] = message.cut
    try:
        fields["data"] = message.data.decode()
    except UnicodeDecodeError:
        fields["data_b64"] = base64.b64encode(message.data).decode()
    return fields


def _plain(_owner: object, _field: object, value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _decode(text: str | bytes, readers: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> Frame:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError("the frame is not JSON") from exc
    if not isinstance(fields, dict):
        raise RemoteProtocolError("the frame is not a JSON object")
    kind = fields.get("type")
    reader = readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise RemoteProtocolError(f"unknown message type {str(kind)[:40]!r}")
    about = About(_text(fields, "job_name"), _text(fields, "job_instance"), _text(fields, "machine"))
    return Frame(about, _instant(fields, "timestamp"), reader(fields))


def _text(fields: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{key} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise RemoteProtocolError(f"{key} holds half a surrogate pair") from exc
    return value


def _whole(fields: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = fields.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**53) < value < 2**53:
        raise RemoteProtocolError(f"{key} must be a whole number")
    return value


def _whole_or_none(fields: Mapping[str, Any], key: str) -> int | None:
    return None if fields.get(key) is None else _whole(fields, key)


def _count(fields: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = _whole(fields, key, default)
    if value < 0:
        raise RemoteProtocolError(f"{key} must not be negative")
    return value


def _count_or_none(fields: Mapping[str, Any], key: str) -> int | None:
    return None if fields.get(key) is None else _count(fields, key)


def _number(fields: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = fields.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 2**53:
        raise RemoteProtocolError(f"{key} must be a number")  # also for NaN, which is not less than anything
    return float(value)


def _number_or_none(fields: Mapping[str, Any], key: str) -> float | None:
    return None if fields.get(key) is None else _number(fields, key)


def _instant(fields: Mapping[str, Any], key: str) -> datetime:
    text = _text(fields, key)
    try:
        # Python 3.10 does not know the Z
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError) as exc:
        raise RemoteProtocolError(f"{key} must be an ISO 8601 instant") from exc


def _instant_or_none(fields: Mapping[str, Any], key: str) -> datetime | None:
    return None if fields.get(key) is None else _instant(fields, key)


def _object_or_none(fields: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, dict):
        raise RemoteProtocolError(f"{key} must be an object")
    return value


def _variables(fields: Mapping[str, Any], key: str) -> Mapping[str, str]:
    values = _object_or_none(fields, key) or {}
    for name in values:
        if not name.isidentifier() or "\0" in _text(values, name):
            raise RemoteProtocolError(f"{key} must be names of variables with text that holds no NUL")
    return values


def _data(fields: Mapping[str, Any]) -> bytes:
    if "data_b64" not in fields:
        return _text(fields, "data").encode()
    try:
        return base64.b64decode(_text(fields, "data_b64"), validate=True)
    except ValueError as exc:
        raise RemoteProtocolError("data_b64 is not base64") from exc


def _processes(fields: Mapping[str, Any], key: str) -> tuple[Process, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RemoteProtocolError(f"{key} must be a list of objects")
    return tuple(Process(_whole(item, "pid"), _text(item, "name", ""), _text(item, "state", "")) for item in value)


def _receipt(fields: Mapping[str, Any]) -> Receipt | None:
    value = _object_or_none(fields, "receipt")
    if value is None:
        return None
    return Receipt(_processes(value, "signalled"), _processes(value, "ended"), _processes(value, "survived"))


def _usage(fields: Mapping[str, Any]) -> Usage | None:
    value = _object_or_none(fields, "rusage")
    if value is None:
        return None
    return Usage(_number(value, "user_s", 0.0), _number(value, "system_s", 0.0), _count(value, "max_rss", 0))


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise RemoteProtocolError(f"{key} must be true or false")
    return value


_FROM_WRAPPER: Mapping[str, Callable[[Mapping[str, Any]], FromWrapper]] = {
    "connect": lambda f: Connect(
        version=_text(f, "version", ""),
        token=_text(f, "token", ""),
        secret=_text(f, "secret", ""),
        sent=_count_or_none(f, "sent"),
        attempt=_count(f, "attempt", 1),
        wants_secrets=_flag(f, "wants_secrets"),
    ),
    "start": lambda f: Start(
        pid=_count(f, "pid"), version=_text(f, "version", ""), started=_instant_or_none(f, "started")
    ),
    "output": lambda f: Output(
        seq=_count(f, "seq"),
        data=_data(f),
        stream=_text(f, "stream", "stdout"),
        offset=_count_or_none(f, "offset"),
        cut=_count(f, "cut", 0),
    ),
    "heartbeat": lambda f: Heartbeat(
        rss=_count_or_none(f, "rss"), cpu=_number_or_none(f, "cpu"), paused=_flag(f, "paused")
    ),
    "sync_request": lambda f: SyncRequest(last_acked_seq=_whole(f, "last_acked_seq"), next_seq=_whole(f, "next_seq")),
    "complete": lambda f: Complete(
        retcode=_whole(f, "retcode"),
        outcome=_text(f, "outcome", "exited"),
        seq=_whole_or_none(f, "seq"),
        length=_count_or_none(f, "length"),
        error=_text(f, "error", ""),
        receipt=_receipt(f),
        rusage=_usage(f),
        started=_instant_or_none(f, "started"),
        ended=_instant_or_none(f, "ended"),
    ),
    "killed": lambda f: Killed(receipt=_receipt(f) or Receipt()),
    "log": lambda f: Log(text=_text(f, "text"), level=_text(f, "level", "info")),
    "error": lambda f: Failure(error=_text(f, "error")),
}

_FROM_DAEMON: Mapping[str, Callable[[Mapping[str, Any]], FromDaemon]] = {
    "ack": lambda f: Ack(
        ack_type=_text(f, "ack_type"), seq=_whole_or_none(f, "seq"), offset=_count_or_none(f, "offset")
    ),
    "nack": lambda f: Nack(
        expected_seq=_whole(f, "expected_seq"),
        received_seq=_whole(f, "received_seq"),
        nack_type=_text(f, "nack_type", "out_of_order"),
    ),
    "sync_response": lambda f: SyncResponse(last_seq=_whole(f, "last_seq")),
    "kill": lambda f: Kill(
        signal=_text(f, "signal", "TERM"), grace=_number(f, "grace", 5.0), reason=_text(f, "reason", "user")
    ),
    "signal": lambda f: Signal(signal=_text(f, "signal")),
    "secrets": lambda f: Secrets(env=_variables(f, "env"), error=_text(f, "error", "")),
    "error": lambda f: Refusal(code=_text(f, "code"), message=_text(f, "message", "")),
}
