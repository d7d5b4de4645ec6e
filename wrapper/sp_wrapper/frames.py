"""Text frames to messages and back: JSON of which nobody past this module sees a dict. No IO."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, get_args

import attrs

from sp_wrapper import wire
from sp_wrapper.wire import RemoteProtocolError


@attrs.frozen
class Frame:
    """A decoded frame: whom it is about, when it was sent (aware), and what it says."""

    about: wire.About
    at: datetime
    message: Any


def decode_from_wrapper(text: str | bytes, loads: Callable[[str | bytes], Any] = json.loads) -> Frame:
    """Read a frame that a wrapper sent; `loads` reads JSON. Raises RemoteProtocolError and nothing else."""
    return _decode(text, loads, _FROM_WRAPPER)


def decode_from_daemon(text: str | bytes) -> Frame:
    """Read a frame that the daemon sent. Raises RemoteProtocolError and nothing else."""
    return _decode(text, json.loads, _FROM_DAEMON)


def encode(
    about: wire.About,
    message: wire.FromWrapper | wire.FromDaemon,
    at: datetime,
    dumps: Callable[[dict[str, Any]], str] = json.dumps,
) -> str:
    """Write a frame; `dumps` writes JSON. `at` is aware."""
    head: dict[str, Any] = {
        "type": message.TYPE,
        "job_name": about.job_name,
        "job_instance": about.job_instance,
        "machine": about.machine,
        "timestamp": at.isoformat(),
    }
    if isinstance(message, wire.Output):
        return dumps(head | _output_fields(message))
    return dumps(head | _fields(message))


def _fields(message: wire.FromWrapper | wire.FromDaemon) -> dict[str, Any]:
    """Shallow, where nothing is nested: that is most messages, and many."""
    values = ((name, getattr(message, name)) for name in _NAMES[type(message)])
    return {name: _plain(value) for name, value in values if value is not None}


def _output_fields(message: wire.Output) -> dict[str, Any]:
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


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return attrs.asdict(value) if isinstance(value, (wire.Receipt, wire.Usage)) else value


def _decode(
    text: str | bytes,
    loads: Callable[[str | bytes], Any],
    readers: Mapping[str, Callable[[Mapping[str, Any]], Any]],
) -> Frame:
    try:
        fields = loads(text)
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError("the frame is not JSON") from exc
    if not isinstance(fields, dict):
        raise RemoteProtocolError("the frame is not a JSON object")
    kind = fields.get("type")
    reader = readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise RemoteProtocolError(f"unknown message type {str(kind)[:40]!r}")
    about = wire.About(_text(fields, "job_name"), _text(fields, "job_instance"), _text(fields, "machine"))
    return Frame(about, _instant(fields, "timestamp"), reader(fields))


def _text(fields: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{key} must be a string")
    if not value.isascii():
        _encode(key, value)
    return value


def _encode(key: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise RemoteProtocolError(f"{key} holds half a surrogate pair") from exc


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
        value = fields.get("data")
        if not isinstance(value, str):
            raise RemoteProtocolError("data must be a string")
        return _encode("data", value)
    try:
        return base64.b64decode(_text(fields, "data_b64"), validate=True)
    except ValueError as exc:
        raise RemoteProtocolError("data_b64 is not base64") from exc


def _processes(fields: Mapping[str, Any], key: str) -> tuple[wire.Process, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RemoteProtocolError(f"{key} must be a list of objects")
    return tuple(wire.Process(_whole(item, "pid"), _text(item, "name", ""), _text(item, "state", "")) for item in value)


def _receipt(fields: Mapping[str, Any]) -> wire.Receipt | None:
    value = _object_or_none(fields, "receipt")
    if value is None:
        return None
    return wire.Receipt(_processes(value, "signalled"), _processes(value, "ended"), _processes(value, "survived"))


def _usage(fields: Mapping[str, Any]) -> wire.Usage | None:
    value = _object_or_none(fields, "rusage")
    if value is None:
        return None
    return wire.Usage(_number(value, "user_s", 0.0), _number(value, "system_s", 0.0), _count(value, "max_rss", 0))


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key, False)
    if not isinstance(value, bool):
        raise RemoteProtocolError(f"{key} must be true or false")
    return value


_KINDS: tuple[Any, ...] = (*get_args(wire.FromWrapper), *get_args(wire.FromDaemon))
_NAMES: Mapping[type, tuple[str, ...]] = {kind: tuple(field.name for field in attrs.fields(kind)) for kind in _KINDS}

_FROM_WRAPPER: Mapping[str, Callable[[Mapping[str, Any]], wire.FromWrapper]] = {
    "connect": lambda f: wire.Connect(
        version=_text(f, "version", ""),
        token=_text(f, "token", ""),
        secret=_text(f, "secret", ""),
        proof=_text(f, "proof", ""),
        sent=_count_or_none(f, "sent"),
        attempt=_count(f, "attempt", 1),
        wants_secrets=_flag(f, "wants_secrets"),
    ),
    "start": lambda f: wire.Start(
        pid=_count(f, "pid"), version=_text(f, "version", ""), started=_instant_or_none(f, "started")
    ),
    "output": lambda f: wire.Output(
        seq=_count(f, "seq"),
        data=_data(f),
        stream=_text(f, "stream", "stdout"),
        offset=_count_or_none(f, "offset"),
        cut=_count(f, "cut", 0),
    ),
    "heartbeat": lambda f: wire.Heartbeat(
        rss=_count_or_none(f, "rss"), cpu=_number_or_none(f, "cpu"), paused=_flag(f, "paused")
    ),
    "sync_request": lambda f: wire.SyncRequest(
        last_acked_seq=_whole(f, "last_acked_seq"), next_seq=_whole(f, "next_seq")
    ),
    "complete": lambda f: wire.Complete(
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
    "killed": lambda f: wire.Killed(receipt=_receipt(f) or wire.Receipt()),
    "log": lambda f: wire.Log(text=_text(f, "text"), level=_text(f, "level", "info")),
    "error": lambda f: wire.Failure(error=_text(f, "error")),
}

_FROM_DAEMON: Mapping[str, Callable[[Mapping[str, Any]], wire.FromDaemon]] = {
    "ack": lambda f: wire.Ack(
        ack_type=_text(f, "ack_type"), seq=_whole_or_none(f, "seq"), offset=_count_or_none(f, "offset")
    ),
    "nack": lambda f: wire.Nack(
        expected_seq=_whole(f, "expected_seq"),
        received_seq=_whole(f, "received_seq"),
        nack_type=_text(f, "nack_type", "out_of_order"),
    ),
    "sync_response": lambda f: wire.SyncResponse(last_seq=_whole(f, "last_seq")),
    "kill": lambda f: wire.Kill(
        signal=_text(f, "signal", "TERM"), grace=_number(f, "grace", 5.0), reason=_text(f, "reason", "user")
    ),
    "signal": lambda f: wire.Signal(signal=_text(f, "signal")),
    "secrets": lambda f: wire.Secrets(env=_variables(f, "env"), error=_text(f, "error", "")),
    "error": lambda f: wire.Refusal(code=_text(f, "code"), message=_text(f, "message", "")),
}
