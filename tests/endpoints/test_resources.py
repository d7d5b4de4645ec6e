"""What plain HTTP offers beside the WebSocket."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import Started
from saltpeter.endpoints.permissions import OF_ROUTES
from saltpeter.endpoints.readiness import PATIENCE_S, Check, Finding, judge, of_config, of_launcher, of_store
from saltpeter.engine.board import Board
from saltpeter.engine.storage import StoreHealth, Writing
from saltpeter.errors import StoreError
from tests.endpoints.rig import NOON, exchange, now
from tests.endpoints.scene import DB01, HEALTH, RUN, Scene
from tests.helpers.fake_launcher import FakeLauncher


async def ask(scene: Scene, method: str, target: str, body: object = None) -> tuple[int, Any]:
    """The status, and what the JSON says."""
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n\r\n"
    answer = await exchange(scene.front(), head.encode() + sent)
    head_sent, _, content = answer.partition(b"\r\n\r\n")
    is_json = b"application/json" in head_sent
    return int(answer.split()[1]), json.loads(content) if is_json and content else content.decode()


@pytest.mark.parametrize("path", ["/version", "/healthz", "/config", "/running", "/status"])
async def test_state_can_be_read(path: str, autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    status, said = await ask(scene, "GET", path)
    assert status == 200
    assert "secret!" not in json.dumps(said)
    shown = {"/version": {"version": "1.0"}, "/running": {RUN: {**said.get(RUN, {}), "name": "backup"}}}
    assert said == shown.get(path, said)
    keys = {"/healthz": {"status", "now"}, "/config": {"crons", "problems"}, "/status": {"running", "last_state"}}
    assert keys.get(path, set()) <= said.keys()
    assert await ask(scene, "HEAD", path) == (200, "")


async def test_the_timeline_of_a_span(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.start("db01")
    scene.post(Started(execution=DB01, pid=7, version="1.0", at=now()))
    until = (NOON + timedelta(hours=1)).isoformat()  # with a plus, which an URL may carry as it is
    status, said = await ask(scene, "GET", f"/timeline?start_date=now-1h&end_date={until}&id=a")
    assert status == 200
    assert (said["id"], said["content"][0]["msg_type"]) == ("a", "machine_start")
    status, said = await ask(scene, "GET", "/timeline?start_date=now-1h")
    assert (status, said) == (400, {"error": {"code": "bad_value", "message": "timeline.end_date is missing"}})


async def test_jobs_can_be_run_and_killed(autojump_clock: MockClock) -> None:
    scene = Scene()
    assert await ask(scene, "POST", "/run", {"cron": "backup", "machines": ["db01"]}) == (202, {"job_instance": RUN})
    scene.start("db01")
    status, said = await ask(scene, "POST", "/kill", {"cron": "backup", "machine": "db01", "job_instance": RUN})
    assert (status, said) == (202, {"runs": [{"job_instance": RUN, "machines": ["db01"], "told": ["db01"]}]})
    assert [each[:2] for each in scene.asked] == [("run", "backup"), ("kill", "backup")]


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        ("/run", {"cron": "nothing"}, 404, "unknown_job"),
        ("/run", {"cron": "broken"}, 503, "store_failed"),
        ("/run", {"cron": "backup", "when": 1}, 400, "unknown_field"),
        ("/run", {}, 400, "bad_value"),
        ("/run", b"not JSON", 400, "bad_json"),
        ("/kill", {"cron": "backup"}, 409, "not_running"),
        ("/kill", [], 400, "bad_json"),
    ],
)
async def test_refusals_have_a_status_and_a_code(
    target: str, body: object, status: int, code: str, autojump_clock: MockClock
) -> None:
    said_status, said = await ask(Scene(), "POST", target, body)
    assert (said_status, said["error"]["code"]) == (status, code)
    assert said["error"]["message"]


async def test_a_page_of_another_site_cannot_run_a_job(autojump_clock: MockClock) -> None:
    scene = Scene()
    sent = b'{"cron": "backup"}'
    head = (
        f"POST /run HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: {len(sent)}\r\n\r\n"
    )
    assert (await exchange(scene.front(), head.encode() + sent)).startswith(b"HTTP/1.1 403 ")
    assert scene.asked == []


READABLE = sorted(path for method, path in OF_ROUTES if method == "GET" and path != "/ws")
CHANGING = sorted(path for method, path in OF_ROUTES if method == "POST")


async def answered(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head, _, body = (await exchange(Scene().front(), sent.encode())).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize("path", READABLE)
async def test_head_is_a_get_without_its_body(path: str, autojump_clock: MockClock) -> None:
    wanted = f"{path}?start_date=now-1h&end_date=now" if path == "/timeline" else path
    status, headers, body = await answered("GET", wanted)
    assert (status, int(headers["content-length"])) == (200, len(body))
    assert await answered("HEAD", wanted) == (status, headers, b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(("POST", path, "GET, HEAD") for path in READABLE),
        *(("GET", path, "POST") for path in CHANGING),
        ("DELETE", "/run", "POST"),
        ("PUT", "/config", "GET, HEAD"),
    ],
)
async def test_another_method_is_told_which_are_allowed(
    method: str, path: str, allowed: str, autojump_clock: MockClock
) -> None:
    status, headers, _ = await answered(method, path)
    assert (status, headers["allow"]) == (405, allowed)


# --- ready? --------------------------------------------------------------------------------------


async def fine() -> Finding:
    return Finding(True, "fine")


async def dead() -> Finding:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(
    ("checks", "status", "text"),
    [
        ({"store": fine}, 200, "fine"),
        ({"salt": dead, "store": fine}, 503, "fine"),
        ({"store": dead}, 503, f"no answer within {PATIENCE_S:g} seconds"),
    ],
)
async def test_ready_is_who_has_all_that_it_needs(
    checks: dict[str, Check], status: int, text: str, autojump_clock: MockClock
) -> None:
    said_status, said = await ask(Scene(checks=checks), "GET", "/readyz")
    assert (said_status, said["ready"]) == (status, status == 200)
    assert said["checks"]["store"]["text"] == text


async def test_what_is_looked_at(autojump_clock: MockClock) -> None:
    scene = Scene()
    assert await of_config(scene.board)() == Finding(True, "2 jobs in force, 0 problems")
    salt = FakeLauncher({})
    assert await of_launcher(salt, "Salt")() == Finding(True, "Salt answers")
    salt.master_up = False
    assert await of_launcher(salt, "Salt")() == Finding(False, "Salt does not answer: no run can be started")

    async def lost() -> StoreHealth:
        raise StoreError("gone")

    assert await of_store(lost)() == Finding(False, "the store cannot be read: gone")
    assert await of_store(scene.shelf.health)() == judge(HEALTH)
    full = attrs.evolve(HEALTH, output=Writing(failing_since=NOON, why="the disk is full"))
    assert judge(full) == Finding(False, f"the output cannot be written since {NOON.isoformat()}: the disk is full")
    assert isinstance(scene.board, Board)
