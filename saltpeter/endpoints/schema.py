"""The control protocol as JSON Schema, made from the classes: `python -m saltpeter.endpoints.schema`."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any, Literal, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

from saltpeter.endpoints.forms import ID
from saltpeter.endpoints.messages import Message
from saltpeter.endpoints.verbs import VERBS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def protocol() -> dict[str, Any]:
    """Every frame, whoever sends it."""
    definitions: dict[str, Any] = {"Request": requests()}
    messages = [_schema(message, definitions) for message in get_args(Message)]
    return {
        "$schema": DIALECT,
        "title": "saltpeter's control protocol: a text frame of its WebSocket",
        "oneOf": [{"$ref": "#/$defs/Request"}, *messages],
        "$defs": definitions,
    }


def requests() -> dict[str, Any]:
    """What clients send."""
    return {
        "title": "Request",
        "oneOf": [
            {
                "type": "object",
                "properties": {verb: kind.schema, "id": ID.schema},
                "required": [verb],
                "additionalProperties": False,
            }
            for verb, kind in VERBS.items()
        ],
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if is_typeddict(kind):
        return _reference(kind, definitions)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is Union:
        return {"anyOf": [_schema(each, definitions) for each in arguments]}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    raise TypeError(f"no schema is known for {kind!r}")


def _reference(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """`kind` by name; it is described once. More fields may come with later versions, so others are allowed."""
    if kind.__name__ not in definitions:
        described: dict[str, Any] = {"type": "object"}
        definitions[kind.__name__] = described
        if kind.__doc__:
            described["description"] = inspect.cleandoc(kind.__doc__)
        hints = get_type_hints(kind)
        described["properties"] = {name: _schema(hint, definitions) for name, hint in hints.items()}
        described["required"] = sorted(kind.__required_keys__)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def text() -> str:
    return json.dumps(protocol(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
