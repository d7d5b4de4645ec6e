"""Whatever jobs, files and machines are called, and whatever peers say: text stays text, wherever it is shown."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import click
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from saltpeter.cli import main
from saltpeter.endpoints.permissions import OF_ROUTES
from saltpeter.host import SOCKET_VARIABLE
from saltpeter.lab import free_ports
from tests.cli.conftest import Said, Shell
from tests.helpers.daemon import MARK, Daemon, Watch, command
from tests.helpers.hostile import (
    ANY_BYTES,
    ANY_TEXT,
    EVERYWHERE,
    PROPER,
    STRANGE_FILE,
    UNSEEMLY,
    job,
    jobs,
    lying_wrapper,
    unseemly,
    yaml_of,
)

LIES, REFUSES, BAD = "lies", "refuses", "bad"
HELD = PROPER["html"]  # a machine
CRONTAB = f"* * * * * echo {PROPER['html']}\n{ANY_TEXT}\n"


@attrs.define
class World(Daemon):
    """A daemon of bad names. `runs` are those of its jobs that have ended, by job."""

    runs: dict[str, str] = attrs.field(factory=dict, init=False)

    @property
    def port(self) -> int:
        return int(self.settings["api_ws_port"])

    def fill(self) -> None:
        """Its files: one of them is called as badly as a file can be, one holds what cannot be right."""
        outputs = self.directory / "outputs"
        outputs.write_bytes(ANY_BYTES)
        liar = str(lying_wrapper(self.directory / "liar"))
        mark = {MARK: self.mark}
        lying = {LIES: job(wrapper_path=liar, env=mark), REFUSES: job(wrapper_path=liar, env={**mark, "REFUSE": "1"})}
        strange = os.fsencode(self.conf_d) + b"/" + STRANGE_FILE + b".yaml"
        Path(os.fsdecode(strange)).write_text(yaml_of({**jobs(outputs, **mark), **lying}))
        wrong = job(user=ANY_TEXT, cwd=ANY_TEXT, targets=[ANY_TEXT], colour=ANY_TEXT, timezone=ANY_TEXT, secret_env=3)
        (self.conf_d / "bad.yaml").write_text(yaml_of({BAD: wrong, ANY_TEXT: job()}))
        (self.conf_d / "worse.yaml").write_text('x: {"\\uD800": 1, command: "\\xZZ"\n\t- \x1b[2J')

    async def live(self, names: Iterable[str]) -> None:
        """A machine is held, and these jobs run to their ends."""
        await self.start()
        async with self.watching() as watch:
            await watch.client.hello(listen=False)
            await watch.client.request("maintenance", {"set": {"machine": HELD, "reason": ANY_TEXT}})
            for name in names:
                begun = await watch.client.request("run", {"cron": name})
                self.runs[name] = str(begun["job_instance"])
            while [run for run in self.runs.values() if not await ended(watch, run)]:  # noqa: ASYNC110  nobody tells
                await trio.sleep(0.2)

    def about(self, run: str) -> Any:
        return Shell(self)("show", "--json", "--", run).json


async def ended(watch: Watch, run: str) -> bool:
    return (await watch.client.request("getRun", {"job_instance": run}))["ended"] is not None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path) -> Iterator[World]:
    directory, [port] = tmp_path_factory.mktemp("world"), free_ports(1)
    settings = {
        "executor": "local",
        "api_ws": True,
        "api_ws_port": port,
        "debug": True,
        "default_wrapper_path": str(wrapper_file),
        "default_wrapper_logdir": str(directory / "wrapper"),
        "default_wrapper_loglevel": "debug",
    }
    made = World(directory, settings)
    try:
        made.fill()
        trio.run(made.live, [*PROPER.values(), LIES, REFUSES])
        yield made
    finally:
        made.end_everything()


@pytest.fixture
def shell(world: World, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for variable in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    return Shell(world)


# --- what came of it -----------------------------------------------------------------------------


def test_every_job_ran_where_it_should(world: World) -> None:
    for name in PROPER.values():
        about = world.about(world.runs[name])
        assert about["cron"] == name
        machines = EVERYWHERE if name == PROPER["html"] else [name, PROPER["html"]]
        ends = {machine: result["outcome"] for machine, result in about["results"].items()}
        assert ends == {**dict.fromkeys(machines, "exited"), HELD: "maintenance"}


def test_what_a_lying_machine_said_is_kept_as_it_said_it(world: World) -> None:
    [told] = world.about(world.runs[LIES])["results"].values()
    assert (told["retcode"], told["wrapper_version"]) == (7, ANY_TEXT)
    assert told["receipt"]["survived"][0]["name"] == ANY_TEXT
    [refused] = world.about(world.runs[REFUSES])["results"].values()
    assert (refused["retcode"], refused["outcome"]) == (255, "error")


def test_nothing_was_made_where_it_does_not_belong(world: World) -> None:
    made = [path for path in world.directory.rglob("*") if not path.is_relative_to(world.conf_d)]
    assert not [path for path in made if unseemly(str(path)) or path.name == "PWNED"]
    assert not [path for path in (Path("PWNED"), Path("/tmp/pwned"), Path("/tmp/pwned.log")) if path.exists()]  # noqa: S108  nothing is put there
    assert not [path for path in world.logs.rglob("*") if path.is_dir()]
    assert len({path.name for path in world.logs.glob("*.log")}) == len(world.runs)


def test_the_ledger_holds_the_names_as_they_are(world: World) -> None:
    with closing(sqlite3.connect(f"file:{world.state / 'ledger.sqlite'}?mode=ro", uri=True)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert {*PROPER.values(), LIES, REFUSES} <= {name for (name,) in ledger.execute("SELECT name FROM jobs")}


# --- files for people ----------------------------------------------------------------------------


def test_the_daemons_log_is_a_line_for_each_event(world: World) -> None:
    lines = world.stderr.read_bytes().decode().splitlines()
    assert not unseemly("\n".join(lines))
    strange = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d [A-Z]+ ", line)]
    assert not strange
    assert "Traceback" not in "\n".join(lines)
    assert not [line for line in lines if " ERROR " in line and ".yaml" not in line]


async def test_the_daemons_log_as_json(world: World, tmp_path: Path) -> None:
    other = World(tmp_path, {**world.settings, "log_format": "json", "machines_ws_port": 0, "api_ws": False})
    try:
        other.settings = {**other.settings, "statedir": str(other.state), "logdir": str(other.logs)}
        other.configure()
        other.fill()
        await other.live([PROPER["html"], PROPER["path"], LIES, REFUSES])
        raw = other.stderr.read_bytes()
    finally:
        other.end_everything()
    assert raw.isascii()
    events = [json.loads(line) for line in raw.splitlines()]
    assert {PROPER["html"], PROPER["path"]} <= {str(event.get("machine")) for event in events}
    assert not unseemly(raw.decode())


def test_the_text_logs_cannot_be_forged(world: World) -> None:
    for path in world.logs.glob("*.log"):
        text = path.read_bytes().decode()
        assert not unseemly(text)
        strange = [line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT[\d:.+-]+ ", line)]
        assert not strange, path


def test_the_audit_is_a_line_for_each_entry(world: World) -> None:
    raw = (world.state / "audit.jsonl").read_bytes()
    assert raw.isascii()
    entries = [json.loads(line) for line in raw.splitlines() if line]
    assert {entry["did"] for entry in entries} >= {"run", "hold"}
    assert not unseemly(raw.decode())


# --- HTTP ----------------------------------------------------------------------------------------

HEADERS = {
    *("content-type", "content-length", "cache-control", "content-security-policy", "cross-origin-resource-policy"),
    *("referrer-policy", "x-content-type-options", "x-frame-options", "connection", "allow", "etag", "set-cookie"),
    *("cross-origin-opener-policy", "www-authenticate"),
}


def answer(port: int, head: bytes, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """What a request is answered with; `head` is all of it but the length and the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        sock.sendall(head + b"Connection: close\r\n" + length + b"\r\n" + body)
        raw = b""
        while part := sock.recv(65536):
            raw += part
    lines, _, content = raw.partition(b"\r\n\r\n")
    first, *rest = lines.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return int(first.split()[1]), headers, content


