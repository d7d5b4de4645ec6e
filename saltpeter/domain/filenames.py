"""Names of files for what may be called anything."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

LONGEST = 200  # characters; file systems take 255, and something may be added


def as_file_name(text: str, safe: str = " ") -> str:
    """Percent-encoded but for letters, digits, `_.-~` and `safe`; what is too long ends in its own hash.

    It may still begin with dots: whoever uses it puts something before or behind it.
    """
    name = quote(text, safe=safe)
    return name if len(name) <= LONGEST else f"{name[:160]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
