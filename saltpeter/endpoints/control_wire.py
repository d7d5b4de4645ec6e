"""Requests on the control socket as values, and the JSON text of what is sent. No IO.

A request is an object with one verb, as clients have sent them for years: `{"run": "backup"}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from saltpeter import jsontext
from saltpeter.endpoints.forms import ID, BadRequest, RequestId
from saltpeter.endpoints.verbs import VERBS, Verb
from saltpeter.errors import CommandRefused


@attrs.frozen
class Request:
    """`id`, where given, is repeated in the reply; without one, only errors are answered."""

    verb: Verb
    id: RequestId | None = None


def decode(text: str | bytes) -> Request:
    """Read a request. Raises BadRequest and nothing else."""
    fields = read_object(text)
    id = _id(fields)
    try:
        return Request(_verb(fields), id)
    except BadRequest as exc:
        raise BadRequest(exc.code, str(exc), id) from exc


def read_object(text: str | bytes) -> Mapping[str, Any]:
    """A JSON object. Raises BadRequest."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadRequest("bad_json", "the request is not JSON") from exc
    if not isinstance(fields, dict):
        raise BadRequest("bad_json", "the request is not a JSON object")
    return fields


def pack(message: Mapping[str, Any]) -> str:
    """The text of a message; what JSON has no word for becomes its own text."""
    return jsontext.dump(message).decode()


def reply(id: RequestId, result: object) -> str:
    return pack({"type": "reply", "id": id, "ok": True, "result": result})


def refusal(id: RequestId | None, error: CommandRefused) -> str:
    """How a request is refused: as its reply, or on its own where it has no id."""
    said = {"code": error.code, "message": str(error)}
    if id is None:
        return pack({"type": "error", **said})
    return pack({"type": "reply", "id": id, "ok": False, "error": said})


def _id(fields: Mapping[str, Any]) -> RequestId | None:
    id: RequestId | None = None if fields.get("id") is None else ID.read("id", fields["id"])
    return id


def _verb(fields: Mapping[str, Any]) -> Verb:
    verbs = [key for key in fields if key != "id"]
    if len(verbs) != 1:
        raise BadRequest("bad_request", f"a request has exactly one verb; this one has {len(verbs)}")
    [verb] = verbs
    if verb not in VERBS:
        raise BadRequest("unknown_verb", f"unknown verb {verb[:40]!r}; known are {', '.join(sorted(VERBS))}")
    request: Verb = VERBS[verb].read(verb, fields[verb])
    return request
