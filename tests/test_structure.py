"""Which way imports point: a part knows what lies below it, and nothing beside or above it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent

# Small things that everything above domain may use.
LEAVES = frozenset({"saltpeter.errors", "saltpeter.logs", "saltpeter.host", "saltpeter.jsontext"})
FROM_THE_WRAPPER = frozenset(
    {"sp_wrapper", "sp_wrapper.wire", "sp_wrapper.frames", "sp_wrapper.codes", "sp_wrapper.seal"}
)

_DOMAIN = frozenset({"saltpeter.domain", "saltpeter.errors", "sp_wrapper.wire", "sp_wrapper.codes"})
_ENGINE = _DOMAIN | LEAVES | {"saltpeter.engine", "sp_wrapper.seal"}
_CLIENT = frozenset({"saltpeter.client"}) | LEAVES
_ASSEMBLY = _ENGINE | {"saltpeter.launch", "saltpeter.store", "saltpeter.endpoints", "sp_wrapper"}
_PARTS = frozenset({"saltpeter.daemon", "saltpeter.lab", "saltpeter.deploy", "saltpeter.store"})
_COMMANDS = _PARTS | {"saltpeter.wrapper_build", "sp_wrapper"}

# What the modules of each part may import of this project.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "saltpeter.errors": frozenset(),
    "saltpeter.logs": frozenset(),
    "saltpeter.jsontext": frozenset(),
    "saltpeter.host": _DOMAIN,
    "saltpeter.domain": _DOMAIN,
    "saltpeter.engine": _ENGINE,
    "saltpeter.launch": _ENGINE | {"saltpeter.launch"},
    "saltpeter.store": _ENGINE | {"saltpeter.store"},
    "saltpeter.endpoints": _ENGINE | {"saltpeter.endpoints", "sp_wrapper.frames"},
    "saltpeter.daemon": _ASSEMBLY,
    "saltpeter.lab": _ENGINE | {"saltpeter.launch"},
    "saltpeter.deploy": _ENGINE | {"saltpeter.launch"},
    "saltpeter.client": _CLIENT,
    "saltpeter.cli": _ENGINE | _CLIENT | _COMMANDS | {"saltpeter.cli", "saltpeter.store"},
    "saltpeter.__main__": frozenset({"saltpeter.cli"}),
    "saltpeter.wrapper_build": frozenset(),
}
MAY_ACT = ("os", "io", "pathlib", "socket", "subprocess", "threading", "asyncio", "trio", "logging", "time", "random")


@attrs.frozen
class Import:
    """One import: of the module `target`, or of the name `target` from a module; where it stands."""

    target: str
    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def imports(file: Path) -> Iterator[Import]:
    """Everything that `file` imports, also inside functions and for type checking only."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (Import(name.name, file, node.lineno) for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert module is not None, f"{file}:{node.lineno}: imports here are absolute"
                assert level == 0, f"{file}:{node.lineno}: imports here are absolute"
                yield from (Import(f"{module}.{name.name}", file, node.lineno) for name in names)


def modules(folder: str) -> list[Path]:
    """The sources below `folder`; a module is a folder of one."""
    path = ROOT / folder
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    wrapper = ROOT / "wrapper" / Path(*name.split("."))
    return any(place.is_dir() or place.with_suffix(".py").is_file() for place in (path, wrapper))


def part_of(target: str) -> str | None:
    """What `target` belongs to: `saltpeter.<part>`, a module of the wrapper, or None for what is not ours."""
    names = target.split(".")
    if names[0] == "saltpeter":
        return ".".join(names[:2])
    if names[0] == "sp_wrapper":
        return ".".join(names[:2]) if is_module(".".join(names[:2])) else names[0]
    return None


def test_every_part_has_its_place() -> None:
    """A new package or module below saltpeter is put into the table above."""
    found = {f"saltpeter.{path.stem}" for path in (ROOT / "saltpeter").iterdir() if has_code(path)}
    assert found == MAY_IMPORT.keys()


def has_code(path: Path) -> bool:
    return path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").is_file())


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_what_lies_below_it_only(part: str) -> None:
    of_ours = [(each, part_of(each.target)) for file in modules(part.replace(".", "/")) for each in imports(file)]
    wrong = [str(each) for each, target in of_ours if target not in (None, *MAY_IMPORT[part])]
    assert wrong == []


def test_the_wrapper_knows_nothing_of_the_daemon() -> None:
    wrong = [str(each) for file in modules("wrapper") for each in imports(file) if each.target.startswith("saltpeter")]
    assert wrong == []


def test_of_the_wrapper_the_daemon_knows_the_words_and_the_version_only() -> None:
    used = [each for file in modules("saltpeter") for each in imports(file) if each.target.startswith("sp_wrapper")]
    assert [str(each) for each in used if part_of(each.target) not in FROM_THE_WRAPPER] == []
    names = {each.target for each in used if part_of(each.target) == "sp_wrapper"}
    assert names <= {"sp_wrapper.__version__"}


def test_the_rules_do_nothing() -> None:
    """No task, no clock, no file and no log in domain: what it decides, it decides from what it is given."""
    wrong = [
        str(each)
        for file in modules("saltpeter/domain")
        for each in imports(file)
        if each.target.split(".")[0] in MAY_ACT and each.target not in ("pathlib.PurePath", "pathlib.PurePosixPath")
    ]
    assert wrong == []


@pytest.mark.parametrize("part", ["saltpeter/domain", "saltpeter/engine"])
def test_the_wall_clock_is_read_in_one_place(part: str) -> None:
    readers = {file.name for file in modules(part) for call in clock_reads(file) if call}
    assert readers <= {"clock.py"}


def clock_reads(file: Path) -> Iterator[ast.Attribute]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                yield node


def test_salt_is_imported_by_one_module() -> None:
    """It takes long to load and takes over logging: who loads it does so late, and knowingly."""
    files = {each.file for file in modules("saltpeter") for each in imports(file) if is_salt(each.target)}
    assert files == {ROOT / "saltpeter" / "launch" / "saltmaster.py"}


def is_salt(target: str) -> bool:
    return target.split(".", maxsplit=1)[0] == "salt"


@pytest.mark.parametrize("name", ["saltpeter/wrapper_build", "dev"])
def test_what_runs_before_anything_is_installed_needs_the_standard_library_only(name: str) -> None:
    [file] = modules(name)
    assert [str(each) for each in imports(file) if not of_the_standard_library(each)] == []


def test_the_build_hook_needs_hatchling_and_the_builder_only() -> None:
    [file] = modules("hatch_build")
    foreign = {each.target.split(".")[0] for each in imports(file) if not of_the_standard_library(each)}
    assert foreign == {"hatchling", "saltpeter"}
    assert {each.target for each in imports(file) if part_of(each.target)} == {"saltpeter.wrapper_build.build"}


def of_the_standard_library(each: Import) -> bool:
    return each.target.split(".")[0] in sys.stdlib_module_names


def test_each_exception_from_the_rules_of_security_has_its_reason() -> None:
    """On its own line, behind the rule: `# noqa: S603  a program of ours`."""
    folders = ("saltpeter", "wrapper", "tests", "tools")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")] + [*ROOT.glob("*.py")]
    bare = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if re.search(r"#\s*(noqa:[A-Z0-9, ]*\bS\d+[A-Z0-9, ]*|nosec\b[B0-9, ]*)\W*$", line)
    ]
    assert not bare
