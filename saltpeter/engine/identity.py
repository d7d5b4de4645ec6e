"""Is a wrapper on the machine that it speaks for? Proven by the minion's key, which the Salt master has accepted."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import TYPE_CHECKING

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.execution import NotProven
from sp_wrapper import seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LONGEST_PROOF = 4096  # characters


def check(keys: str, of: ExecutionId, secret: str, proof: str) -> None:
    """Raises NotProven unless `proof` was made with the private half of the machine's key in the folder `keys`."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  only where machines prove themselves
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    if not proof:
        raise NotProven(f"nothing proves that it is on {of.machine} (machine_keys); its own log says why")
    key, claimed = _key(keys, of.machine), seal.claimed(of.run, of.machine, of.attempt, secret)
    try:
        key.verify(binascii.a2b_base64(proof[:LONGEST_PROOF]), claimed, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError) as exc:
        raise NotProven(f"its proof is not by the key of {of.machine} (machine_keys)") from exc


def _key(keys: str, machine: str) -> RSAPublicKey:
    """Blocks for a small file. Raises NotProven."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    if "/" in machine or "\0" in machine or machine in ("", ".", ".."):
        raise NotProven(f"no machine of Salt's can be called {machine!r}")
    path = Path(keys) / machine
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise NotProven(f"machine_keys: {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise NotProven(f"machine_keys: {path} holds no public key (PEM)") from exc
    if not isinstance(key, rsa.RSAPublicKey):
        raise NotProven(f"machine_keys: {path} holds no RSA key")
    return key
