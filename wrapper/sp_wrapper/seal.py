"""What of an order is signed, and for whom it is. A pure leaf that the daemon shares, light for the command's sake.

Signed is every variable of the order but those that differ between machines, or are made on them. The signature is
OpenSSH's, made by `ssh-keygen -Y sign` and verified by `ssh-keygen -Y verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sp_wrapper.digests import sha256

NAMESPACE = "saltpeter-order"  # no signature that was made for anything else counts, nor does ours elsewhere
SIGNER = "saltpeter"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"

NAMES, SIGNATURE = "SP_SIGNED", "SP_SIGNATURE"
UNSIGNED = frozenset({NAMES, SIGNATURE, "SP_MACHINE_ID", "SP_MACHINE_KEY", "SP_STATEDIR", "SP_SECRET"})
MARK_BYTES = 4


def text(values: Mapping[str, str], names: Collection[str], encode: Callable[[str], bytes]) -> bytes:
    """The bytes to sign: each variable with its value, in the order of their names."""
    return b"".join(encode(f"{name}={values[name]}") + b"\0" for name in sorted(names))


def mark(run: str, machine: str) -> bytes:
    """Stands for a machine in the order for many, where ids would take too much room."""
    return sha256(f"{run}\0{machine}".encode(errors="surrogateescape"))[:MARK_BYTES]


def is_for(marks: bytes, run: str, machine: str) -> bool:
    """Is `machine` among those that the order is for?"""
    own = mark(run, machine)
    return any(marks[at : at + MARK_BYTES] == own for at in range(0, len(marks), MARK_BYTES))


def claimed(run: str, machine: str, attempt: int, secret: str) -> bytes:
    """What a machine's own key signs, where the daemon wants that: that who shows `secret` is on `machine`."""
    shown = sha256(secret.encode(errors="surrogateescape")).hex()
    return "\0".join(("saltpeter-machine", run, machine, str(attempt), shown)).encode(errors="surrogateescape")
