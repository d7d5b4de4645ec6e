"""YAML as a tree that knows its lines, and keeps every value as it is written.

YAML 1.1 takes `no` for false, `10:30` for 630 and `010` for 8. Here a scalar is its text, and what reads it
decides what it may be. Built from parser events, so that neither depth nor aliases can cost more than is
allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias, Union

import attrs
import yaml

LONGEST = 1024 * 1024  # characters of a file
DEEPEST = 20  # mappings and lists in each other
MOST_NODES = 200_000  # of a file, with what its aliases repeat

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where PyYAML was built with it
_TAGS = {f"tag:yaml.org,2002:{kind}": kind for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
_NULLS = ("", "~", "null", "Null", "NULL")
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"-?[0-9]{1,17}\.[0-9]{1,17}")


class YamlError(ValueError):
    """`line` is counted from 1; 0 when none is to blame."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


@attrs.frozen
class Scalar:
    text: str
    line: int
    quoted: bool = False  # then it is text, whatever it looks like

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in _NULLS

    @property
    def plain(self) -> object:
        """The value as JSON has it: what would change its spelling stays text."""
        if self.is_null:
            return None
        if self.quoted:
            return self.text
        if _INTEGER.fullmatch(self.text):
            return int(self.text)
        if _FRACTION.fullmatch(self.text):
            return float(self.text)
        return _TRUTHS.get(self.text.lower(), self.text)


@attrs.frozen
class Listing:
    items: tuple[Node, ...]
    line: int

    @property
    def plain(self) -> object:
        return [item.plain for item in self.items]


@attrs.frozen
class Table:
    """A mapping. A key that was written twice is in `entries` twice."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int

    @property
    def plain(self) -> dict[str, object]:
        return {key.text: value.plain for key, value in self.entries}

    def twice(self) -> Iterator[tuple[Scalar, Scalar]]:
        """Each key that was written before, with its first place."""
        first: dict[str, Scalar] = {}
        for key, _ in self.entries:
            if key.text in first:
                yield key, first[key.text]
            first.setdefault(key.text, key)


Node: TypeAlias = Union[Scalar, Listing, Table]


def parse(text: str) -> Node:
    """The one document in `text`; an empty one is a null scalar. Raises YamlError for everything else."""
    if len(text) > LONGEST:
        raise YamlError(0, f"longer than {LONGEST} characters")
    try:
        text.encode()
        return _Builder().build(yaml.parse(text, Loader=_Loader))
    except UnicodeEncodeError as exc:
        raise YamlError(text.count("\n", 0, exc.start) + 1, "not a character") from exc
    except yaml.MarkedYAMLError as exc:
        raise _translated(exc) from exc
    except yaml.reader.ReaderError as exc:
        raise YamlError(_line_of_strange(text), f"a character that YAML does not allow: {exc.reason}") from exc
    except yaml.YAMLError as exc:
        raise YamlError(0, str(exc)) from exc


def _translated(exc: yaml.MarkedYAMLError) -> YamlError:
    mark = exc.problem_mark or exc.context_mark
    parts = [str(part) for part in (exc.context, exc.problem) if part]
    hint = ""
    if "alias" in str(exc.context):
        hint = " (a value that begins with an asterisk needs quotes: '*')"
    elif "\\t" in str(exc.problem) or "cannot start any token" in str(exc.problem):
        hint = " (indent with spaces; quote what begins with %, @ or `)"
    return YamlError(mark.line + 1 if mark else 0, ", ".join(parts) + hint)


def _line_of_strange(text: str) -> int:
    """The line of the first control character; readers give its place in ways that differ."""
    found = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return text.count("\n", 0, found.start()) + 1 if found else 0


@attrs.frozen
class _Part:
    """A finished node, with how many nodes it holds and how many levels it is high."""

    node: Node
    size: int = 1
    height: int = 0


@attrs.frozen
class _Open:
    """A mapping or list whose end has not come yet."""

    line: int
    anchor: str | None
    is_table: bool
    parts: list[_Part] = attrs.field(factory=list)

    def close(self) -> _Part:
        nodes = tuple(part.node for part in self.parts)
        node = _table(nodes, self.line) if self.is_table else Listing(nodes, self.line)
        size = 1 + sum(part.size for part in self.parts)
        return _Part(node, size, 1 + max((part.height for part in self.parts), default=0))


@attrs.define
class _Builder:
    """Makes the tree from events, without recursion."""

    _open: list[_Open] = attrs.field(factory=list)
    _anchors: dict[str, _Part] = attrs.field(factory=dict)
    _count: int = 0
    _root: Node | None = None

    def build(self, events: Iterator[yaml.Event]) -> Node:
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise YamlError(line, "a second document in the file")
            if isinstance(event, yaml.AliasEvent):
                self._repeat(event.anchor or "", line)
            elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
                self._start(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = self._open.pop()
                self._add(closed.close(), closed.anchor, 1, line)
        return self._root or Scalar("", 1)

    def _start(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.tag not in (None, "!", *_TAGS):
            raise YamlError(line, f"the tag {event.tag} is not supported")
        if isinstance(event, yaml.ScalarEvent):
            quoted = bool(event.style) or event.tag == "!" or _TAGS.get(event.tag or "") == "str"
            self._add(_Part(Scalar(event.value, line, quoted)), event.anchor, 1, line)
        else:
            self._open.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))
            self._check_depth(0, line)

    def _repeat(self, anchor: str, line: int) -> None:
        if anchor not in self._anchors:
            raise YamlError(line, f"*{anchor} stands for nothing that was finished before it")
        part = self._anchors[anchor]
        self._check_depth(part.height, line)
        self._add(part, None, part.size, line)

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._open) + height > DEEPEST:
            raise YamlError(line, f"more than {DEEPEST} levels deep")

    def _add(self, part: _Part, anchor: str | None, new: int, line: int) -> None:
        self._count += new
        if self._count > MOST_NODES:
            raise YamlError(line, f"more than {MOST_NODES} values, repeated ones counted")
        if anchor is not None:
            self._anchors[anchor] = part
        if self._open:
            self._open[-1].parts.append(part)
        else:
            self._root = part.node


def _table(nodes: tuple[Node, ...], line: int) -> Table:
    """A mapping from its keys and values in turn. What `<<` merges in stands behind what is written."""
    entries: list[tuple[Scalar, Node]] = []
    merged: list[Table] = []
    for key, value in zip(nodes[::2], nodes[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise YamlError(key.line, "a key must be a single value")
        if key.text == "<<" and not key.quoted:
            merged += _tables(value)
        else:
            entries.append((key, value))
    known = {key.text for key, _ in entries}
    for key, value in (entry for table in merged for entry in table.entries):
        if key.text not in known:
            known.add(key.text)
            entries.append((key, value))
    return Table(tuple(entries), line)


def _tables(value: Node) -> list[Table]:
    tables = [value] if isinstance(value, Table) else list(value.items) if isinstance(value, Listing) else []
    if not tables or not all(isinstance(table, Table) for table in tables):
        raise YamlError(value.line, "<< takes a mapping, or a list of mappings")
    return [table for table in tables if isinstance(table, Table)]
