"""The daemon as operators have it: a process of its own, jobs in files, a control socket and a command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import yaml

from saltpeter.client import Client, connect
from saltpeter.host import SOCKET_VARIABLE
from saltpeter.lab import free_ports
from saltpeter.wrapper_build import build

MARK = "TEST_MARK"  # in the environment of whatever a test starts
MINUTE = 60.0  # longer than anything here takes
LOOK_S = 0.02

Wanted = Mapping[str, Any]  # a job, as its file has it


@pytest.fixture(scope="session")
def wrapper_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrapper as it is shipped."""
    file = tmp_path_factory.mktemp("built") / "sp_wrapper.py"
    build(file)
    return file


async def eventually(holds: Callable[[], object], within_s: float = MINUTE) -> None:
    """Wait for something that is another process's doing, of which nobody tells."""
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110  nobody could set an event
            await trio.sleep(LOOK_S)


# --- processes -----------------------------------------------------------------------------------


@attrs.frozen
class Process:
    """A living process, as /proc shows it."""

    pid: int
    parent: int
    arguments: str
    env: Mapping[str, str]

    @property
    def is_wrapper(self) -> bool:
        return "sp_wrapper.py" in self.arguments


def processes() -> Iterator[Process]:
    """All that live. Those that have ended show no environment, or no arguments if they end just now."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ = (path / "environ").read_bytes().decode(errors="replace")
            arguments = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if arguments:
            env = dict(entry.split("=", 1) for entry in environ.split("\0") if "=" in entry)
            yield Process(int(path.name), parent, arguments.strip(), env)


# --- one daemon ----------------------------------------------------------------------------------


@attrs.define
class Daemon:
    """A daemon that may be started, ended and started again; everything of it is below `directory`."""

    directory: Path
    settings: Mapping[str, Any]
    mark: str = attrs.field(factory=lambda: uuid.uuid4().hex, init=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        [port] = free_ports(1)  # the same after a restart, for the wrappers come back to it
        own = {"machines_ws_port": port, "api_ws": False, "statedir": str(self.state), "logdir": str(self.logs)}
        self.conf_d.mkdir()
        self.settings = {**own, **self.settings}
        self.configure()

    @property
    def conf_d(self) -> Path:
        return self.directory / "conf.d"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def socket(self) -> Path:
        return self.state / "control.sock"

    @property
    def stderr(self) -> Path:
        return self.directory / "daemon.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def write(self, file: str = "jobs", /, **jobs: Wanted) -> None:
        """Make these the jobs of a file. Without a schedule of their own they are run by hand."""
        self._write(file, {name: self._complete(job) for name, job in jobs.items()})

    def configure(self, **settings: Any) -> None:
        """Change some of the settings."""
        self.settings = {**self.settings, **settings}
        self._write("settings", {"saltpeter_config": self.settings})

    def _complete(self, job: Wanted) -> Wanted:
        return {"schedule": "@yearly", "targets": "*", **job, "env": {MARK: self.mark, **job.get("env", {})}}

    def _write(self, file: str, content: Mapping[str, Any]) -> None:
        draft = self.directory / "draft"
        draft.write_text(yaml.safe_dump(dict(content)))
        draft.replace(self.conf_d / f"{file}.yaml")

    async def start(self, *options: str) -> None:
        """Returns once it is ready."""
        ready = self.log().count("Ready: ")
        with self.stderr.open("ab") as stderr:
            command = (sys.executable, "-m", "saltpeter", "daemon", "-c", str(self.conf_d), *options)
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)  # noqa: ASYNC220
        await eventually(lambda: self.log().count("Ready: ") > ready or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()

    async def signal(self, number: signal.Signals) -> int:
        """Send it; return the exit code when it has ended."""
        self.process.send_signal(number)
        await eventually(lambda: self.process.poll() is not None)
        return self.process.returncode

    def log(self) -> str:
        return self.stderr.read_text() if self.stderr.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """The log of a daemon that writes JSON."""
        return [json.loads(line) for line in self.log().splitlines()]

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Give a command, as in a terminal beside it."""
        env = {**os.environ, SOCKET_VARIABLE: str(self.socket)}
        return await command(*arguments, env=env)

    @asynccontextmanager
    async def watching(self, *jobs: str) -> AsyncIterator[Watch]:
        with trio.fail_after(3 * MINUTE):
            async with connect(self.socket) as client:
                watch = Watch(client)
                if jobs:
                    await client.request("subscribe", jobs)
                yield watch

    def commands(self, job: str | None = None) -> list[Process]:
        """What its jobs started and still runs, without the wrappers."""
        return [process for process in self.marked() if not process.is_wrapper and _of(process, job)]

    def wrappers(self, machine: str) -> list[Process]:
        """The wrapper's processes on one machine, each before its children."""
        found = [each for each in self.marked() if each.is_wrapper and each.env["SP_MACHINE_ID"] == machine]
        pids = {process.pid for process in found}
        return sorted(found, key=lambda process: process.parent in pids)

    def marked(self) -> list[Process]:
        return [process for process in processes() if process.env.get(MARK) == self.mark]

    def end_everything(self) -> None:
        """The daemon, and all that its jobs and wrappers left behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        while left := self.marked():
            for process in left:
                kill(process.pid)


@contextmanager
def local_daemon(directory: Path, wrapper_file: Path, **settings: Any) -> Iterator[Daemon]:
    """One whose machines are this host, not started yet. What it starts is ended with the block."""
    own = {
        "executor": "local",
        "default_wrapper_path": str(wrapper_file),
        "default_wrapper_logdir": str(directory / "wrapper-log"),
    }
    made = Daemon(directory, {**own, **settings})
    try:
        yield made
    finally:
        made.end_everything()


def _of(process: Process, job: str | None) -> bool:
    return job in (None, process.env.get("SP_JOB_NAME"))


def kill(pid: int) -> None:
    """End one process, if it has not ended just now."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def command(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """`saltpeter ARGUMENTS`, with its output."""
    with trio.fail_after(MINUTE):
        return await trio.run_process(
            (sys.executable, "-m", "saltpeter", *arguments),
            env=env,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


# --- what a client sees --------------------------------------------------------------------------


@attrs.frozen
class Result:
    """One machine's part of a run that has ended."""

    code: int
    end: str
    output: str
    started_at: datetime
    ended_at: datetime
    raw: Mapping[str, Any]


