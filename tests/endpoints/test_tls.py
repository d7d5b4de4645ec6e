"""The certificate that the ports show, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from saltpeter.endpoints.tls import Certificate, CertificateError


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def put(folder: Path, ca: trustme.CA, name: str = "salt.example") -> tuple[Path, Path]:
    leaf = ca.issue_cert(name)
    (folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    return folder / "server.pem", folder / "server.key"


def test_a_new_certificate_is_shown_to_the_next_connection(tmp_path: Path, ca: trustme.CA) -> None:
    certificate = Certificate(*put(tmp_path, ca))
    first = certificate.context()
    assert certificate.context() is first
    put(tmp_path, ca)
    assert certificate.context() is not first


def test_one_that_cannot_be_used_leaves_the_last_in_force(
    tmp_path: Path, ca: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(*put(tmp_path, ca))
    first = certificate.context()
    (tmp_path / "server.pem").write_text("half of a cert")
    assert certificate.context() is first
    assert certificate.context() is first
    assert [text for text in caplog.messages if "stays in force" in text] == caplog.messages
    assert len(caplog.messages) == 1
    put(tmp_path, ca)
    assert certificate.context() is not first


def test_what_is_wrong_is_said(tmp_path: Path, ca: trustme.CA) -> None:
    pem, key = put(tmp_path, ca)
    with pytest.raises(CertificateError, match=r"tls_certificate: .*nowhere cannot be read"):
        Certificate(tmp_path / "nowhere", key)
    with pytest.raises(CertificateError, match=r"tls_key: .*nowhere cannot be read"):
        Certificate(pem, tmp_path / "nowhere")
    (other := tmp_path / "other").mkdir()
    with pytest.raises(CertificateError, match="is not that of the first certificate"):
        Certificate(pem, put(other, ca)[1])
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(CertificateError, match="tls_certificate and tls_key"):
        Certificate(pem, key)