def get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **headers}.items())
    return answer(port, f"GET {path} HTTP/1.1\r\n{lines}".encode())


@pytest.mark.parametrize("path", sorted(path for method, path in OF_ROUTES if method == "GET" and path != "/ws"))
def test_every_route_answers_in_its_form(path: str, world: World) -> None:
    span = "?start_date=now-1h&end_date=now&id=1" if path == "/timeline" else ""
    code, headers, body = get(world.port, path + span)
    assert code == 200
    assert headers.keys() <= HEADERS
    assert headers["x-content-type-options"] == "nosniff"
    if headers["content-type"] == "application/json":
        json.loads(body)
        assert not re.search("[\x00-\x1f]", body.decode().removesuffix("\n"))
    elif path == "/metrics":
        assert [*text_string_to_metric_families(body.decode())]
        assert not unseemly(body.decode())
    else:
        assert PROPER["html"].encode() not in body


def test_the_timeline_of_everything_is_json(world: World) -> None:
    _, _, body = get(world.port, "/timeline?start_date=now-1h&end_date=now%2B1h&id=%3Cscript%3E%0d%0aX:%20y")
    assert {entry["cron"] for entry in json.loads(body)["content"]} >= set(PROPER.values())


@pytest.mark.parametrize("text", [*PROPER.values(), ANY_TEXT])
def test_what_is_asked_for_by_a_bad_name_is_refused_in_form(text: str, world: World) -> None:
    """In the path, the query, a header, and the body: nothing of it comes back as a header or as HTML."""
    encoded = quote(text, safe="")
    asked = [
        get(world.port, f"/{encoded}"),
        get(world.port, f"/web/{encoded}"),
        get(world.port, f"/web/..%2f{encoded}"),
        get(world.port, f"/timeline?start_date={encoded}&end_date={encoded}&{encoded}={encoded}"),
        get(world.port, "/status", Host=encoded),
        get(world.port, "/status", Cookie=f"saltpeter={encoded}", Authorization=f"Bearer {encoded}"),
    ]
    for body in ({"cron": text + "?"}, {text: text}, {"cron": [text]}):
        post = b"POST /kill HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        asked.append(answer(world.port, post, json.dumps(body).encode()))
    for code, headers, content in asked:
        assert code in (200, 400, 401, 404, 409, 421), content
        assert headers.keys() <= HEADERS
        assert "html" not in headers["content-type"]
        if headers["content-type"] == "application/json":
            json.loads(content)


