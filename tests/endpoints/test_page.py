from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from saltpeter.endpoints import page
from saltpeter.endpoints.http import Front
from tests.endpoints.rig import exchange

VENDOR = page.FOLDER / "vendor"


async def get(path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers)
    answer = await exchange(Front(page.routes()), "\r\n".join((*lines, "", "")).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *given = head.decode().split("\r\n")
    return (
        int(status.split()[1]),
        {name.lower(): value for name, value in (line.split(": ", 1) for line in given)},
        body,
    )


async def test_the_page_comes_with_its_policy() -> None:
    status, headers, body = await get("/")
    assert (status, body) == (200, (page.FOLDER / "index.html").read_bytes())
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("unsafe" in rule for rule in policy)


async def test_head_says_the_same_without_the_body() -> None:
    _, of_get, body = await get("/web/app.js")
    status, headers, nothing = await get("/web/app.js", method="HEAD")
    assert (status, nothing) == (200, b"")
    assert headers["content-length"] == str(len(body))
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    assert headers["etag"] == of_get["etag"]


async def test_who_has_it_already_is_told_so() -> None:
    _, headers, _ = await get("/web/style.css")
    for tags in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
        status, again, body = await get("/web/style.css", f"If-None-Match: {tags}")
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert (await get("/web/style.css", 'If-None-Match: "other"'))[0] == 200


@pytest.mark.parametrize(
    "path", ["/web/", "/web/../daemon.py", "/web/%2e%2e/daemon.py", "/web//app.js", "/web/vendor/manifest.json"]
)
async def test_nothing_else_is_served(path: str) -> None:
    assert (await get(path))[0] == 404


async def test_only_reading_is_allowed() -> None:
    status, headers, _ = await get("/", "Content-Length: 0", method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def scripts() -> list[Path]:
    return sorted(page.FOLDER.rglob("*.js"))


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_what_a_script_imports_is_there(script: Path) -> None:
    for name in re.findall(r"""^(?:import|export)[^;]*?from ?['"]([^'"]+)['"]""", script.read_text(), re.MULTILINE):
        assert name.startswith("."), f"{script.name}: a browser cannot find {name!r}"
        assert (script.parent / name).is_file(), f"{script.name} imports {name}"


def test_the_page_says_nothing_inline() -> None:
    index = (page.FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", index) == []


def test_the_libraries_are_those_that_were_pinned() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    wanted = {
        name: file["sha256"] for package in manifest["packages"].values() for name, file in package["files"].items()
    }
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir() if path.suffix != ".json"
    }
    assert found == wanted
    assert all(f"{package}.LICENSE" in found for package in manifest["packages"])
