"""What may be written for one key: from a YAML node to a value, or a plain word about what is wrong."""

from __future__ import annotations

import difflib
import enum
import re
import signal
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NewType, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import attrs
import cattrs

from saltpeter.domain.job import EVERY_MACHINE, Retention, SecretSource, Share
from saltpeter.domain.yamltext import Listing, Node, Scalar, Table

Text = NewType("Text", str)  # not empty
Flag = NewType("Flag", bool)
Count = NewType("Count", int)
Port = NewType("Port", int)  # 0: any free one
Seconds = NewType("Seconds", float)
OrderSeconds = NewType("OrderSeconds", float)
Factor = NewType("Factor", float)
ByteCount = NewType("ByteCount", int)
AbsolutePath = NewType("AbsolutePath", str)
ProgramPath = NewType("ProgramPath", str)
TrustAnchor = NewType("TrustAnchor", str)  # an absolute path, or system
UserName = NewType("UserName", str)
SignalName = NewType("SignalName", str)  # without SIG
Success = NewType("Success", Share)
Words = NewType("Words", tuple[str, ...])
Environment = NewType("Environment", Mapping[str, str])
Secrets = NewType("Secrets", Mapping[str, SecretSource])

SHORTEST_ORDER_S, LONGEST_ORDER_S = 60.0, 5 * 86400.0  # the machines remember for a week what they were given
LONGEST_S = 3650 * 86400.0  # ten years
SMALLEST_OUTPUT = 1024
SMALLEST_HISTORY = 16 * 1024**2  # bytes
RESERVED = "SP_"  # begins the variables that the wrapper is told things by

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(%?)")
_WHOLE = re.compile(r"\+?[0-9]{1,12}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,254}\$?")
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")

Choice = TypeVar("Choice", bound=enum.Enum)


class Wrong(ValueError):
    """What is wrong with a value. `line` is 0 when the key's own line is to blame."""

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


@attrs.frozen
class Targets:
    expression: str
    listed: bool  # written as a list


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint to append, "" when nothing is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def has_control_characters(text: str) -> bool:
    return any(unicodedata.category(character) in _UNSEEN for character in text)


