"""What requests are made of: each kind of value is read, and described as JSON Schema, in one place. No IO."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, TypeAlias, Union, get_type_hints

import attrs

from saltpeter.errors import CommandRefused

MAX_NAMES = 1000  # in one request
YEARS = range(1970, 9000)
LONGEST_SHIFT = timedelta(days=36525)
LONGEST_GRACE_S = 86400.0
LONGEST_GRAIN_S = 366 * 86400.0

RequestId: TypeAlias = Union[str, int]
Schema: TypeAlias = Mapping[str, Any]

_SHIFTED = re.compile(r"now(?:([+-])(\d{1,9})([smhdw]))?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class BadRequest(CommandRefused):
    """A request that cannot be read.

    `code` is bad_json, bad_request, unknown_verb, unknown_field, bad_value or bad_time.
    """

    def __init__(self, code: str, text: str, id: RequestId | None = None) -> None:
        super().__init__(code, text)
        self.id = id


@attrs.frozen
class Kind:
    """What may stand somewhere in a request. `read` gets the place, for messages, and the value that JSON made of it;
    it returns the value that the request's class has, or raises BadRequest."""

    read: Callable[[str, Any], Any]
    schema: Schema


@attrs.frozen
class Given:
    """How a field of a request's class stands in the request: under which name, and what it may hold.

    A field of many may also hold a single one, under the name `single`.
    """

    name: str
    kind: Kind
    single: str | None = None


@attrs.frozen
class Moment:
    """An instant as people say it. `base` is None for the time at which it is asked for."""

    base: datetime | None = None  # aware, UTC
    shift: timedelta = timedelta()

    def at(self, now: datetime) -> datetime:
        return (self.base or now) + self.shift


# --- values -------------------------------------------------------------------------------------


def _any_text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRequest("bad_value", f"{where} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise BadRequest("bad_value", f"{where} holds half a surrogate pair") from exc
    return value


def _text(where: str, value: Any) -> str:
    if not _any_text(where, value):
        raise BadRequest("bad_value", f"{where} must be a string, not empty")
    return str(value)


def _names(where: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MAX_NAMES:
        raise BadRequest("bad_value", f"{where} must be a name, or a list of at most {MAX_NAMES}")
    return tuple(_text(where, each) for each in values)


def _some(where: str, value: Any) -> tuple[str, ...]:
    if not (names := _names(where, value)):
        raise BadRequest("bad_value", f"{where} names nothing; leave it out where all are meant")
    return names


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest("bad_value", f"{where} must be true or false")
    return value


def _id(where: str, value: Any) -> RequestId:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _any_text(where, value)
    raise BadRequest("bad_value", f"{where} must be a string or a whole number")


def _signal(where: str, value: Any) -> str:
    """A signal's name without SIG."""
    name = _text(where, value).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise BadRequest("bad_value", f"{where}: {value[:40]!r} is no signal")
    return name.removeprefix("SIG")


def _moment(where: str, value: Any) -> Moment:
    text = _text(where, value)
    try:
        return _shifted(text) or Moment(_instant(text))
    except (ValueError, OverflowError) as exc:
        hint = "ISO 8601, or now, now-1h, now+30m (units s m h d w)"
        raise BadRequest("bad_time", f"{where}: {value[:40]!r} is no time; write {hint}") from exc


def _shifted(text: str) -> Moment | None:
    if (match := _SHIFTED.fullmatch(text)) is None:
        return None
    sign, amount, unit = match.groups()
    if sign is None:
        return Moment()
    shift = timedelta(**{_UNITS[unit]: int(amount)})
    if shift > LONGEST_SHIFT:
        raise ValueError("too far away")
    return Moment(shift=-shift if sign == "-" else shift)


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))  # Python 3.10 does not know Z
    if at.year not in YEARS:
        raise ValueError("too far away")
    return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)


def whole(least: int, most: int) -> Kind:
    """A whole number in [least, most]."""

    def read(where: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadRequest("bad_value", f"{where} must be a whole number from {least} to {most}")
        return value

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most})


def seconds(most: float) -> Kind:
    """A number of seconds in [0, most]."""

    def read(where: str, value: Any) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
            raise BadRequest("bad_value", f"{where} must be a number of seconds from 0 to {most:.0f}")
        return float(value)

    return Kind(read, {"type": "number", "minimum": 0, "maximum": most})


