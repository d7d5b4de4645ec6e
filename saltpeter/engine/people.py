"""The file of people's tokens: read anew whenever it has changed, written by `saltpeter token` only."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from saltpeter.domain.access import GIVEN_OUT, PREFIX, TOKEN_BYTES, Credential, Role, digest_of, is_group, is_name
from saltpeter.errors import SaltpeterError

TOKENS_FILE = "people-tokens.json"  # in the state directory
LARGEST = 4 * 1024**2  # bytes
_KEYS = {"name", "role", "sha256", "created", "by", "groups"}

_Stamp: TypeAlias = "tuple[int, int, int] | None"


class TokenError(SaltpeterError):
    """The file of tokens cannot be used, or cannot be changed like that."""


def load(path: Path) -> tuple[Credential, ...] | None:
    """The tokens in `path`; None if there is no such file. Blocks. Raises TokenError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            text = file.read(LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return tuple(_credential(each) for each in json.loads(text)["tokens"])
    except (ValueError, KeyError, TypeError) as error:
        raise TokenError(f"{path} is damaged: put it back from a backup, or remove it and make new tokens") from error


def _credential(entry: dict[str, Any]) -> Credential:
    """Raises ValueError, KeyError or TypeError; also for what a newer saltpeter may have said: it may be a limit."""
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"unknown keys {unknown}")
    groups = entry.get("groups")
    return Credential(
        name=str(entry["name"]),
        role=Role(entry["role"]),
        digest=str(entry["sha256"]),
        created_at=datetime.fromisoformat(entry["created"]),
        by=str(entry["by"]),
        groups=None if groups is None else _groups(groups),
    )


def _groups(names: Any) -> frozenset[str]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("groups must be a list of names")
    return frozenset(names)


def _entry(credential: Credential) -> dict[str, Any]:
    limited = {} if credential.groups is None else {"groups": sorted(credential.groups)}
    return {
        "name": credential.name,
        "role": credential.role.value,
        "sha256": credential.digest,
        "created": credential.created_at.isoformat(),
        "by": credential.by,
        **limited,
    }


def add(path: Path, name: str, role: Role, groups: Collection[str] = (), *, by: str, at: datetime) -> str:
    """Make a token, which nobody can be told again; for jobs of `groups` only, if any. Blocks. Raises TokenError."""
    if not is_name(name):
        raise TokenError(f"{name!r} cannot be a token's name: up to 64 letters, digits and any of _ . @ -")
    if role not in GIVEN_OUT:
        raise TokenError(f"a token cannot be that of {role.value}")
    for group in groups:
        if not is_group(group):
            raise TokenError(f"{group!r} cannot be a group of jobs: it is a file's name in conf.d, without .yaml")
    with _changing(path) as known:
        if any(each.name == name for each in known):
            raise TokenError(f"there is a token {name!r} already: revoke it first, or choose another name")
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        only = frozenset(groups) or None
        made = Credential(name=name, role=role, digest=digest_of(token), created_at=at, by=by, groups=only)
        _write(path, [*known, made])
    return token


def revoke(path: Path, name: str) -> None:
    """Make the token of that name worthless. Blocks. Raises TokenError."""
    if load(path) is None:  # perhaps not even the directory is there, and it is not to be made
        raise TokenError(f"there is no token {name!r}: none was ever made in {path.parent}")
    with _changing(path) as known:
        left = [each for each in known if each.name != name]
        if len(left) == len(known):
            raise TokenError(f"there is no token {name!r}")
        _write(path, left)


@contextmanager
def _changing(path: Path) -> Iterator[tuple[Credential, ...]]:
    """What is there, while nobody else changes it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise TokenError(f"{path} cannot be changed: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield load(path) or ()
    finally:
        os.close(lock)


def _write(path: Path, credentials: Sequence[Credential]) -> None:
    """All at once or not at all, for its owner only: the daemon's user, whoever of them gives the command."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    owner = path.parent.stat()
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump({"tokens": [_entry(each) for each in credentials]}, file, indent=1)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise TokenError(f"{path} cannot be written: {error.strerror}") from error


@attrs.define(eq=False)
class TokenFile:
    """The tokens as they are now. A file that cannot be read counts as one without tokens: then nobody gets in."""

    path: Path
    problem: str = attrs.field(default="", init=False)  # why nobody gets in
    _stamp: _Stamp = attrs.field(default=None, init=False)
    _known: tuple[Credential, ...] | None = attrs.field(default=None, init=False)

    def current(self) -> tuple[Credential, ...] | None:
        """None while no token was ever made. Costs a look at the file's date."""
        if (stamp := self._look()) != self._stamp:
            self._stamp, self.problem = stamp, ""
            try:
                self._known = load(self.path)
            except TokenError as error:
                self._known, self.problem = (), str(error)
        return self._known

    def _look(self) -> _Stamp:
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_ino, found.st_size)
