"""By which names the daemon may be called, so that no page whose name was made to lead here speaks for its reader."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from saltpeter.endpoints.auth import Gate, NoTokens
from saltpeter.endpoints.hosts import is_ours, own_names
from tests.endpoints.rig import exchange, now
from tests.endpoints.scene import Scene

NAMES = (*own_names("Cron01.example.org"), "jobs.example.org")

OURS = (
    *("localhost", "LOCALHOST:8888", "127.0.0.1:8888", "[::1]:8888", "10.1.2.3"),
    *("cron01.example.org", "cron01:8888", "jobs.example.org.", "jobs.example.org:443"),
)
NOT_OURS = (
    *("", "[", ":8888", "evil.example", "[evil.example]", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("example.org", "cron01.example.org.evil", "localhost@evil.example", "2130706433.", "127.1"),
)


@pytest.mark.parametrize("host", OURS)
def test_addresses_and_our_own_names_are_ours(host: str) -> None:
    assert is_ours(host, NAMES)


@pytest.mark.parametrize("host", NOT_OURS)
def test_all_others_are_not(host: str) -> None:
    assert not is_ours(host, NAMES)


async def asked(host: str, *more: str, path: str = "/version", method: str = "GET") -> bytes:
    front = Scene(gate=Gate(NoTokens(), b"key", now, hosts=lambda: NAMES)).front()
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *more, "", ""])
    return await exchange(front, head.encode())


async def test_a_page_whose_name_was_made_to_lead_here_gets_nothing(autojump_clock: MockClock) -> None:
    assert (await asked("cron01:8888")).startswith(b"HTTP/1.1 200 ")
    for path in ("/version", "/", "/ws", "/whoami"):
        answer = await asked("evil.example:8888", "Origin: http://evil.example:8888", path=path)
        assert answer.startswith(b"HTTP/1.1 421 ")
        assert b"api_ws_hosts" in answer


async def test_nor_does_its_websocket(autojump_clock: MockClock) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    head = "\r\n".join(["GET /ws HTTP/1.1", "Host: evil.example", "Connection: Upgrade", *upgrade, "", ""])
    front = Scene(gate=Gate(NoTokens(), b"key", now, hosts=lambda: NAMES)).front()
    assert (await exchange(front, head.encode())).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_request_that_a_browser_says_is_anothers_does_nothing(site: str, autojump_clock: MockClock) -> None:
    answer = await asked("localhost", f"Sec-Fetch-Site: {site}", path="/logout", method="POST")
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_every_answer_tells_browsers_what_it_is_not_for(autojump_clock: MockClock) -> None:
    for path in ("/version", "/healthz", "/nothing"):
        head = (await asked("localhost", path=path)).partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
        for line in (
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "cross-origin-resource-policy: same-origin",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
        ):
            assert line in head, path