TEXT = Kind(_text, {"type": "string", "minLength": 1})
ANY_TEXT = Kind(_any_text, {"type": "string"})
RUN = Kind(lambda where, value: _any_text(where, value) or None, {"type": "string"})  # "" is any run
_LIST: Schema = {"type": "array", "items": TEXT.schema, "maxItems": MAX_NAMES}
NAMES = Kind(_names, {"anyOf": [TEXT.schema, _LIST]})
SOME = Kind(_some, {"anyOf": [TEXT.schema, {**_LIST, "minItems": 1}]})  # names, at least one
_SINGLE = Kind(lambda where, value: (_text(where, value),), TEXT.schema)
FLAG = Kind(_flag, {"type": "boolean"})
ID = Kind(_id, {"type": ["string", "integer"]})
COUNT = whole(0, 2**53 - 1)
SECONDS = seconds(LONGEST_GRACE_S)
GRAIN = seconds(LONGEST_GRAIN_S)
SIGNAL = Kind(_signal, {"type": "string", "examples": ["TERM", "USR1"]})
TIME = Kind(_moment, {"type": "string", "examples": ["2026-11-20T12:00:00+00:00", "now", "now-1h"]})


# --- objects ------------------------------------------------------------------------------------


@attrs.frozen
class _Field:
    attribute: str
    given: Given
    required: bool


@lru_cache
def _fields_of(made: type[attrs.AttrsInstance]) -> Mapping[str, _Field]:
    """The fields of a request's class by the names that they have in requests."""
    hints = get_type_hints(made, include_extras=True)
    found: dict[str, _Field] = {}
    for each in attrs.fields(made):
        [given] = hints[each.name].__metadata__
        found[given.name] = _Field(each.name, given, required=each.default is attrs.NOTHING)
        if given.single is not None:
            found[given.single] = _Field(each.name, Given(given.single, _SINGLE), required=False)
    return found


def record(
    made: type[attrs.AttrsInstance],
    *,
    short: str | None = None,
    without: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    **fixed: Any,
) -> Kind:
    """An object that makes a `made`, whose fields are all annotated with `Given`. null is as good as nothing.

    A string by itself stands for the field `short`. `without` and `needs` name fields that are out of place, or
    required, beyond what the class says; attributes in `fixed` do not come from the request.
    """
    fields = {
        name: attrs.evolve(field, required=field.required or name in needs)
        for name, field in _fields_of(made).items()
        if name not in without and field.attribute not in fixed
    }

    def read(where: str, value: Any) -> Any:
        given = {short: value} if short is not None and isinstance(value, str) else value
        _check(where, given, fields)
        values = {
            field.attribute: field.given.kind.read(f"{where}.{name}", given[name])
            for name, field in fields.items()
            if given.get(name) is not None
        }
        return made(**fixed, **values)

    as_object: Schema = {
        "type": "object",
        "properties": {name: _optional(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
    }
    return Kind(read, as_object if short is None else {"anyOf": [fields[short].given.kind.schema, as_object]})


def _check(where: str, given: Any, fields: Mapping[str, _Field]) -> None:
    if not isinstance(given, dict):
        raise BadRequest("bad_value", f"{where} must be an object")
    for key in given:
        if key not in fields:
            raise BadRequest("unknown_field", f"unknown field {where}.{key[:40]}; known are {', '.join(fields)}")
    for name, field in fields.items():
        if field.required and given.get(name) is None:
            raise BadRequest("bad_value", f"{where}.{name} is missing")
        if given.get(name) is not None and given.get(field.given.single) is not None:
            raise BadRequest("bad_value", f"{where}: {field.given.single} or {name}, not both")


def _optional(field: _Field) -> Schema:
    schema = field.given.kind.schema
    return schema if field.required else {"anyOf": [schema, {"type": "null"}]}


def one_of(forms: Mapping[str, Kind]) -> Kind:
    """An object with exactly one of the keys of `forms`."""

    def read(where: str, value: Any) -> Any:
        known = ", ".join(forms)
        if not isinstance(value, dict) or len(value) != 1:
            raise BadRequest("bad_value", f"{where} must be an object with one of {known}")
        [(key, inner)] = value.items()
        if key not in forms:
            raise BadRequest("unknown_field", f"unknown field {where}.{key[:40]}; known are {known}")
        return forms[key].read(f"{where}.{key}", inner)

    each = [
        {"type": "object", "properties": {key: form.schema}, "required": [key], "additionalProperties": False}
        for key, form in forms.items()
    ]
    return Kind(read, {"oneOf": each})


def just_true(made: type[Any]) -> Kind:
    """`true`, which makes a `made` of no facts."""

    def read(where: str, value: Any) -> Any:
        if value is not True:
            raise BadRequest("bad_value", f"{where} must be true")
        return made()

    return Kind(read, {"const": True})
