"""Who gets in at the control port, and how far: every request and every route, with every role and with none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_args

import attrs
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionRejected

from saltpeter.domain.access import GIVEN_OUT, NOBODY, Credential, Person, Role, digest_of
from saltpeter.endpoints import permissions, verbs
from saltpeter.endpoints.auth import SESSION_S, Gate
from saltpeter.endpoints.channel import UNWELCOME
from saltpeter.endpoints.control import ControlEndpoint
from saltpeter.endpoints.control_wire import decode
from saltpeter.endpoints.http import Front
from saltpeter.endpoints.throttle import FREE, LONGEST_S, REMEMBERED, Throttle, delay_s, is_worth_a_record, network_of
from tests.endpoints.rig import NOON, dial, exchange, now
from tests.endpoints.scene import Scene

TOKENS = {role: f"sp_{role.value}" for role in GIVEN_OUT}


def credential(name: str, role: Role, token: str) -> Credential:
    return Credential(name=name, role=role, digest=digest_of(token), created_at=NOON, by="unix:root")


@attrs.define(eq=False)
class Known:
    """The tokens of this test."""

    credentials: tuple[Credential, ...] | None = tuple(credential(r.value, r, TOKENS[r]) for r in GIVEN_OUT)
    problem: str = ""

    def current(self) -> tuple[Credential, ...] | None:
        return self.credentials


def scene_with(known: Known | None = None, *, required: bool = False) -> Scene:
    return Scene(gate=Gate(known or Known(), b"key", now, lambda: required))


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


async def ask(front: Front, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """One request of its own connection. Underscores in names of headers are dashes."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", "Connection: close"]
    answer = await exchange(front, "\r\n".join([*head, *lines, "", ""]).encode() + content)
    top, _, rest = answer.partition(b"\r\n\r\n")
    first, *fields = top.decode().split("\r\n")
    there = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    is_json = there.get("content-type") == "application/json"
    return Answer(int(first.split()[1]), there, json.loads(rest) if is_json and rest else rest)


def bearer(role: Role) -> dict[str, str]:
    return {} if role is Role.NOBODY else {"Authorization": f"Bearer {TOKENS[role]}"}


# --- the tables ----------------------------------------------------------------------------------


def test_every_request_is_in_the_table() -> None:
    assert permissions.OF_REQUESTS.keys() == set(get_args(verbs.Verb))


def test_every_route_is_in_the_table() -> None:
    scene = scene_with()
    there = ControlEndpoint(scene.board, scene.shelf, scene, "1.0", now, scene.gate).routes().keys()
    files = {(method, path) for method, path in there if path.startswith(permissions.OPEN_FILES)}
    assert files
    assert permissions.OF_ROUTES.keys() == {*(there - files), ("GET", "/ws")}


def test_what_is_not_in_a_table_is_for_administrators() -> None:
    assert permissions.of_request(object()) is Role.ADMIN
    assert permissions.of_route("GET", "/new") is Role.ADMIN
    assert permissions.of_route("POST", "/web/x") is Role.ADMIN


def test_only_looking_is_for_viewers_and_the_audit_for_administrators() -> None:
    acting = {verbs.Run, verbs.Kill, verbs.Signal, verbs.Hold, verbs.Release, verbs.Reload}
    assert {kind for kind, least in permissions.OF_REQUESTS.items() if least is Role.OPERATOR} == acting
    assert {kind for kind, least in permissions.OF_REQUESTS.items() if least is Role.ADMIN} == {verbs.GetAudit}


# --- every role at every door --------------------------------------------------------------------

ALL_ROLES = tuple(Role)


@pytest.mark.parametrize("role", ALL_ROLES)
async def test_each_route_lets_in_whom_it_should(role: Role, autojump_clock: MockClock) -> None:
    front = scene_with().front()
    for (method, path), least in permissions.OF_ROUTES.items():
        answer = await ask(front, method, path, {} if method == "POST" else None, **bearer(role))
        if role.includes(least):
            assert answer.status not in (401, 403) or path == "/login", (method, path)
        else:
            assert answer.status == (401 if role is Role.NOBODY else 403), (method, path)
            assert answer.body["error"]["code"] == ("login_required" if role is Role.NOBODY else "forbidden")


@pytest.mark.parametrize("role", ALL_ROLES)
async def test_what_is_not_there_is_told_to_administrators_only(role: Role, autojump_clock: MockClock) -> None:
    answer = await ask(scene_with().front(), "GET", "/secret", **bearer(role))
    assert answer.status == {Role.NOBODY: 401, Role.ADMIN: 404}.get(role, 403)


