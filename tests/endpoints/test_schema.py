"""The published schema is that of the code, and the golden transcripts keep to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from saltpeter.endpoints.schema import protocol, text
from tests.endpoints.test_golden import GOLDEN

PUBLISHED = Path(__file__).parents[2] / "docs" / "control-protocol.schema.json"
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
FRAMES = [
    pytest.param(each, frame, id=f"{path.stem}-{number}-{each}")
    for path in sorted(GOLDEN.rglob("*.json"))
    for number, exchange in enumerate(json.loads(path.read_text()))
    for each, frame in exchange.items()
]


def fits(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether `value` is as `schema` says, in the part of JSON Schema that ours uses."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "oneOf" in schema:
        return sum(fits(value, each, root) for each in schema["oneOf"]) == 1
    if "anyOf" in schema:
        return any(fits(value, each, root) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    return _is_of_type(value, schema) and _holds(value, schema, root)


def _is_of_type(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type", list(TYPES))
    allowed = tuple(each for kind in ([kinds] if isinstance(kinds, str) else kinds) for each in TYPES[kind])
    return isinstance(value, allowed) and (not isinstance(value, bool) or bool in allowed)


def _holds(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    if isinstance(value, list):
        return all(fits(each, schema.get("items", {}), root) for each in value)
    if not isinstance(value, dict):
        return bool(not isinstance(value, str) or len(value) >= schema.get("minLength", 0))
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= value.keys() or (others is False and value.keys() - properties.keys()):
        return False
    rest = others if isinstance(others, dict) else {}
    return all(fits(each, properties.get(name, rest), root) for name, each in value.items())


def test_what_is_published_is_current() -> None:
    how = f"run: python -m saltpeter.endpoints.schema > {PUBLISHED}"
    assert PUBLISHED.read_text() == text(), how


@pytest.mark.parametrize(("who", "frame"), FRAMES)
def test_every_frame_that_was_ever_exchanged_fits(who: str, frame: dict[str, Any]) -> None:
    whole = protocol()
    assert fits(frame, whole, whole)
    assert fits(frame, whole["$defs"]["Request"], whole) == (who == "client")


@pytest.mark.parametrize(
    "frame",
    [
        {"run": 7},
        {"run": "a", "reload": True},
        {"killMachine": {"cron": "a"}},
        {"maintenance": {"set": {}}},
        {"type": "status"},
        {"type": "reply", "id": 1},
    ],
)
def test_what_is_wrong_does_not_fit(frame: dict[str, Any]) -> None:
    whole = protocol()
    assert not fits(frame, whole, whole)
