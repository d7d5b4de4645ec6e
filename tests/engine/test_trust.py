from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path

import pytest
import trustme

from saltpeter.engine.trust import LONGEST, handed_over
from saltpeter.errors import LaunchError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """server.pem: a key, a certificate and its chain, as many programs like it; ca.pem."""
    ca = trustme.CA()
    ca.create_child_ca().issue_cert("salt.example").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path


def test_without_tls_there_is_nothing_to_know(files: Path) -> None:
    assert not handed_over(None, None)
    assert not handed_over(None, str(files / "ca.pem"))


def test_the_fingerprint_is_that_of_the_first_certificate(files: Path) -> None:
    text = (files / "server.pem").read_text()
    first = text[text.index("-----BEGIN CERTIFICATE") :].partition("-----END CERTIFICATE-----")[0]
    der = ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----")
    assert handed_over(str(files / "server.pem"), None) == {"SP_TLS_FINGERPRINT": sha256(der).hexdigest()}


def test_a_ca_goes_as_it_is_and_a_key_beside_it_does_not(files: Path) -> None:
    given = handed_over(str(files / "server.pem"), str(files / "ca.pem"))
    assert given == {"SP_TLS_CA": (files / "ca.pem").read_text()}
    ssl.create_default_context(cadata=given["SP_TLS_CA"])
    assert "PRIVATE KEY" not in handed_over(str(files / "server.pem"), str(files / "server.pem"))["SP_TLS_CA"]


def test_what_the_machines_trust_needs_no_words(files: Path) -> None:
    assert not handed_over(str(files / "server.pem"), "system")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), ("no PEM", "holds no certificate"), ("x" * LONGEST, "holds no certificate")],
)
def test_what_cannot_be_handed_over_says_why(content: str | None, problem: str, files: Path) -> None:
    if content is not None:
        (files / "other").write_text(content)
    with pytest.raises(LaunchError, match=f"tls_ca: .*{problem}"):
        handed_over(str(files / "server.pem"), str(files / "other"))


def test_a_whole_bundle_does_not_fit(files: Path) -> None:
    (files / "bundle").write_text((files / "ca.pem").read_text() * 200)
    with pytest.raises(LaunchError, match="name the one CA alone"):
        handed_over(str(files / "server.pem"), str(files / "bundle"))