# --- the command line ----------------------------------------------------------------------------

# What each command is asked; RUN, JOB and MACHINE stand for each bad one in turn, DIR, STATE and FILE for places.
ASKED: dict[str, list[tuple[str, ...]]] = {
    "jobs": [(), ("--", "*<*")],
    "status": [()],
    "next": [(), ("--", "JOB"), ("-c", "DIR")],
    "history": [(), ("--", "JOB")],
    "show": [("--", "RUN"), ("--", "JOB")],
    "tail": [("--", "RUN")],
    "output": [("--", "RUN", "MACHINE")],
    "why": [("--", "JOB")],
    "stats": [("--", "JOB")],
    "run": [("--", "JOB?"), ("-t", "MACHINE?", "--", "JOB")],
    "kill": [("-y", "--", "JOB"), ("-y", "--", "JOB?"), ("-y", "--run", "RUN", "--", "JOB", "MACHINE")],
    "pause": [("--", "JOB"), ("--", "JOB", "MACHINE")],
    "resume": [("--", "JOB", "MACHINE")],
    "signal": [("--", "JOB", "HUP", "MACHINE"), ("--", "JOB", "MACHINE")],
    "maintenance show": [()],
    "maintenance add": [("--reason", "TEXT", "--", "MACHINE")],
    "maintenance remove": [("--", "MACHINE")],
    "maintenance on": [("--reason", "TEXT")],
    "maintenance off": [()],
    "reload": [()],
    "check": [("DIR",)],
    "import-crontab": [("--targets", "MACHINE", "FILE")],
    "store info": [("--statedir", "STATE")],
    "store backup": [("--statedir", "STATE", "FRESH")],
    "token add": [("--role", "viewer", "--statedir", "SCRATCH", "--", "TEXT")],
    "token list": [("--statedir", "SCRATCH")],
    "token revoke": [("--statedir", "SCRATCH", "--", "TEXT")],
    "audit": [("--statedir", "STATE"), ("--statedir", "STATE", "--who", "TEXT")],
}
NOT_ASKED = {
    "daemon": "runs one",
    "lab": "runs one",
    "store restore": "shows nothing but its argument",
    "store prune": "shows figures only",
    "wrapper build": "shows nothing but its argument",
    "wrapper deploy": "asks Salt, whose machines cannot be called so; see test_odd_machines in tests/cli",
    "wrapper status": "the same",
    "completion": "prints a script that does not depend on anything",
}
AS_TEXT = ("tail", "output")  # in a pipe these give what the command wrote


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        each = group.get_command(context, name)
        assert each is not None
        if isinstance(each, click.Group):
            yield from leaves(each, f"{before}{name} ")
        else:
            yield before + name, each


