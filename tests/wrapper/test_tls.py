"""The wrapper verifies the daemon before it says anything to it. Real TLS, certificates of our own."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import attrs
import pytest
import trustme

from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, names
from tests.wrapper.daemon import Daemon, running_daemon


def shown(ca: trustme.CA, *hosts: str) -> tuple[ssl.SSLContext, str]:
    """What a server shows that has a certificate of `ca`, and the fingerprint."""
    certificate = ca.issue_cert(*hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    return context, sha256(der).hexdigest()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def daemon(ca: trustme.CA) -> AsyncIterator[Daemon]:
    async with running_daemon(shown(ca, "127.0.0.1")[0]) as running:
        yield running


@pytest.fixture
def machine(machine: Machine, daemon: Daemon) -> Machine:
    return attrs.evolve(machine, url=f"wss://127.0.0.1:{daemon.port}/ws")


@pytest.fixture
def impatient(impatient: Machine, daemon: Daemon) -> Machine:
    return attrs.evolve(impatient, url=f"wss://127.0.0.1:{daemon.port}/ws")


def pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


async def test_a_daemon_of_the_right_ca_is_told_everything(machine: Machine, daemon: Daemon, ca: trustme.CA) -> None:
    await machine.start("job_1", "seq 100000", SP_TLS_CA=pem(ca))
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"] == b"".join(b"%d\n" % number for number in range(1, 100_001))


async def test_a_daemon_of_the_right_certificate_is(machine: Machine, daemon: Daemon, ca: trustme.CA) -> None:
    daemon.vanish()
    daemon.tls, fingerprint = shown(ca, "another-name.example")
    await daemon.come_back()
    colons = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    await machine.start("job_1", "echo hello", SP_TLS_FINGERPRINT=colons)
    assert (await daemon.end_of("job_1")).retcode == 0


@pytest.mark.parametrize(
    "given", ["another CA", "another name", "another certificate", "nothing", "nonsense", "no TLS"]
)
async def test_nobody_else_is_told_anything(
    given: str, impatient: Machine, daemon: Daemon, ca: trustme.CA, tmp_path: Path
) -> None:
    """It says so, keeps what there is to tell, and tells it when the right one answers."""
    trust = {"SP_TLS_CA": pem(ca)}
    wrong = {
        "another CA": shown(trustme.CA(), "127.0.0.1")[0],
        "another name": shown(ca, "another-name.example")[0],
        "no TLS": None,
    }
    right, fingerprint = shown(ca, "127.0.0.1")
    if given == "another certificate":
        trust = {"SP_TLS_FINGERPRINT": fingerprint}
    elif given in ("nothing", "nonsense"):
        trust = {"SP_TLS_CA": "" if given == "nothing" else "no PEM"}
    daemon.vanish()
    daemon.tls = wrong.get(given, shown(ca, "127.0.0.1")[0])
    await daemon.come_back()
    await impatient.start("job_1", "echo precious", SP_WRAPPER_LOGDIR=str(tmp_path), **trust)
    claim = impatient.claim("job_1")
    await eventually(claim.trouble)
    await eventually((tmp_path / "sp_wrapper.log").exists)
    status = json.loads((await impatient.ask("--status", "job_1"))[1])
    assert "127.0.0.1" in status["trouble"] or given == "nonsense"
    log = (tmp_path / "sp_wrapper.log").read_text()
    assert log.count("what there is to report is kept") == 1
    assert not daemon.frames
    if given in ("nothing", "nonsense"):
        return
    daemon.vanish()
    daemon.tls = right
    await daemon.come_back()
    assert (await daemon.end_of("job_1")).retcode == 0
    assert daemon.output["job_1"] == b"precious\n"
    await eventually(lambda: not names(impatient.statedir / "pending"))
    assert not claim.trouble()


async def test_a_fingerprint_that_is_none_is_refused_at_once(machine: Machine) -> None:
    code, said = await machine.start("job_1", "true", SP_TLS_FINGERPRINT="ab:cd")
    assert (code, "SP_TLS_FINGERPRINT must be a SHA-256 in hex" in said) == (255, True)