@attrs.define
class Watch:
    """What one client has been told. For one task at a time."""

    client: Client
    config: dict[str, Any] = attrs.field(factory=dict, init=False)
    details: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False)  # by job
    receipts: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False)  # by run: each machine's
    _output: dict[tuple[str, str], str] = attrs.field(factory=dict, init=False)  # by run and machine
    _complete: set[tuple[str, str]] = attrs.field(factory=set, init=False)

    async def run(self, job: str) -> str:
        """Start it by hand; its run's id."""
        started = await self.client.request("run", job)
        return str(started["job_instance"])

    async def kill(self, job: str) -> float:
        """End it; how many seconds it took until the receipts were there."""
        begun = time.monotonic()
        handed = await self.client.request("killCron", job)
        await self.until(lambda: all(run["job_instance"] in self.receipts for run in handed["runs"]))
        return time.monotonic() - begun

    async def until(self, holds: Callable[[], object], within_s: float = MINUTE) -> None:
        """Listen until something holds of what was told."""
        with trio.fail_after(within_s):
            while not holds():
                self._take(await self.client.__anext__())

    async def results(self, run: str, within_s: float = MINUTE) -> dict[str, Result]:
        """How it ended on each machine, once it has."""
        job = run.rpartition("_")[0]
        await self.until(lambda: self._has_ended(job, run), within_s)
        return {machine: self._result(job, run, machine) for machine in self.details[job]["results"]}

    def output(self, run: str, machine: str) -> str:
        """What has arrived of it so far."""
        return self._output.get((run, machine), "")

    def started(self, run: str, *machines: str) -> bool:
        details = self.details.get(run.rpartition("_")[0], {})
        results = details.get("results", {}) if details.get("job_instance") == run else {}
        return all(machine in results and results[machine]["wrapper_version"] for machine in machines)

    def _has_ended(self, job: str, run: str) -> bool:
        details = self.details.get(job, {})
        if details.get("job_instance") != run or not details["verdict"]:
            return False
        return all((run, machine) in self._complete for machine in details["results"])

    def _result(self, job: str, run: str, machine: str) -> Result:
        raw = self.details[job]["results"][machine]
        return Result(
            code=raw["retcode"],
            end=raw["outcome"],
            output=self.output(run, machine),
            started_at=datetime.fromisoformat(raw["starttime"]),
            ended_at=datetime.fromisoformat(raw["endtime"]),
            raw=raw,
        )

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "config":
                self.config = message["config"]
            case "details":
                self.details[message["cron"]] = message["data"]
            case "kill_receipt":
                self.receipts[message["job_instance"]] = message["machines"]
            case "output_chunk":
                self._take_output(message)

    def _take_output(self, message: dict[str, Any]) -> None:
        key = (message["instance"], message["machine"])
        before = self._output.get(key, "")
        assert message["position"] == len(before), "a gap, or something twice"
        self._output[key] = before + message["chunk"]
        if message["is_complete"]:
            self._complete.add(key)
