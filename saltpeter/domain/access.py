"""Who asks for something over the control socket, and what a role is. No IO."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import datetime

import attrs

PREFIX = "sp_"  # begins every token, so that tools which look for leaked secrets know one when they see it
TOKEN_BYTES = 32
LONGEST_NAME = 64

_NAME = re.compile(rf"[A-Za-z0-9_.@-]{{1,{LONGEST_NAME}}}")


class Role(enum.Enum):
    """Each may do what those before it may."""

    NOBODY = "nobody"  # has shown nothing that we know
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        return _RANKS[self] >= _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}
GIVEN_OUT = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


@attrs.frozen(kw_only=True)
class Credential:
    """A token as we remember it: never the token itself.

    A plain SHA-256 is enough, since a token is 256 random bits: there is nothing to guess that a salt or a slow hash
    would guard.
    """

    name: str
    role: Role
    digest: str
    created_at: datetime  # aware
    by: str  # who made it
    groups: frozenset[str] | None = None  # whose jobs it is for; None: all jobs, and what concerns them all


@attrs.frozen(kw_only=True)
class Person:
    """Who asks. `by` is their name in the ledger and the audit; `peer` is from where, for people.

    `credential` is what they have shown; None for who needs none: a Unix socket's file mode has let them in, or
    no token exists.
    """

    by: str
    role: Role
    peer: str = ""
    credential: Credential | None = None

    @property
    def groups(self) -> frozenset[str] | None:
        """Whose jobs they may know of; None: all."""
        return None if self.credential is None else self.credential.groups


NOBODY = Person(by="nobody", role=Role.NOBODY)


def is_name(text: str) -> bool:
    """Whether a token may be called so: nothing that needs quoting anywhere, and no `:`, which our own names have."""
    return _NAME.fullmatch(text) is not None


def is_group(text: str) -> bool:
    """Whether a file of conf.d can make a group of jobs that is called so."""
    return bool(text) and text.isprintable() and "/" not in text and not text.endswith((".yaml", ".yml"))


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def recognise(credentials: Iterable[Credential], token: str) -> Credential | None:
    """Whose token that is. All are compared, each in constant time."""
    shown = digest_of(token)
    found = None
    for each in credentials:
        if hmac.compare_digest(each.digest, shown):
            found = each
    return found
