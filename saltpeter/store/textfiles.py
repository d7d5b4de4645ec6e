"""Writes the text logs: `<ISO time> <job_instance> <machine> <text>`, in files that are rotated.

It runs in the process of `worker`, and therefore imports little.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, Union

import attrs

from saltpeter.logs import escape, escape_lines

# When, the run, the machine, and what there is to say: a line of our own words, or lines that a command wrote, without
# a newline at the end. A tuple, for there are many, and it is the quickest to hand over.
Entry: TypeAlias = tuple[datetime, str, str, Union[str, bytes]]

_PLAIN = (string.ascii_letters + string.digits + string.punctuation + " \t\n").encode()


@attrs.frozen
class TextFiles:
    """The files in `directory`. One that would grow past `max_bytes` is rotated, and `keep` old ones are kept."""

    directory: Path
    max_bytes: int = 10 * 1024 * 1024
    keep: int = 5

    @contextmanager
    def opened(self) -> Iterator[TextFiles]:
        yield self

    def write(self, entries: Mapping[str, Sequence[Entry]]) -> str:
        """Append to each file, by its name, what is for it. Returns why that cannot be done, and "" when it can."""
        try:
            for name, of_file in entries.items():
                self._append(self.directory / name, b"".join(map(lines, of_file)))
        except OSError as exc:
            return str(exc)
        return ""

    def _append(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.touch(mode=0o640)
        if (size := path.stat().st_size) and size + len(data) > self.max_bytes:
            _rotate(path, self.keep)
            path.touch(mode=0o640)
        with path.open("ab") as file:
            file.write(data)


def lines(entry: Entry) -> bytes:
    """As they stand in the log: harmless, and each with its head."""
    at, run, machine, text = entry
    head = f"{at.isoformat(timespec='milliseconds')} {escape(run)} {escape(machine)} ".encode()
    shown_text = shown(text) if isinstance(text, bytes) else _escaped(text)
    return b"".join((head, shown_text.replace(b"\n", b"\n" + head), b"\n"))


def shown(block: bytes) -> bytes:
    """Lines of a command's output, with everything escaped that is no text; a tab in a table is no harm."""
    # looking for one byte costs next to nothing, for two as much as all else here
    text = block.removesuffix(b"\r").replace(b"\r\n", b"\n") if b"\r" in block else block
    if not text.translate(None, _PLAIN):  # as most output is; that costs a tenth of looking at each character
        return text
    return escape_lines(text.decode("utf-8", "backslashreplace")).encode()


def _escaped(text: str) -> bytes:
    """One line, whatever is in it."""
    return "\t".join(map(escape, text.split("\t"))).encode()


def _rotate(path: Path, keep: int) -> None:
    """path -> path.1 -> path.2 and so on; the oldest of `keep` is overwritten. With 0 the file just begins anew."""
    if keep == 0:
        path.unlink()
        return
    for number in range(keep - 1, 0, -1):
        old = path.with_name(f"{path.name}.{number}")
        if old.exists():
            old.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))