def test_every_command_is_asked_or_has_a_reason_not_to_be() -> None:
    assert {name for name, _ in leaves(main)} == ASKED.keys() | NOT_ASKED.keys()


@pytest.mark.parametrize("name", ASKED)
def test_what_a_command_shows_commands_nobody(name: str, world: World, shell: Shell, tmp_path: Path) -> None:
    takes_json = any("--json" in each.opts for each in dict(leaves(main))[name].params)
    for pattern in ASKED[name]:
        for job_name in (*PROPER.values(), LIES, REFUSES) if any("JOB" in part for part in pattern) else (LIES,):
            arguments = tuple(filled(part, job_name, world, tmp_path) for part in pattern)
            ask(shell, name, arguments, terminal=False)
            ask(shell, name, arguments, terminal=True)
            if takes_json:
                said = ask(shell, name, ("--json", *arguments), terminal=False)
                assert said.raw.isascii()
                for text in said.out.splitlines() if name in AS_TEXT else [said.out] if said.code == 0 else []:
                    json.loads(text)


def filled(part: str, job_name: str, world: World, tmp_path: Path) -> str:
    machine = PROPER["shell"]
    crontab = tmp_path / "crontab"
    crontab.write_bytes(CRONTAB.replace("\0", "").encode())
    places = {"DIR": world.conf_d, "STATE": world.state, "SCRATCH": tmp_path, "FILE": crontab}
    values = {name: str(path) for name, path in places.items()}
    values |= {"JOB": job_name, "JOB?": f"{job_name}?", "MACHINE": machine, "MACHINE?": f"{machine}?"}
    values |= {"RUN": world.runs[job_name], "TEXT": ANY_TEXT.replace("\0", "")}
    values["FRESH"] = str(tmp_path / f"backup-{len([*tmp_path.iterdir()])}.tar")
    return values.get(part, part)


def ask(shell: Shell, name: str, arguments: tuple[str, ...], *, terminal: bool) -> Said:
    said = shell(*name.split(), *arguments, terminal=terminal, code=None)
    assert said.code in (0, 1, 2, 3, 4, 143), said
    assert "Traceback" not in said.err
    if terminal or name not in AS_TEXT:
        assert not unseemly(said.out, colours=terminal), said.out
    assert not unseemly(said.err), said.err
    return said


async def test_a_shell_is_offered_no_names_that_it_would_carry_out(world: World) -> None:
    asked = {"_SALTPETER_COMPLETE": "bash_complete", "COMP_WORDS": "saltpeter run ", "COMP_CWORD": "2"}
    done = await command(env={**os.environ, **asked, SOCKET_VARIABLE: str(world.socket)})
    offered = done.stdout.decode()
    assert f"plain,{LIES}" in offered
    assert not re.search(r"[^\w\s,.:@%+=/-]", offered)


def test_what_looks_bad_is_found_by_these_tests() -> None:
    assert {*UNSEEMLY.findall(ANY_TEXT)} >= {"\x1b", "\x9b", "\u202e", "\x07", "\x7f", "\r"}