REQUESTS: dict[type[Any], dict[str, Any]] = {
    verbs.Run: {"run": "backup"},
    verbs.Kill: {"killCron": "backup"},
    verbs.Signal: {"pause": "backup"},
    verbs.Hold: {"maintenance": {"set": {"machine": "db01"}}},
    verbs.Release: {"maintenance": {"end": {"machine": "db01"}}},
    verbs.Reload: {"reload": True},
    verbs.GetAudit: {"getAudit": {}},
}


@pytest.mark.parametrize("role", GIVEN_OUT)
async def test_each_request_is_carried_out_for_whom_it_should(role: Role, autojump_clock: MockClock) -> None:
    scene = scene_with()
    scene.start("db01")
    async with dial(scene.front(), **bearer(role)) as client:
        for kind, request in REQUESTS.items():
            assert isinstance(decode(json.dumps(request)).verb, kind)
            await client.say(**request, id=1)
            while (reply := await client.hear())["type"] != "reply":
                pass
            assert reply["ok"] is role.includes(permissions.OF_REQUESTS[kind]), request
            if not reply["ok"]:
                assert reply["error"]["code"] == "forbidden"
    assert bool(scene.asked) is role.includes(Role.OPERATOR)


def test_the_requests_above_are_all_that_not_everybody_may() -> None:
    assert REQUESTS.keys() == {kind for kind, least in permissions.OF_REQUESTS.items() if least is not Role.VIEWER}


async def test_who_ran_it_is_called_by_the_tokens_name(autojump_clock: MockClock) -> None:
    scene = scene_with()
    await ask(scene.front(), "POST", "/run", {"cron": "backup"}, **bearer(Role.OPERATOR))
    assert scene.asked == [("run", "backup", "token:operator", None)]


# --- tokens --------------------------------------------------------------------------------------


async def test_without_any_token_nobody_is_asked_for_one(autojump_clock: MockClock) -> None:
    front = scene_with(Known(None)).front()
    assert (await ask(front, "POST", "/run", {"cron": "backup"})).status == 202
    assert (await ask(front, "GET", "/whoami")).body["role"] == "admin"


async def test_a_setting_asks_for_one_even_then(autojump_clock: MockClock) -> None:
    answer = await ask(scene_with(Known(None), required=True).front(), "GET", "/config")
    assert answer.status == 401
    assert "saltpeter token add" in answer.body["error"]["message"]


async def test_when_the_last_token_is_revoked_the_door_stays_shut(autojump_clock: MockClock) -> None:
    assert (await ask(scene_with(Known(())).front(), "GET", "/config")).status == 401


async def test_a_websocket_needs_one_too(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True, allow_unwrapped=True):
        async with dial(scene_with().front()):
            pass


@pytest.mark.parametrize(
    "shown", ["Bearer nonsense", "Bearer ", "Basic c3A6c3A=", "Bearer \xff\xfe", f"Bearer {'x' * 9000}"]
)
async def test_what_is_no_token_opens_nothing(shown: str, autojump_clock: MockClock) -> None:
    answer = await ask(scene_with().front(), "GET", "/config", Authorization=shown)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_who_is_inside_by_a_token_that_is_revoked_is_cut_off(autojump_clock: MockClock) -> None:
    known = Known()
    scene = scene_with(known)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.gate.watch)
        async with (
            dial(scene.front(), **bearer(Role.VIEWER)) as client,
            dial(scene.front(), **bearer(Role.ADMIN)) as stays,
        ):
            await client.hear_all(1)
            assert known.credentials is not None
            known.credentials = known.credentials[1:]
            assert await client.hear_end() == UNWELCOME
            await stays.say(reload=True, id=1)
            assert [each["type"] for each in await stays.hear_all(5)][-1] == "reply"
        nursery.cancel_scope.cancel()


async def test_the_first_token_cuts_off_those_who_came_without(autojump_clock: MockClock) -> None:
    known = Known(None)
    scene = scene_with(known)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.gate.watch)
        async with dial(scene.front()) as client:
            await client.hear_all(1)
            known.credentials = Known().credentials
            assert await client.hear_end() == UNWELCOME
        nursery.cancel_scope.cancel()


def test_a_person_of_the_unix_socket_stays_whatever_becomes_of_tokens() -> None:
    gate = scene_with(required=True).gate
    assert gate.holds(Person(by="unix:root", role=Role.ADMIN, peer="unix:root"))
    assert not gate.holds(NOBODY)


# --- who fails -----------------------------------------------------------------------------------


