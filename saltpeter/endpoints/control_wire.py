"""Requests on the control socket, as frozen classes, and the JSON text of what is sent. No IO.

A request is an object with one verb, as clients have sent them for years: `{"run": "backup"}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Union

import attrs

from saltpeter.errors import CommandRefused

MAX_NAMES = 1000  # in one request


@attrs.frozen
class Run:
    """Start `job` now, on all its targets or on those of them that are `machines`."""

    job: str
    machines: tuple[str, ...] | None = None


@attrs.frozen
class Kill:
    """End the runs of `job`: all or `instance`, on every machine or on `machine`."""

    job: str
    machine: str | None = None
    instance: str | None = None


@attrs.frozen
class Subscribe:
    jobs: tuple[str, ...]


@attrs.frozen
class Unsubscribe:
    jobs: tuple[str, ...]


@attrs.frozen
class Acknowledge:
    """The client has the output of `job` on `machine` up to `position`, in UTF-16 code units."""

    job: str
    machine: str
    position: int


@attrs.frozen
class Reload:
    """Read the configuration again."""


Verb: TypeAlias = Union[Run, Kill, Subscribe, Unsubscribe, Acknowledge, Reload]
RequestId: TypeAlias = Union[str, int]


@attrs.frozen
class Request:
    """`id`, where given, is repeated in the reply; without one, only errors are answered."""

    verb: Verb
    id: RequestId | None = None


class BadRequest(CommandRefused):
    """A request that cannot be read. `code` is bad_json, bad_request, unknown_verb or bad_field."""

    def __init__(self, code: str, text: str, id: RequestId | None = None) -> None:
        super().__init__(code, text)
        self.id = id


def decode(text: str | bytes) -> Request:
    """Read a request. Raises BadRequest and nothing else."""
    fields = _object(text)
    id = _id(fields)
    try:
        return Request(_verb(fields), id)
    except BadRequest as exc:
        raise BadRequest(exc.code, str(exc), id) from exc


def pack(message: Mapping[str, object]) -> str:
    """The text of a message; what JSON has no word for becomes its own text."""
    return json.dumps(message, default=str, separators=(",", ":"))


def reply(id: RequestId, result: object) -> str:
    return pack({"type": "reply", "id": id, "ok": True, "result": result})


def refusal(id: RequestId | None, error: CommandRefused) -> str:
    """How a request is refused: as its reply, or on its own where it has no id."""
    said = {"code": error.code, "message": str(error)}
    if id is None:
        return pack({"type": "error", **said})
    return pack({"type": "reply", "id": id, "ok": False, "error": said})


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadRequest("bad_json", "the request is not JSON") from exc
    if not isinstance(fields, dict):
        raise BadRequest("bad_json", "the request is not a JSON object")
    return fields


def _id(fields: Mapping[str, Any]) -> RequestId | None:
    value = fields.get("id")
    if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
        return value
    raise BadRequest("bad_field", "id must be a string or a whole number")


def _verb(fields: Mapping[str, Any]) -> Verb:
    verbs = [key for key in fields if key != "id"]
    if len(verbs) != 1:
        raise BadRequest("bad_request", f"a request has exactly one verb; this one has {len(verbs)}")
    [verb] = verbs
    if verb not in _VERBS:
        raise BadRequest("unknown_verb", f"unknown verb {verb[:40]!r}; known are {', '.join(sorted(_VERBS))}")
    return _VERBS[verb](verb, fields[verb])


def _run(verb: str, value: Any) -> Verb:
    if isinstance(value, str):
        return Run(_text(verb, value))
    given = _fields(verb, value, ("cron", "machines"))
    machines = given.get("machines")
    return Run(
        _text(f"{verb}.cron", given.get("cron")), None if machines is None else _names(f"{verb}.machines", machines)
    )


def _kill_cron(verb: str, value: Any) -> Verb:
    if isinstance(value, str):
        return Kill(_text(verb, value))
    given = _fields(verb, value, ("cron", "job_instance"))
    return Kill(_text(f"{verb}.cron", given.get("cron")), instance=_instance(verb, given))


def _kill_machine(verb: str, value: Any) -> Verb:
    given = _fields(verb, value, ("cron", "machine", "job_instance"))
    job, machine = _text(f"{verb}.cron", given.get("cron")), _text(f"{verb}.machine", given.get("machine"))
    return Kill(job, machine, _instance(verb, given))


def _ack(verb: str, value: Any) -> Verb:
    given = _fields(verb, value, ("cron", "machine", "position"))
    position = given.get("position")
    if not isinstance(position, int) or isinstance(position, bool) or position < 0:
        raise BadRequest("bad_field", f"{verb}.position must be a whole number, not negative")
    return Acknowledge(
        _text(f"{verb}.cron", given.get("cron")), _text(f"{verb}.machine", given.get("machine")), position
    )


def _reload(verb: str, value: Any) -> Verb:
    if value is not True:
        raise BadRequest("bad_field", f"{verb} must be true")
    return Reload()


def _fields(verb: str, value: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("bad_field", f"{verb} must be an object")
    for key in value:
        if key not in known:
            raise BadRequest("bad_field", f"unknown field {verb}.{key[:40]}; known are {', '.join(known)}")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadRequest("bad_field", f"{where} must be a string, not empty")
    return value


def _instance(verb: str, given: Mapping[str, Any]) -> str | None:
    instance = given.get("job_instance")
    return None if instance in (None, "") else _text(f"{verb}.job_instance", instance)


def _names(where: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MAX_NAMES:
        raise BadRequest("bad_field", f"{where} must be a name, or a list of at most {MAX_NAMES}")
    return tuple(_text(where, each) for each in values)


_VERBS: Mapping[str, Callable[[str, Any], Verb]] = {
    "run": _run,
    "killCron": _kill_cron,
    "killMachine": _kill_machine,
    "subscribe": lambda verb, value: Subscribe(_names(verb, value)),
    "unsubscribe": lambda verb, value: Unsubscribe(_names(verb, value)),
    "ack": _ack,
    "reload": _reload,
}
