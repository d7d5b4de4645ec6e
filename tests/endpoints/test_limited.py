"""A token for one group of jobs, at a whole daemon: whatever is asked, and whatever happens, nothing of another group's
jobs is told.

All that belongs to the other group has CANARY in its name, so that one look at what was received finds it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest
import trio

from saltpeter.client import Access, Client, connect
from saltpeter.domain.access import GIVEN_OUT, Credential, Person, Role
from saltpeter.endpoints import permissions, verbs
from saltpeter.endpoints.control_wire import decode
from saltpeter.endpoints.limited import LimitedCommands
from saltpeter.endpoints.outlook import MOST_LIMITED, Outlooks
from saltpeter.endpoints.pulse import Pulse
from saltpeter.engine import people
from saltpeter.engine.audit import Unaudited
from saltpeter.engine.clock import now
from saltpeter.engine.people import TOKENS_FILE
from saltpeter.errors import CommandRefused
from saltpeter.lab import free_ports
from tests.endpoints.rig import NOON
from tests.endpoints.scene import Scene
from tests.helpers.daemon import Daemon

CANARY = "zqhidden"
JOB, MACHINE = f"{CANARY}-payroll", f"{CANARY}-m9"
NOTHING = "zqabsent"  # as long; what stands in for it where the same is asked of something that does not exist
HIDDEN: dict[str, dict[str, Any]] = {
    JOB: {
        "command": f"echo {CANARY}-output; sleep 1000",
        "targets": [MACHINE, "shared"],
        "owner": f"{CANARY}-owner",
        "description": f"{CANARY}-description",
        "schedule": "0 0 1 1 *",
    },
    f"{CANARY}-bad": {"command": "true", f"{CANARY}-key": 1},
    "wander": {"command": "echo wander", "targets": ["shared"]},
}
MAINTENANCE = {"machines": [f"{CANARY}-m8"]}
OURS: dict[str, dict[str, Any]] = {
    "site": {"command": "echo site-output", "targets": ["shared", "web1"], "schedule": "0 0 1 1 *"}
}


@attrs.define(eq=False)
class Ear(Client):
    """A connection that remembers all that was ever received."""

    received: list[str] = attrs.field(factory=list, init=False)

    async def _receive(self) -> dict[str, Any]:
        message = await super()._receive()
        self.received.append(json.dumps(message, ensure_ascii=False))
        return message

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """The result, or the refusal, of a request."""
        [(verb, value)] = request.items()
        try:
            return await self.request(verb, value)
        except CommandRefused as refused:
            return refused.code, str(refused)

    async def hears(self, text: str, since: int = 0) -> None:
        """Wait until a message has that in it."""
        with trio.fail_after(60):
            while not any(text in each for each in self.received[since:]):
                await self._receive()

    async def all(self) -> str:
        """All that has come by now, and still comes within a moment."""
        with trio.move_on_after(1.5):
            while True:
                await self._receive()
        return "\n".join(self.received)


@contextmanager
def suppress_overlap() -> Iterator[None]:
    try:
        yield
    except CommandRefused as refused:
        if refused.code != "overlap":
            raise


@attrs.define
class World:
    """A daemon with two groups of jobs. `root` may see all, and whoever shows `token` only the group `web`."""

    daemon: Daemon
    url: str
    token: str
    root: Ear
    hidden_run: str
    our_run: str

    @asynccontextmanager
    async def ear(self) -> AsyncIterator[Ear]:
        async with connect(self.url, Access(self.token)) as client:
            yield Ear(client._ws)

    async def ends(self, job: str) -> str:
        """Run it to its end; the run."""
        run = await self.start(job)
        await self.has_ended(run)
        return run

    async def start(self, job: str) -> str:
        """Run it, as soon as the run before it is over; the run."""
        with trio.fail_after(60):
            while True:
                with suppress_overlap():
                    return str((await self.root.request("run", job))["job_instance"])
                await trio.sleep(0.05)

    async def has_ended(self, run: str) -> None:
        with trio.fail_after(60):
            while (await self.root.request("getRun", run))["ended"] is None:  # noqa: ASYNC110  nobody tells this one
                await trio.sleep(0.05)

    async def begin_hidden(self) -> None:
        """Let a run of the other group live and write, after the one before it, with its machine under maintenance."""
        before = (await self.root.request("getRuns", {"cron": JOB, "limit": 1}))["runs"]
        if before and before[0]["ended"] is None:
            await self.kill_hidden()
        self.hidden_run = await self.start(JOB)
        with trio.fail_after(60):
            while not await self._written():  # noqa: ASYNC110  the same
                await trio.sleep(0.05)
        await self.root.request("maintenance", {"set": {"machine": MACHINE, "reason": f"{CANARY}-reason"}})

    async def _written(self) -> bool:
        parts = (await self.root.request("getRun", self.hidden_run))["results"]
        return all(each["output_length"] for each in parts.values()) and len(parts) == len(HIDDEN[JOB]["targets"])

    async def kill_hidden(self) -> None:
        [living] = {run["job_instance"] for run in (await self.root.request("killCron", JOB))["runs"]}
        await self.root.request("maintenance", {"end": {"machine": MACHINE}})
        await self.has_ended(living)

    async def get(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request over HTTP: its status, and every byte of the answer."""
        content = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(content)}"]
        lines = [*head, f"Authorization: Bearer {self.token}", "", ""]
        host, _, port = self.url.removeprefix("ws://").partition(":")
        with trio.fail_after(30):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all("\r\n".join(lines).encode() + content)
                answer = b"".join([bytes(part) async for part in stream])
        return int(answer.split()[1]), answer

    def configure(self, *, hidden: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        self.daemon.write(f"{CANARY}-vault", **hidden)
        self.daemon.write("web", **ours)


@attrs.frozen
class Place:
    """A daemon that runs, and tokens for the group `web`."""

    daemon: Daemon
    url: str
    tokens: Mapping[Role, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path) -> Iterator[Place]:
    [port] = free_ports(1)
    settings = {"executor": "local", "api_ws": True, "api_ws_port": port, "default_wrapper_path": str(wrapper_file)}
    folder = tmp_path_factory.mktemp("limited")
    daemon = Daemon(folder, {**settings, "default_wrapper_logdir": str(folder / "wrappers")})
    daemon._write("settings", {"saltpeter_config": dict(daemon.settings), "saltpeter_maintenance": MAINTENANCE})
    file = daemon.state / TOKENS_FILE
    tokens = {role: people.add(file, role.value, role, ["web"], by="test", at=now()) for role in GIVEN_OUT}
    try:
        trio.run(daemon.start)
        yield Place(daemon, f"ws://127.0.0.1:{port}", tokens)
    finally:
        daemon.end_everything()


@asynccontextmanager
async def world(place: Place, role: Role = Role.ADMIN) -> AsyncIterator[World]:
    """The other group has a run that lives and one that has ended, a machine under maintenance, and faults."""
    daemon = place.daemon
    with trio.fail_after(180):
        async with connect(daemon.socket) as client:
            here = World(daemon, place.url, place.tokens[role], Ear(client._ws), "", "")
            here.configure(hidden=HIDDEN, ours=OURS)
            await here.root.request("reload", True)
            here.our_run = await here.ends("site")
            for _ in range(2):  # one that has ended, and one that lives
                await here.begin_hidden()
            yield here


# --- whatever is asked ----------------------------------------------------------------------------

SPAN = {"start_date": "now-1h", "end_date": "now+400d"}

# Every request. Where it names something of the other group, the answer must be the same as for what does not exist.
ASKED: dict[type[Any], list[dict[str, Any]]] = {
    verbs.Hello: [{"hello": {"protocol": 2}}],
    verbs.Run: [{"run": JOB}, {"run": {"cron": JOB, "machines": [MACHINE]}}, {"run": JOB[:-1]}],
    verbs.Kill: [
        {"killCron": JOB},
        {"killCron": {"cron": JOB, "job_instance": "RUN"}},
        {"killCron": {"cron": "site", "job_instance": "RUN"}},
        {"killMachine": {"cron": JOB, "machine": MACHINE}},
        {"killMachine": {"cron": "site", "machine": MACHINE}},
    ],
    verbs.Signal: [{"signal": {"cron": JOB, "signal": "USR1"}}, {"pause": JOB}, {"resume": JOB}],
    verbs.Subscribe: [
        {"subscribe": [JOB]},
        {"subscribe": {"cron": JOB, "job_instance": "RUN", "machine": MACHINE}},
        {"subscribe": {"cron": "site", "job_instance": "RUN"}},
        {"subscribe": {"cron": JOB, "output": False}},
    ],
    verbs.Unsubscribe: [{"unsubscribe": [JOB]}],
    verbs.Leave: [{"unsubscribe": {"cron": JOB, "machine": MACHINE}}],
    verbs.Acknowledge: [{"ack": {"cron": JOB, "machine": MACHINE, "position": 0}}],
    verbs.GetRuns: [{"getRuns": {}}, {"getRuns": {"failed": True}}, {"getRuns": {"cron": JOB}}],
    verbs.GetRun: [{"getRun": "RUN"}],
    verbs.GetLatest: [{"getLatest": {"crons": [JOB, "site"]}}],
    verbs.GetMatrix: [{"getMatrix": JOB}],
    verbs.GetPassed: [{"getPassed": JOB}],
    verbs.GetAlike: [{"getAlike": "RUN"}],
    verbs.GetOutput: [
        {"getOutput": {"job_instance": "RUN", "machine": MACHINE}},
        {"getOutput": {"job_instance": "RUN", "machine": "shared", "raw": True}},
        {"getOutput": {"job_instance": "OUR_RUN", "machine": MACHINE}},
    ],
    verbs.GetTimeline: [{"getTimeline": SPAN}],
    verbs.GetActive: [{"getActive": SPAN}],
    verbs.GetBars: [{"getBars": {**SPAN, "crons": [JOB, "site"]}}],
    verbs.GetMachines: [{"getMachines": {}}],
    verbs.GetMachine: [{"getMachine": MACHINE}, {"getMachine": "shared"}],
    verbs.Health: [{"health": True}],
    verbs.Next: [{"next": {"count": 100}}, {"next": JOB}],
    verbs.Why: [{"why": JOB}, {"why": {"cron": JOB, "at": "2026-01-01T00:00"}}],
    verbs.Stats: [{"stats": JOB}],
    verbs.ShowMaintenance: [{"maintenance": {"show": True}}],
    verbs.Hold: [{"maintenance": {"set": {"machine": MACHINE}}}],
    verbs.Release: [{"maintenance": {"end": {"machine": MACHINE}}}],
    verbs.Reload: [{"reload": True}],
    verbs.GetAudit: [{"getAudit": {}}],
}


def test_every_request_is_asked() -> None:
    assert ASKED.keys() == set(get_args(verbs.Verb))
    for kind, requests in ASKED.items():
        assert requests
        for request in requests:
            assert isinstance(decode(json.dumps(request)).verb, kind)
    assert {verb for requests in ASKED.values() for request in requests for verb in request} == {
        *verbs.VERBS,
    }


async def test_no_request_tells_of_the_other_group(place: Place) -> None:
    async with world(place) as here:
        for protocol in (1, 2):
            async with here.ear() as ear:
                await ear.ask({"hello": {"protocol": protocol}})
                for request in (each for kind, asked in ASKED.items() if kind is not verbs.Hello for each in asked):
                    await same_as_for_nothing(here, ear, request)
                everything = await ear.all()
                assert CANARY not in everything
                assert "site" in everything
        assert (await here.root.request("getRun", here.hidden_run))["ended"] is None


async def same_as_for_nothing(here: World, ear: Ear, request: Mapping[str, Any]) -> None:
    """Ask it of the other group, and of what does not exist: both must be answered the same."""
    text = json.dumps(request).replace('"RUN"', f'"{here.hidden_run}"').replace('"OUR_RUN"', f'"{here.our_run}"')
    before = len(ear.received)
    answer = json.dumps(await ear.ask(json.loads(text)), ensure_ascii=False)
    if CANARY in text:
        other = await ear.ask(json.loads(text.replace(CANARY, NOTHING)))
        assert answer.replace(CANARY, NOTHING) == json.dumps(other, ensure_ascii=False), request
        # the name that was asked for stands in both answers, which have been compared
        ear.received[before:] = [each for each in ear.received[before:] if json.loads(each)["type"] != "reply"]


ROUTES: dict[tuple[str, str], tuple[str, object]] = {
    ("GET", "/"): ("/", None),
    ("GET", "/healthz"): ("/healthz", None),
    ("GET", "/whoami"): ("/whoami", None),
    ("POST", "/login"): ("/login", {"token": "TOKEN"}),
    ("POST", "/logout"): ("/logout", {}),
    ("GET", "/ws"): ("/ws", None),  # as no WebSocket
    ("GET", "/version"): ("/version", None),
    ("GET", "/readyz"): ("/readyz", None),
    ("GET", "/metrics"): ("/metrics", None),
    ("GET", "/config"): ("/config", None),
    ("GET", "/running"): ("/running", None),
    ("GET", "/status"): ("/status", None),
    ("GET", "/timeline"): ("/timeline?start_date=now-1h&end_date=now%2B400d", None),
    ("POST", "/run"): ("/run", {"cron": JOB}),
    ("POST", "/kill"): ("/kill", {"cron": JOB, "machine": MACHINE}),
}


def test_every_route_is_asked() -> None:
    assert ROUTES.keys() == permissions.OF_ROUTES.keys()


async def test_no_route_tells_of_the_other_group(place: Place) -> None:
    async with world(place) as here:
        for (method, _), (path, body) in ROUTES.items():
            sent = {"token": here.token} if path == "/login" else body
            status, answer = await here.get(method, path, sent)
            if CANARY in json.dumps(sent):
                other = await here.get(method, path, json.loads(json.dumps(sent).replace(CANARY, NOTHING)))
                assert (status, answer.replace(CANARY.encode(), NOTHING.encode())) == other
                assert status == 404
            else:
                assert CANARY.encode() not in answer, path
                assert status == {"/metrics": 403, "/ws": 404}.get(path, 200), path
        _, told = await here.get("GET", "/whoami")
        assert b'"groups":["web"]' in told
        for path in ("/config", "/status", "/timeline?start_date=now-1h&end_date=now"):
            assert b"site" in (await here.get("GET", path))[1]


# --- whatever happens -----------------------------------------------------------------------------


async def test_nothing_that_happens_tells_of_the_other_group(place: Place) -> None:
    async with world(place) as here, here.ear() as first, here.ear() as second:
        await second.request("hello", {"protocol": 2})
        for ear in (first, second):
            await ear.request("subscribe", ["site"])
        await here.kill_hidden()
        another = {**HIDDEN, f"{CANARY}-new": {"command": f"echo {CANARY}", "targets": [MACHINE]}}
        here.configure(hidden=another, ours=OURS)
        await here.root.request("reload", True)
        await here.ends(f"{CANARY}-new")
        await here.root.request("maintenance", {"set": {"machine": "web1", "reason": "ours"}})
        for ear in (first, second):
            await ear.hears('"reason": "ours"')
        await here.root.request("maintenance", {"end": {"machine": "web1"}})
        run = await here.ends("site")
        for ear in (first, second):
            await ear.hears(run)
            await ear.hears('"is_complete": true')
            assert CANARY not in await ear.all()


async def test_a_job_that_changes_its_group_comes_and_goes_at_once(place: Place) -> None:
    async with world(place) as here, here.ear() as first, here.ear() as second:
        await second.request("hello", {"protocol": 2})
        run = await here.ends("wander")
        unknown = ("unknown_run", f"there is no run {run!r}")
        for ear in (first, second):
            assert await ear.ask({"getRun": run}) == unknown
            ear.received.clear()
        hidden = {name: each for name, each in HIDDEN.items() if name != "wander"}
        here.configure(hidden=hidden, ours={**OURS, "wander": HIDDEN["wander"]})
        await here.root.request("reload", True)
        for ear in (first, second):
            await ear.hears(run)  # in what is told of a job that is there now
            assert (await ear.request("getRun", run))["cron"] == "wander"
            wanted = {"cron": "wander", "job_instance": run}
            assert (await ear.request("subscribe", wanted))["subscribed"] == ["wander"]
            await ear.hears('"output_chunk"')
        here.configure(hidden=HIDDEN, ours=OURS)
        await here.root.request("reload", True)
        for ear in (first, second):
            with trio.fail_after(60):
                while (await ear.request("unsubscribe", []))["subscribed"]:  # noqa: ASYNC110  it ends by itself
                    await trio.sleep(0.05)
            await ear.all()
            ear.received.clear()
        await here.ends("wander")
        for ear in (first, second):
            assert "wander" not in await ear.all()
            assert await ear.ask({"getRun": run}) == unknown


async def test_who_comes_back_is_told_only_what_is_theirs(place: Place) -> None:
    async with world(place) as here:
        root_hello = await here.root.request("hello", {"protocol": 2})
        async with here.ear() as ear:
            told = await ear.request("hello", {"protocol": 2})
            await ear.hears('"snapshot"')
        assert told["life"] != root_hello["life"]
        await here.kill_hidden()
        run = await here.ends("site")
        async with here.ear() as ear:
            known = {"life": told["life"], "serial": told["serial"]}
            assert (await ear.request("hello", {"protocol": 2, **known}))["resumed"]
            await ear.hears(run)
            everything = await ear.all()
            assert CANARY not in everything
            assert '"snapshot"' not in everything
        async with here.ear() as ear:  # as if it had been told all that root was
            known = {"life": root_hello["life"], "serial": root_hello["serial"]}
            assert not (await ear.request("hello", {"protocol": 2, **known}))["resumed"]
            assert CANARY not in await ear.all()


async def test_what_is_theirs_is_all_there(place: Place) -> None:
    async with world(place, Role.OPERATOR) as here, here.ear() as ear:
        await ear.request("hello", {"protocol": 2, "listen": False})
        run = (await ear.request("run", "site"))["job_instance"]
        await here.has_ended(run)
        assert (await ear.request("getOutput", {"job_instance": run, "machine": "web1"}))["chunk"] == "site-output\n"
        machines = {each["machine"]: each for each in (await ear.request("getMachines", {}))["machines"]}
        assert {name: each["last"]["job_instance"] for name, each in machines.items()} == {"shared": run, "web1": run}
        parts = (await ear.request("getMachine", "shared"))["parts"]
        assert [each["job_instance"] for each in parts][:2] == [run, here.our_run]
        assert {each["cron"] for each in parts} == {"site"}
        assert (await ear.request("next", {"count": 5}))["slots"][0]["cron"] == "site"
        assert {each["cron"] for each in (await ear.request("getTimeline", SPAN))["content"]} == {"site"}
        assert (await ear.request("stats", "site"))["runs"] >= 2
        health = await ear.request("health", True)
        assert (health["ready"], health["store"]) == (True, None)
        assert health["checks"]["store"] == {"ok": True, "text": "well"}
        code, text = await ear.ask({"reload": True})
        assert (code, text) == ("forbidden", "that concerns the jobs of all groups; token:operator is limited to web")
        audited = (await here.root.request("getAudit", {"limit": 1}))["entries"][0]
        assert (audited["who"], audited["result"]) == ("token:operator", "forbidden")


# --- the tables -----------------------------------------------------------------------------------


def person(*groups: str, role: Role = Role.ADMIN) -> Person:
    made = Credential(name="x", role=role, digest="", created_at=NOON, by="", groups=frozenset(groups) or None)
    return Person(by="token:x", role=role, credential=made)


def test_what_is_in_no_table_is_not_for_who_is_limited() -> None:
    permissions.require(person(), object())
    permissions.require_route(person(), "GET", "/new")
    with pytest.raises(permissions.OfAllGroups):
        permissions.require(person("web"), object())
    with pytest.raises(permissions.OfAllGroups):
        permissions.require_route(person("web"), "GET", "/new")
    with pytest.raises(permissions.OfAllGroups):
        permissions.require_route(person("web"), "HEAD", "/metrics")
    with pytest.raises(permissions.Forbidden):
        permissions.require(person("web", role=Role.VIEWER), verbs.Run("site"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda commands: commands.hold("m1", "x", ""),
        lambda commands: commands.release("m1", "x"),
        lambda commands: commands.reload("x"),
    ],
)
async def test_the_engine_that_they_are_given_has_nothing_for_all(ask: Any) -> None:
    scene = Scene()
    with pytest.raises(CommandRefused, match="of all groups") as refused:
        await ask(LimitedCommands(scene, lambda name: name))
    assert refused.value.code == "forbidden"
    assert (scene.asked, scene.board.state.holds) == ([], {})


def test_who_is_not_limited_has_the_board_itself_and_others_share_theirs() -> None:
    scene = Scene()
    outlooks = Outlooks(scene.board, scene.shelf, scene, "1.0", "life", now, {}, Pulse(), Unaudited())
    assert outlooks.of(person()).board is scene.board
    ours = outlooks.of(person("web", "shop"))
    assert outlooks.of(person("shop", "web", role=Role.VIEWER)) is ours
    assert outlooks.of(person("web")) is not ours
    for number in range(MOST_LIMITED):
        outlooks.of(person(f"g{number}"))
    anew = outlooks.of(person("web", "shop"))
    assert anew is not ours
    assert anew.life == ours.life
