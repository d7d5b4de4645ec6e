"""What a run's wrappers must show: made from the run's id and a key that only this daemon's state directory holds.

So a token can be judged even for a run that the ledger has lost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

import attrs

from saltpeter.errors import StoreError

KEY_BYTES = 32


@attrs.frozen
class Tokens:
    _key: bytes = attrs.field(repr=False)

    def of(self, run: str) -> str:
        """The token of `run`: the same whenever it is asked for, and of no use for any other run."""
        digest = hmac.new(self._key, run.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:24]).decode()

    def match(self, run: str, shown: str) -> bool:
        """Whether `shown`, which may be anything, is the token of `run`; in constant time."""
        return hmac.compare_digest(self.of(run).encode(), shown.encode())


def load_key(path: Path) -> bytes:
    """The key in `path`, which is made, for its owner only, if need be. Blocks. Raises StoreError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            key = file.read()
    except FileNotFoundError:
        return _make_key(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path} is damaged: remove it, and wrappers that are under way cannot report any more")
    return key


def _make_key(path: Path) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(key)
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return key
