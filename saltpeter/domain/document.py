"""One file of conf.d as it was read: its parts with their lines, or why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

import attrs

from saltpeter.domain.yamltext import Node, Scalar, Table, YamlError, parse
from saltpeter.errors import Problem

SETTINGS_KEY = "saltpeter_config"
MAINTENANCE_KEY = "saltpeter_maintenance"
SUFFIXES = (".yaml", ".yml")


@attrs.frozen(kw_only=True)
class Document:
    """`entries` are the file's top-level keys with what stands below them; None when it cannot be read."""

    path: str
    entries: tuple[tuple[Scalar, Node], ...] | None = ()
    problems: tuple[Problem, ...] = ()

    @property
    def group(self) -> str:
        return group_of(self.path)

    def parts(self, key: str) -> Iterator[tuple[Scalar, Node]]:
        return (entry for entry in self.entries or () if entry[0].text == key)

    def jobs(self) -> Iterator[tuple[Scalar, Node]]:
        return (entry for entry in self.entries or () if entry[0].text not in (SETTINGS_KEY, MAINTENANCE_KEY))


def group_of(path: str) -> str:
    """The group of the jobs in the file at `path`."""
    file = PurePath(path)
    return file.stem if file.suffix in SUFFIXES else file.name


def parse_file(path: str, text: str) -> Document:
    """Read one file's text. Raises nothing: what is wrong with it is in the document's problems."""
    try:
        root = parse(text)
    except YamlError as exc:
        return unreadable(path, exc.problem, exc.line)
    if isinstance(root, Scalar) and root.is_null:
        return Document(path=path)
    if not isinstance(root, Table):
        return unreadable(path, "a file holds jobs by their names, each with its keys below it", root.line)
    return Document(path=path, entries=root.entries)


def unreadable(path: str, problem: str, line: int = 0) -> Document:
    """A file that says nothing, for the reason given."""
    return Document(path=path, entries=None, problems=(Problem(path, line, "", "", problem),))
