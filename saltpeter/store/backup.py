"""The store in one file, made while a daemon runs or not; and the way back."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from saltpeter.errors import StoreError
from saltpeter.store.checkup import damage
from saltpeter.store.places import LEDGER_FILE, OUTPUT_DIRECTORY, Places, sync
from saltpeter.store.schema import connect_for_reading

_ENDINGS: dict[str, Literal["w", "w:gz"]] = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}
_NAME = re.compile(rf"({OUTPUT_DIRECTORY}/)?[^/\0]+")  # of what is put back
_CHECK_S = 60.0  # for each file that is put back

Progress = Callable[[str], None]


def back_up(places: Places, target: Path, progress: Progress) -> int:
    """Copy the store into the new file `target`; returns its bytes. `progress` is told of each part.

    Each database is copied as of one instant, the ledger first: what it says was written is there. Nobody who
    writes has to wait; only forgetting does. `target` is there when it is whole. Raises StoreError.
    """
    mode = _mode(target)
    if target.exists():
        raise StoreError(f"{target} exists already")
    if not places.ledger.exists():
        raise StoreError(f"{places.statedir} holds no ledger")
    try:
        with _scratch(target) as scratch, places.kept():
            partial = scratch / target.name
            partial.touch(mode=0o600)  # the ledger holds tokens, and nobody knows what the output holds
            with tarfile.open(partial, mode) as archive:
                _collect(places, archive, scratch / "part", progress)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.rename(target)
        sync(target.parent)
        return target.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the backup failed, and there is no {target}: {error}") from error


def restore(places: Places, source: Path, progress: Progress) -> int:
    """Put back what `source` holds, where there is no store yet; returns the number of files.

    The ledger comes last: a failure leaves no store either. Raises StoreError.
    """
    try:
        with places.occupied(), _scratch(places.ledger) as scratch:
            names = _unpack(source, scratch, progress)
            _make_sure_of(places, scratch, names)
            for name in sorted(names, key=lambda name: name == LEDGER_FILE):
                (scratch / name).rename(places.statedir / name)
            sync(places.output("").parent)
            sync(places.statedir)
        return len(names)
    except (tarfile.TarError, EOFError, zlib.error, sqlite3.Error, OSError) as error:
        raise StoreError(f"{source} cannot be put back: {error}") from error


def _mode(target: Path) -> Literal["w", "w:gz"]:
    for ending, mode in _ENDINGS.items():
        if target.name.endswith(ending):
            return mode
    raise StoreError(f"{target}: the name of a backup ends in {', '.join(_ENDINGS)}")


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A directory for what is not whole yet, on the file system of `target`."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        yield Path(name)


def _collect(places: Places, archive: tarfile.TarFile, part: Path, progress: Progress) -> None:
    """Add each file by its place in the state directory; `part` is where one is copied to on the way."""

    def add(path: Path, copied: Path) -> None:
        archive.add(copied, str(path.relative_to(places.statedir)))

    progress(places.ledger.name)
    _copy(places.ledger, part)
    add(places.ledger, part)
    for partition in places.partitions():  # listed after that copy, so that none is missing that it speaks of
        progress(partition.path.name)
        _copy(partition.path, part)
        add(partition.path, part)
    for path in places.others():
        progress(path.name)
        add(path, path)


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    with closing(connect_for_reading(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)  # all at once, which is one reading of one state


def _unpack(source: Path, scratch: Path, progress: Progress) -> list[str]:
    """Returns the names, each below `scratch` now. What has no business in a store is an error."""
    (scratch / OUTPUT_DIRECTORY).mkdir(mode=0o700)
    names = []
    with tarfile.open(source) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() and _NAME.fullmatch(member.name) else None
            if content is None or member.name in ("..", f"{OUTPUT_DIRECTORY}/..", OUTPUT_DIRECTORY):
                raise StoreError(f"{source} is no backup of saltpeter: it holds {member.name!r}")
            progress(member.name)
            names.append(member.name)
            with (scratch / member.name).open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
    return names


def _make_sure_of(places: Places, scratch: Path, names: list[str]) -> None:
    """All is there, nothing is damaged, and nothing is in its way. Raises StoreError."""
    if LEDGER_FILE not in names:
        raise StoreError(f"it is no backup of saltpeter: there is no {LEDGER_FILE} in it")
    for name in names:
        if name.endswith(".sqlite") and (found := damage(scratch / name, _CHECK_S)):
            raise StoreError(f"{name} in it is damaged ({found})")
        if (there := places.statedir / name).exists():
            raise StoreError(f"{there} exists: move what is in {places.statedir} away first")