def scalar(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise Wrong("must be a single value", node.line)
    return node.text.strip()


def text(node: Node) -> Text:
    if not isinstance(node, Scalar):
        raise Wrong("must be text", node.line)
    if not node.text.strip():
        raise Wrong("is empty")
    if "\0" in node.text:
        raise Wrong("holds a NUL")
    return Text(node.text)


def flag(node: Node) -> Flag:
    word = scalar(node)
    if word.lower() not in _TRUTHS:
        raise Wrong(f"{word!r} is not true or false")
    return Flag(_TRUTHS[word.lower()])


def count(node: Node) -> Count:
    word = scalar(node)
    if not _WHOLE.fullmatch(word):
        raise Wrong(f"{word!r} is not a whole number of 0 or more")
    return Count(int(word))


def port(node: Node) -> Port:
    number = count(node)
    if number > 65535:
        raise Wrong(f"{number} is not a port (0-65535)")
    return Port(number)


def seconds(node: Node) -> Seconds:
    word = scalar(node)
    match = _DURATION.fullmatch(word)
    unit_s = _UNITS_S.get(match[2].lower()) if match else None
    if match is None or unit_s is None:
        raise Wrong(f"{word!r} is not a time: write seconds, or a number with s, m, h or d, as in 90s or 2h")
    duration_s = float(match[1]) * unit_s
    if duration_s > LONGEST_S:
        raise Wrong(f"{word!r} is more than ten years")
    return Seconds(duration_s)


def trust_anchor(node: Node) -> TrustAnchor:
    word = scalar(node)
    return TrustAnchor(word if word == "system" else absolute_path(node))


def order_seconds(node: Node) -> OrderSeconds:
    valid_s = seconds(node)
    if not SHORTEST_ORDER_S <= valid_s <= LONGEST_ORDER_S:
        raise Wrong(f"{scalar(node)!r} is not from a minute to five days")
    return OrderSeconds(valid_s)


def factor(node: Node) -> Factor:
    word = scalar(node)
    match = _SHARE.fullmatch(word)
    if match is None or match[2] or not 1 <= float(match[1]) <= 100:
        raise Wrong(f"{word!r} is not a number from 1 to 100")
    return Factor(float(match[1]))


def byte_count(node: Node) -> ByteCount:
    word = scalar(node)
    match = _SIZE.fullmatch(word)
    if match is None:
        raise Wrong(f"{word!r} is not a size: write bytes, or a number with k, M or G, as in 64MiB")
    size = int(float(match[1]) * 1024 ** (" kmgt".index(match[2].lower() or " ")))
    if size < SMALLEST_OUTPUT:
        raise Wrong(f"{word!r} is less than {SMALLEST_OUTPUT} bytes")
    return ByteCount(size)


def retention(node: Node) -> Retention:
    """Any of its keys; 0 is no limit, and a key that is not there has its default."""
    readers: dict[str, Callable[[Node], int]] = {"days": _days, "runs_per_job": count, "bytes": _history_size}
    if not isinstance(node, Table):
        raise Wrong("must be keys with their values: days, runs_per_job, bytes", node.line)
    for key, first in node.twice():
        raise Wrong(f"{key.text} was given before, in line {first.line}", key.line)
    limits: dict[str, int | None] = {}
    for key, value in node.entries:
        if key.text not in readers:
            raise Wrong(f"unknown key {key.text}{suggestion(key.text, readers)}", key.line)
        if not (isinstance(value, Scalar) and value.is_null):
            limits[key.text] = readers[key.text](value) or None
    return Retention(**limits)


def _days(node: Node) -> int:
    days = count(node)
    if days > LONGEST_S / 86400:
        raise Wrong(f"{days} days are more than ten years; 0 is no limit", node.line)
    return days


def _history_size(node: Node) -> int:
    if scalar(node) == "0":
        return 0
    size = byte_count(node)
    if size < SMALLEST_HISTORY:
        raise Wrong(f"{scalar(node)!r} is less than {SMALLEST_HISTORY // 1024**2} MiB")
    return size


def share(node: Node) -> Share:
    word = scalar(node)
    match = _SHARE.fullmatch(word)
    if match is None:
        raise Wrong(f"{word!r} is not a number of machines or a percentage, as in 20%")
    amount, percent = float(match[1]), bool(match[2])
    if percent and not 0 < amount <= 100:
        raise Wrong(f"{word!r} is not more than 0% and up to 100%")
    if not percent and not amount.is_integer():
        raise Wrong(f"{word!r} is not a whole number of machines")
    return Share(amount, percent)


def success(node: Node) -> Success:
    named = {"all": EVERY_MACHINE, "any": Share(1)}
    found = named.get(scalar(node).lower()) or share(node)
    if not found.amount:
        raise Wrong("0 machines always succeed; the least is any")
    return Success(found)


def absolute_path(node: Node) -> AbsolutePath:
    path = text(node)
    if not path.startswith("/"):
        raise Wrong(f"{path!r} is not an absolute path")
    if has_control_characters(path):
        raise Wrong(f"{path!r} holds control characters")
    return AbsolutePath(path)


def program_path(node: Node) -> ProgramPath:
    path = absolute_path(node)
    if "=" in path:  # env, which starts it, would take it for a variable
        raise Wrong(f"{path!r} must not contain '='")
    return ProgramPath(path)


def user_name(node: Node) -> UserName:
    name = scalar(node)
    if not _USER.fullmatch(name):
        raise Wrong(f"{name!r} is not a user's name")
    return UserName(name)


def signal_name(node: Node) -> SignalName:
    word = scalar(node)
    numbers = {str(each.value): each.name for each in signal.Signals}
    name = numbers.get(word, word).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise Wrong(f"{word!r} is not a signal{suggestion(name, signal.Signals.__members__)}")
    return SignalName(name.removeprefix("SIG"))


def words(node: Node) -> Words:
    """A list, or text with commas."""
    if isinstance(node, Table):
        raise Wrong("must be a list", node.line)
    parts = node.text.split(",") if isinstance(node, Scalar) else [scalar(item) for item in node.items]
    return Words(tuple(part.strip() for part in parts if part.strip()))


def targets(node: Node) -> Targets:
    expression = _listed(node) if isinstance(node, Listing) else text(node).strip()
    if has_control_characters(expression):
        raise Wrong("holds control characters", node.line)
    return Targets(expression, listed=isinstance(node, Listing))


def _listed(node: Listing) -> str:
    names = [text(item).strip() for item in node.items]
    if any("," in name for name in names):
        raise Wrong("a name in a list must not hold a comma", node.line)
    if not names:
        raise Wrong("is empty", node.line)
    return ",".join(names)


def environment(node: Node) -> Environment:
    return Environment(MappingProxyType({name: _value(value) for name, value in _variables(node)}))


def secrets(node: Node) -> Secrets:
    return Secrets(MappingProxyType({name: _secret(name, value) for name, value in _variables(node)}))


def _variables(node: Node) -> list[tuple[str, Node]]:
    if not isinstance(node, Table):
        raise Wrong("must be names with values", node.line)
    for key, first in node.twice():
        raise Wrong(f"{key.text} was given before, in line {first.line}", key.line)
    for key, _ in node.entries:
        if not _VARIABLE.fullmatch(key.text):
            raise Wrong(f"{key.text!r} cannot be a variable's name", key.line)
        if key.text.startswith(RESERVED):
            raise Wrong(f"{key.text}: names that begin with {RESERVED} belong to saltpeter", key.line)
    return [(key.text, value) for key, value in node.entries]


def _value(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise Wrong("a variable's value must be a single value", node.line)
    if "\0" in node.text:
        raise Wrong("a variable's value must not hold a NUL", node.line)
    return "" if node.is_null else node.text


def _secret(name: str, node: Node) -> SecretSource:
    entries = node.entries if isinstance(node, Table) else ()
    if len(entries) != 1 or entries[0][0].text not in ("file", "command"):
        raise Wrong(f"{name} must say where its value is: either file or command", node.line)
    [(key, value)] = entries
    return SecretSource(file=absolute_path(value)) if key.text == "file" else SecretSource(command=text(value))


def zone(name: str) -> ZoneInfo:
    """The zone called `name`; reads the host's time zone data. Raises Wrong."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise Wrong(f"{name!r} is not a time zone{suggestion(name, available_timezones())}") from exc


def choice(node: Node, kind: type[Choice]) -> Choice:
    word = scalar(node).lower()
    known = [str(each.value) for each in kind]
    if word not in known:
        raise Wrong(f"{word!r} is none of {', '.join(known)}{suggestion(word, known)}")
    return kind(word)


def _hook(read: Callable[[Node], object]) -> Callable[[Node, object], object]:
    return lambda node, _: read(node)


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    readers: dict[object, Callable[[Node], object]] = {
        Text: text, Flag: flag, Count: count, Port: port, Seconds: seconds, Factor: factor, ByteCount: byte_count,
        Share: share, Success: success, AbsolutePath: absolute_path, ProgramPath: program_path, UserName: user_name,
        SignalName: signal_name, Words: words, Targets: targets, Environment: environment, Secrets: secrets,
        Retention: retention, OrderSeconds: order_seconds, TrustAnchor: trust_anchor,
    }  # fmt: skip
    for kind, read in readers.items():
        made.register_structure_hook(kind, _hook(read))
    made.register_structure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), choice)
    return made


converter = _make_converter()
