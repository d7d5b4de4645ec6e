"""Both ports speak TLS where a certificate is named, and what the certificate is may change while they do."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from trio.testing import MockClock

from saltpeter.client import Access, connect
from saltpeter.endpoints.exchange import Request, Response
from saltpeter.endpoints.http import Front
from saltpeter.endpoints.sockets import SecureListener, listen_tcp
from saltpeter.endpoints.tls import Certificate, CertificateError, load
from saltpeter.lab import free_ports
from tests.helpers.daemon import Daemon, local_daemon

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@attrs.define
class Files:
    """A certificate and its key, as an operator has them."""

    directory: Path
    ca: trustme.CA = attrs.field(factory=trustme.CA)

    @property
    def certificate(self) -> Path:
        return self.directory / "cert.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def trusted(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self) -> None:
        """Put a new certificate in the place of the one before, as tools do that renew them."""
        made = self.ca.issue_cert("127.0.0.1", "localhost")
        self.ca.cert_pem.write_to_path(str(self.trusted))
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        for path, content in ((self.certificate, chain), (self.key, made.private_key_pem.bytes())):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.issue()
    return made


async def hello(request: Request) -> Response:
    return Response(200, b"secure" if request.secure else b"plain")


@asynccontextmanager
async def served(files: Files) -> AsyncIterator[int]:
    """A front with TLS; gives its port."""
    front, certificate = Front({("GET", "/"): hello}), Certificate(files.certificate, files.key)
    async with trio.open_nursery() as nursery:
        listeners = await listen_tcp("127.0.0.1", 0)
        await nursery.start(front.serve, [SecureListener(each, certificate.context) for each in listeners])
        try:
            yield listeners[0].socket.getsockname()[1]
        finally:
            nursery.cancel_scope.cancel()


async def opened(port: int, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
    try:
        with trio.fail_after(60):
            await stream.do_handshake()
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def asked(stream: trio.abc.Stream) -> bytes:
    with trio.fail_after(60):
        await stream.send_all(GET)
        return bytes(await stream.receive_some(4096))


async def test_a_new_certificate_is_shown_to_who_comes_and_who_is_there_stays(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served(files) as port, await opened(port, files.client()) as early:
        shown = early.getpeercert(binary_form=True)
        files.issue()
        async with await opened(port, files.client()) as late:
            assert late.getpeercert(binary_form=True) != shown
            assert "New certificate from" in caplog.text
            assert (await asked(early)).endswith(b"secure")
            assert (await asked(late)).endswith(b"secure")


async def test_files_that_are_no_use_change_nothing_and_are_said_once(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(files) as port:
        files.key.write_text("half a file")
        for _ in range(3):
            async with await opened(port, files.client()) as stream:
                assert (await asked(stream)).endswith(b"secure")
        assert caplog.text.count("The certificate before stays in force: tls_certificate and tls_key: ") == 1
        files.issue()
        async with await opened(port, files.client()) as stream:
            assert (await asked(stream)).endswith(b"secure")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_nothing_below_1_2_is_spoken(files: Files) -> None:
    old = files.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    async with served(files) as port:
        with pytest.raises(trio.BrokenResourceError):
            await opened(port, old)
        new = files.client()
        new.maximum_version = ssl.TLSVersion.TLSv1_2
        async with await opened(port, new) as stream:
            assert stream.version() == "TLSv1.2"


async def test_who_does_not_speak_tls_hears_nothing(files: Files) -> None:
    async with served(files) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with trio.fail_after(60):
            await stream.send_all(GET)
            assert b"HTTP" not in await heard(stream)


async def heard(stream: trio.abc.Stream) -> bytes:
    try:
        return b"".join([bytes(part) async for part in stream])
    except trio.BrokenResourceError:
        return b""


async def test_a_handshake_takes_five_seconds_at_most(files: Files, autojump_clock: MockClock) -> None:
    theirs, ours = trio.testing.memory_stream_pair()
    context = Certificate(files.certificate, files.key).context()
    secure = trio.SSLStream(theirs, context, server_side=True, https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Front({}).converse, secure)
        await ours.send_all(b"\x16\x03\x01")  # the beginning of one
        assert await ours.receive_some() == b""
        assert trio.current_time() == pytest.approx(5)


# --- files ---------------------------------------------------------------------------------------


def other_key(files: Files) -> None:
    files.key.write_bytes(files.ca.issue_cert("localhost").private_key_pem.bytes())


def encrypted(files: Files) -> None:
    files.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda files: files.certificate.unlink(), r"tls_certificate: .*cert.pem cannot be read: No such file"),
        (lambda files: files.key.unlink(), r"tls_key: .*key.pem cannot be read: No such file"),
        (lambda files: files.certificate.write_text("x"), r"must hold a certificate and its key as PEM"),
        (lambda files: files.key.write_text("x"), r"must hold a certificate and its key as PEM"),
        (other_key, r"the key in .*key.pem is not that of the first certificate in .*cert.pem"),
        (encrypted, r"key.pem is encrypted; saltpeter needs it without a passphrase"),
    ],
)
def test_what_is_wrong_with_the_files_is_said(spoil: object, said: str, files: Files) -> None:
    spoil(files)  # type: ignore[operator]
    with pytest.raises(CertificateError, match=said):
        load(files.certificate, files.key)


# --- a daemon ------------------------------------------------------------------------------------


@pytest.fixture
def daemon(files: Files, wrapper_file: Path, tmp_path: Path) -> Iterator[Daemon]:
    [port] = free_ports(1)
    (home := tmp_path / "daemon").mkdir()
    settings = {
        "api_ws": True,
        "api_ws_port": port,
        "tls_certificate": str(files.certificate),
        "tls_key": str(files.key),
        "tls_ca": str(files.trusted),
    }
    with local_daemon(home, wrapper_file, **settings) as made:
        yield made


async def test_people_and_wrappers_talk_to_a_daemon_by_tls(daemon: Daemon, files: Files) -> None:
    daemon.write(short={"command": "echo 12345; exit 3", "targets": ["m1", "m2"]})
    await daemon.start()
    async with daemon.watching("short") as watch:  # by the Unix socket, which needs no TLS
        results = await watch.results(await watch.run("short"))
        assert {machine: each.code for machine, each in results.items()} == {"m1": 3, "m2": 3}
    url = f"wss://127.0.0.1:{daemon.settings['api_ws_port']}"
    with trio.fail_after(60):
        async with connect(url, Access(ca=files.trusted)) as client:
            assert "short" in (await client.request("getLatest", {"crons": ["short"]}))["crons"]
    shown = await daemon.command("jobs", "--url", url, "--ca", str(files.trusted), "--json")
    assert (shown.returncode, b"short" in shown.stdout) == (0, True)
    untrusted = await daemon.command("jobs", "--url", url)
    assert (untrusted.returncode, b"--ca" in untrusted.stderr) == (3, True)
