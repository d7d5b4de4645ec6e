"""How the wrappers know this daemon, where the machines' port speaks TLS: handed over with each order."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from saltpeter.errors import LaunchError

OF_THE_MACHINE = "system"  # in the place of a file: whom each machine trusts anyway
LONGEST = 64 * 1024  # bytes of certificates, which have to fit into a variable
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

NOTHING: Mapping[str, str] = MappingProxyType({})


def handed_over(certificate: str | None, ca: str | None) -> Mapping[str, str]:
    """The wrapper's variables that say who the daemon is: its CA, or its certificate's fingerprint; none without TLS.

    Blocks. Raises LaunchError.
    """
    if certificate is None or ca == OF_THE_MACHINE:
        return NOTHING
    if ca is not None:
        return {"SP_TLS_CA": "\n".join(_certificates("tls_ca", ca)) + "\n"}
    first, *_ = _certificates("tls_certificate", certificate)
    return {"SP_TLS_FINGERPRINT": sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()}


def _certificates(setting: str, path: str) -> list[str]:
    """What stands between the lines of PEM, and nothing else of the file: there may be a key in it."""
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        raise LaunchError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    found = [f"{_BEGIN}{part.partition(_END)[0]}{_END}" for part in text.split(_BEGIN)[1:] if _END in part]
    if not found:
        raise LaunchError(f"{setting}: {path} holds no certificate (PEM)")
    if sum(map(len, found)) > LONGEST:
        raise LaunchError(f"{setting}: {path} holds more than {LONGEST} bytes of certificates; name the one CA alone")
    return found
