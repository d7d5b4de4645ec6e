"""Values that must not be seen in the output: replaced as the bytes come, wherever they are cut. No IO.

Loaded only for commands that have such values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

STARS = b"***"
SHORTEST = 4  # bytes; what is shorter would be found everywhere
SHORTEST_LINE = 8  # of a value of several lines, which are also looked for one by one
PROBE = 8


class Mask:
    """Give it all output, and `end` it: what may be the beginning of a value waits for what follows."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({each for value in values for each in _texts(value)}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values)) or b"(?!)")
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be seen of `data`, and of what was held back before."""
        data = self._held + data
        sure = len(data) - max((_beginning(data, value) for value in self._values), default=0)
        seen, at = [], 0
        for found in self._pattern.finditer(data):
            if found.start() >= sure:
                break
            seen += [data[at : found.start()], STARS]
            at = found.end()
        end = max(at, sure)
        self._held = data[end:]
        return b"".join([*seen, data[at:end]])

    def end(self) -> bytes:
        """What was held back: nothing follows it."""
        held, self._held = self._held, b""
        return self._pattern.sub(STARS, held)


def _texts(value: str) -> Iterator[bytes]:
    """What to look for: the value, and each of its lines that is long enough to tell something."""
    whole = value.encode(errors="surrogateescape").strip()
    if len(whole) >= SHORTEST:
        yield whole
    if len(lines := whole.splitlines()) > 1:
        yield from (line for line in map(bytes.strip, lines) if len(line) >= SHORTEST_LINE)


def _beginning(data: bytes, value: bytes) -> int:
    """How many bytes at the end of `data` begin `value`, without being all of it."""
    at = data.find(value[:1], max(0, len(data) - len(value) + 1))
    while at >= 0:
        if value.startswith(data[at : at + PROBE]) and value.startswith(data[at:]):
            return len(data) - at
        at = data.find(value[:1], at + 1)
    return 0