async def test_each_failure_is_answered_later_and_the_right_token_at_once(autojump_clock: MockClock) -> None:
    front = scene_with().front()
    took = []
    for _ in range(9):
        begun = trio.current_time()
        await ask(front, "GET", "/config", Authorization="Bearer nonsense")
        took.append(trio.current_time() - begun)
    assert took[:FREE] == [0] * FREE
    assert took[-1] >= LONGEST_S > took[FREE]
    begun = trio.current_time()
    assert (await ask(front, "GET", "/config", **bearer(Role.VIEWER))).status == 200
    assert trio.current_time() == begun


def test_failures_are_counted_by_network_in_bounded_memory() -> None:
    throttle = Throttle()
    assert [throttle.failed(f"[2001:db8::{port}]:{port}", 0) for port in range(1, 4)] == [1, 2, 3]
    assert throttle.failed("192.0.2.1:1", 0) == 1
    assert throttle.failed("[2001:db8::9]:1", 10_000) == 1
    for number in range(REMEMBERED + 5):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1", 10_000)
    assert len(throttle._failures) == REMEMBERED
    assert network_of("[::ffff:192.0.2.1]:7") == "192.0.2.1"
    assert network_of("unknown") == "unknown"


def test_who_tries_for_days_fills_no_log() -> None:
    assert sum(is_worth_a_record(failures) for failures in range(1, 1_000_001)) == 20
    assert delay_s(10**6) == LONGEST_S


# --- browsers ------------------------------------------------------------------------------------


async def test_a_browser_logs_in_and_out(autojump_clock: MockClock) -> None:
    front = scene_with().front()
    assert (await ask(front, "GET", "/whoami")).body == {
        "name": None,
        "role": None,
        "login_required": True,
        "by_token": False,
        "groups": None,
    }
    answer = await ask(front, "POST", "/login", {"token": TOKENS[Role.OPERATOR]})
    told = {"name": "token:operator", "role": "operator", "login_required": False, "by_token": True, "groups": None}
    assert answer.body == told
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert flags == ["Path=/", f"Max-Age={SESSION_S}", "HttpOnly", "SameSite=Strict"]
    assert TOKENS[Role.OPERATOR] not in cookie
    assert (await ask(front, "GET", "/whoami", Cookie=cookie)).body["name"] == "token:operator"
    async with dial(front, Cookie=f"other=1; {cookie}") as client:
        assert (await client.hear())["type"] == "config"
    gone = await ask(front, "POST", "/logout", {}, Cookie=cookie)
    assert gone.headers["set-cookie"].startswith("saltpeter=; Path=/; Max-Age=0;")


@pytest.mark.parametrize("body", [{"token": "nonsense"}, {"token": 7}, {}, [], {"token": "\ud800"}])
async def test_a_login_with_something_else_fails(body: object, autojump_clock: MockClock) -> None:
    answer = await ask(scene_with().front(), "POST", "/login", body)
    assert answer.status in (400, 401)
    assert "set-cookie" not in answer.headers


async def test_another_sites_page_cannot_log_a_browser_in(autojump_clock: MockClock) -> None:
    body = {"token": TOKENS[Role.VIEWER]}
    assert (await ask(scene_with().front(), "POST", "/login", body, Origin="https://evil.example")).status == 403


async def session(gate: Gate) -> str:
    front = Scene(gate=gate).front()
    answer = await ask(front, "POST", "/login", {"token": TOKENS[Role.VIEWER]})
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


async def test_a_session_ends_with_its_time_its_token_and_its_key(autojump_clock: MockClock) -> None:
    known = Known()
    at = NOON
    gate = Gate(known, b"key", lambda: at)
    cookie = await session(gate)

    async def status(gate: Gate, cookie: str) -> int:
        return (await ask(Scene(gate=gate).front(), "GET", "/config", Cookie=f"saltpeter={cookie}")).status

    assert await status(gate, cookie) == 200
    assert await status(Gate(known, b"another", lambda: at), cookie) == 401
    expiry, seal, name = cookie.split(".")
    for forged in (f"{int(expiry) + 1}.{seal}.{name}", f"{expiry}.{seal}.admin", f"{expiry}.{'0' * 64}.{name}"):
        assert await status(gate, forged) == 401
    for nonsense in ("", ".", "..", "x.y.z", f"{'9' * 400}.{seal}.{name}", f"٣.{seal}.{name}"):
        assert await status(gate, nonsense) == 401
    assert known.credentials is not None
    same_name = credential("viewer", Role.ADMIN, "another")
    known.credentials = (same_name, *known.credentials[1:])
    assert await status(gate, cookie) == 401
    known.credentials = Known().credentials
    at = NOON + timedelta(seconds=SESSION_S + 1)
    assert await status(gate, cookie) == 401
