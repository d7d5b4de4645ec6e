"""The certificate that the ports show: read again whenever its files have changed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TypeAlias

import attrs

from saltpeter.errors import SaltpeterError
from saltpeter.logs import fields

_Stamp: TypeAlias = "tuple[int, int, int]"

log = logging.getLogger(__name__)


class CertificateError(SaltpeterError):
    """Certificate and key cannot be used."""


@attrs.define(eq=False)
class Certificate:
    """A certificate, with its chain, and its key: two files of PEM.

    New connections get what the files hold then, open ones keep what they have. Files that cannot be used change
    nothing, which is logged once.
    """

    certificate: Path
    key: Path
    _stamps: tuple[_Stamp, _Stamp] = attrs.field(init=False)
    _context: ssl.SSLContext = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Raises CertificateError."""
        self._stamps = self._look()
        self._context = load(self.certificate, self.key)

    def context(self) -> ssl.SSLContext:
        """For a new connection. Costs a look at the files' dates."""
        if (stamps := self._look()) != self._stamps:
            self._stamps = stamps
            try:
                self._context = load(self.certificate, self.key)
            except CertificateError as error:
                log.error("The certificate before stays in force: %s", error, extra=fields("certificate.rejected"))
            else:
                log.info("New certificate from %s", self.certificate, extra=fields("certificate.loaded"))
        return self._context

    def _look(self) -> tuple[_Stamp, _Stamp]:
        return _stamp(self.certificate), _stamp(self.key)


def load(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server needs to show them; TLS 1.2 at least. Raises CertificateError, which says whose fault it is."""
    for setting, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise CertificateError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # else OpenSSL would ask at the terminal
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(f"tls_certificate and tls_key: {_why(error, certificate, key)}") from error
    return context


def _why(error: Exception, certificate: Path, key: Path) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key} is not that of the first certificate in {certificate}"
    try:
        text = key.read_text(errors="replace")
    except OSError:
        text = ""
    if "ENCRYPTED" in text:
        return f"the key in {key} is encrypted; saltpeter needs it without a passphrase, readable for its user only"
    return f"{certificate} and {key} must hold a certificate and its key as PEM ({reason or error})"


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()  # of what a link leads to: certificates are often changed by changing links
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
