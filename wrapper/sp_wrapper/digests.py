"""SHA-256 as the interpreter itself has it: hashlib loads OpenSSL first, which holds up each command's start."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]  # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:  # built without it
        from hashlib import sha256 as _sha256


def sha256(data: bytes) -> bytes:
    """The digest of `data`."""
    return bytes(_sha256(data).digest())
