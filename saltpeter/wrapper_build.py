"""Builds the wrapper's single file: a zip of it and of what it imports, that a shell line starts.

Needs the standard library only, because it runs while the package itself is being built.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

BUNDLED = (
    "trio",
    "trio-websocket",
    "wsproto",
    "h11",
    "attrs",
    "outcome",
    "sniffio",
    "sortedcontainers",
    "idna",
    "exceptiongroup",
    "typing-extensions",
)
LEFT_OUT = ("tests", "_tests", "testing", "_tools", "__pycache__")  # directories
PATHS_OF_PYTHON = ("python3", "/usr/bin/python3", "/usr/local/bin/python3", "/opt/saltstack/salt/bin/python3")

# By a descriptor, because a reporter may be loaded long after the file was replaced by a newer version. For any Python.
START = (
    "import os; archive = os.open(sys.argv[0], os.O_RDONLY); parts = 'py%d%d' % sys.version_info[:2], 'lib';"
    " sys.path[:0] = ['/proc/self/fd/%d/%s' % (archive, part) for part in parts];"
    " from sp_wrapper.boot import main; main(archive)"
)

# Given a file, Python would load runpy first, and read the archive's directory once more than it has to. The code
# begins with a name, for whoever looks at a list of processes.
HEADER = f"""#!/bin/sh
# saltpeter's wrapper: runs one command and reports it. A zip archive follows these lines.
for python in {" ".join(PATHS_OF_PYTHON)}; do
    if command -v "$python" >/dev/null 2>&1; then
        exec "$python" -I -S -c "'sp_wrapper'; import sys; del sys.argv[0]; {START}" "$0" "$@"
    fi
done
echo "sp_wrapper: no python3 was found on this machine ($PATH); Python 3.10 or newer is needed" >&2
exit 1
"""

# Unchecked: inside an archive there is no source file whose time could be compared.
COMPILER = """
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin:
    source, target, name = line.rstrip("\\n").split("\\t")
    py_compile.compile(source, target, name, doraise=True, invalidation_mode=mode)
print("py%d%d" % sys.version_info[:2])
"""


class BuildError(Exception):
    """The file cannot be built here."""


def build(target: Path, pythons: Sequence[str] = (sys.executable,), wrapper: Path | None = None) -> None:
    """Write the wrapper's file to `target`. Raises BuildError.

    It runs on every Python from 3.10 on, and starts in half the time on those given as `pythons`, whose compiled
    modules go into it. `wrapper` is the directory of sp_wrapper, by default the installed one.
    """
    modules = _modules(wrapper or _installed_wrapper())
    contents = {f"lib/{name}": path.read_bytes() for name, path in modules.items()}
    contents["__main__.py"] = f"import sys; del sys.path[0]; {START}".encode()
    contents |= _licences()
    for python in pythons:
        contents |= _compiled(python, modules)
    _write(target, contents)


def _installed_wrapper() -> Path:
    spec = importlib.util.find_spec("sp_wrapper")
    if spec is None or spec.origin is None:
        raise BuildError("sp_wrapper is not installed here")
    return Path(spec.origin).parent


def _modules(wrapper: Path) -> dict[str, Path]:
    """Every source file that goes in, by its name below a directory of modules."""
    found = {f"sp_wrapper/{path.name}": path for path in sorted(wrapper.glob("*.py"))}
    for name in BUNDLED:
        found |= _modules_of(_distribution(name))
    return found


def _modules_of(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in distribution.files or ():
        if file.suffix == ".py" and ".." not in file.parts and not set(file.parts) & set(LEFT_OUT):
            yield file.as_posix(), Path(str(distribution.locate_file(file)))


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as exc:
        raise BuildError(f"{name}, which goes into the wrapper, is not installed here") from exc


def _licences() -> dict[str, bytes]:
    found = {}
    for name in BUNDLED:
        distribution = _distribution(name)
        for file in distribution.files or ():
            if "licen" in file.name.lower() and file.suffix != ".py":
                found[f"licenses/{name}/{file.name}"] = distribution.locate_file(file).read_bytes()  # type: ignore[attr-defined]
    return found


def _compiled(python: str, modules: Mapping[str, Path]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        targets = {name: Path(folder, str(number)) for number, name in enumerate(sorted(modules))}
        lines = [f"{modules[name]}\t{target}\t{name}\n" for name, target in targets.items()]
        done = subprocess.run(  # noqa: S603 - the interpreters that the caller named
            [python, "-I", "-S", "-c", COMPILER], input="".join(lines), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BuildError(f"{python} could not compile the modules: {done.stderr.strip()[-400:]}")
        return {f"{done.stdout.strip()}/{name}c": target.read_bytes() for name, target in targets.items()}


def _write(target: Path, contents: Mapping[str, bytes]) -> None:
    """Sorted and with one date for all, so that the same sources give the same file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(HEADER.encode())
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(contents):
                archive.writestr(_entry(name), contents[name])
    draft.chmod(0o755)
    draft.replace(target)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    # What every start loads is not compressed: it would take a tenth of the time to the command, and to the connection.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".pyc") else zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry
