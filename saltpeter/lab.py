"""A private Salt master with minions on this machine, for trying things out and for the tests.

Everything stays below one directory and on loopback, under the present user. When the process that made the lab dies,
however it dies, the lab dies with it.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import trio
import yaml

from saltpeter.engine.launcher import Ping
from saltpeter.errors import LaunchUnknown, SaltpeterError
from saltpeter.launch.salt import SaltLauncher

_SOCKET_PATH_MAX = 107  # bytes, on Linux
_LONGEST_SOCKET = "minion-with-an-id/s/minion_event_0123456789_pull.ipc"
_READY_S = 90.0
_DEAD_S = 5.0
_EPHEMERAL_FROM = 32_768  # Linux' default
_PING_AGAIN_S = 1.0

# The daemon and whatever it forks are one process group. The shell that leads it ends the group when its stdin
# ends, and that is held open by the lab's process alone.
_LEADER = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & cat >/dev/null; kill -KILL 0'

_QUIET = {"log_level": "critical", "enable_gpu_grains": False, "enable_fqdns_grains": False}
_OF_MASTER = {"interface": "127.0.0.1", "auto_accept": True, "worker_threads": 2}
_OF_MINIONS = {
    "master": "127.0.0.1",
    "multiprocessing": False,  # threads start a command faster, and nothing here kills a Salt job
    "acceptance_wait_time": 1,
    "random_reauth_delay": 1,
    "recon_default": 200,
    "recon_max": 1000,
    "mine_enabled": False,
}


class LabError(SaltpeterError):
    """The lab cannot be set up, or its machines do not come up."""


@attrs.define
class Lab:
    """A running lab. Every method may be called again; stopping is by SIGKILL, as a crash would be."""

    directory: Path
    master_config: Path
    minions: tuple[str, ...]  # ids, whether they run or not
    publish_port: int
    ret_port: int
    launcher: SaltLauncher  # serving as long as the lab lives
    _env: Mapping[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = attrs.field(factory=dict, init=False)

    def statedir(self, minion: str) -> Path:
        """What the wrappers on that minion see as SP_STATEDIR: they share a host, but not their state."""
        return self.directory / minion / "wrapper"

    async def start_master(self) -> None:
        """Returns once the master answers requests; the minions may need a moment more."""
        self._spawn("master", "salt-master", "-c", str(self.master_config.parent))
        with self._deadline("the master does not answer"):
            while not await self.launcher.reachable():  # noqa: ASYNC110  another process's state: nothing tells us
                await trio.sleep(0.1)

    async def stop_master(self) -> None:
        await self._stop("master")

    async def restart_master(self) -> None:
        await self.stop_master()
        await self.start_master()

    async def start_minion(self, minion: str) -> None:
        """Returns once it answers."""
        self._spawn_minion(minion)
        await self.answering([minion])

    async def stop_minion(self, minion: str) -> None:
        await self._stop(minion)

    async def answering(self, minions: Collection[str]) -> None:
        """Wait until all of `minions` answer a ping. Raises LabError when they do not come up."""
        missing = set(minions)
        with self._deadline(f"no answer from {', '.join(sorted(missing))}"):
            while missing:
                missing -= await self._pinged(missing)

    def freeze_master(self) -> None:
        """The master hangs: it accepts connections and answers nothing."""
        os.killpg(self._running["master"].pid, signal.SIGSTOP)

    def thaw_master(self) -> None:
        os.killpg(self._running["master"].pid, signal.SIGCONT)

    async def start(self) -> None:
        """Everything at once, which is faster than one after the other."""
        for minion in self.minions:
            self._spawn_minion(minion)
        await self.start_master()
        await self.answering(self.minions)

    def kill(self) -> None:
        """End every process of the lab. Blocks for a moment."""
        running, self._running = self._running, {}
        for process in running.values():
            _kill(process)

    async def _pinged(self, minions: Collection[str]) -> set[str]:
        """Who answers within a moment. A first publish may be lost on minions that are not connected yet."""
        ticket, found = self.launcher.ticket(), set[str]()
        with trio.move_on_after(_PING_AGAIN_S), suppress(LaunchUnknown):
            async with self.launcher.answers(ticket) as answers:
                await self.launcher.publish(ticket, Ping(), minions)
                async for answer in answers:
                    found.add(answer.machine)
                    if found.issuperset(minions):
                        break
        return found

    def _spawn_minion(self, minion: str) -> None:
        config = str(self.directory / minion / "etc")
        self._spawn(minion, "salt-minion", "--disable-keepalive", "-c", config)

    def _spawn(self, name: str, program: str, *args: str) -> None:
        if name in self._running:
            raise LabError(f"{name} runs already")
        # after a kill, Salt takes a process that nobody has reaped yet for a running daemon
        shutil.rmtree(_pidfile(self.directory / name).parent, ignore_errors=True)
        command = [_beside_python(program), *args]
        # not trio's open_process: the end of this pipe must be in this process's hands until it dies
        self._running[name] = subprocess.Popen(  # noqa: S603  a program of this host, with arguments of ours
            ["/bin/sh", "-c", _LEADER, "sh", str(self.directory / f"{name}.log"), *command],
            stdin=subprocess.PIPE,
            env={**self._env, "SP_STATEDIR": str(self.statedir(name))},
            start_new_session=True,
        )

    async def _stop(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is not None:
            await trio.to_thread.run_sync(_kill, process)

    @contextmanager
    def _deadline(self, problem: str) -> Iterator[None]:
        try:
            with trio.fail_after(_READY_S):
                yield
        except trio.TooSlowError as exc:
            raise LabError(f"{problem} within {_READY_S:.0f} s; see {self.directory}/*.log") from exc


@asynccontextmanager
async def lab(
    directory: Path | None = None, minions: int = 3, env: Mapping[str, str] | None = None
) -> AsyncIterator[Lab]:
    """A master and `minions` minions (m1, m2...) that answer. `env` replaces the environment they are started in.

    Without a directory, a temporary one is made, and removed at the end. A directory may be used again: keys and
    the job cache are still there. Raises LabError.
    """
    if directory is None:
        made = Path(tempfile.mkdtemp(prefix="splab"))
        try:
            async with lab(made, minions, env) as built:
                yield built
        finally:
            await trio.to_thread.run_sync(shutil.rmtree, made, True)
        return
    built = _prepare(directory, minions, os.environ if env is None else env)
    async with trio.open_nursery() as nursery:
        await nursery.start(built.launcher.serve)
        try:
            await built.start()
            yield built
        finally:
            built.kill()
        nursery.cancel_scope.cancel()


def _prepare(directory: Path, minions: int, env: Mapping[str, str]) -> Lab:
    directory = directory.absolute()
    ids = tuple(f"m{number}" for number in range(1, minions + 1))
    publish_port, ret_port = free_ports(2)
    master_config = _write_configs(directory, ids, publish_port, ret_port)
    launcher = SaltLauncher(str(master_config))
    return Lab(directory, master_config, ids, publish_port, ret_port, launcher, dict(env))


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses now.

    Not from the range that the kernel itself gives out: in it, a minion that tries again and again to reach a
    stopped master would sooner or later be connected to itself, and the master could not have its port back.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, _EPHEMERAL_FROM)  # noqa: S311  it only has to be another one
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _write_configs(directory: Path, minions: Collection[str], publish_port: int, ret_port: int) -> Path:
    if len(os.fsencode(directory / _LONGEST_SOCKET)) > _SOCKET_PATH_MAX:
        raise LabError(f"{directory} is too long a path for Salt's unix sockets: use a shorter one")
    master = directory / "master" / "etc" / "master"
    ports = {"publish_port": publish_port, "ret_port": ret_port}
    _write_config(master, {**_common(directory / "master"), **_OF_MASTER, **ports})
    for minion in minions:
        home = directory / minion
        (home / "etc" / "minion.d").mkdir(parents=True, exist_ok=True)
        ports = {"publish_port": publish_port, "master_port": ret_port}
        _write_config(home / "etc" / "minion", {**_common(home), **_OF_MINIONS, **ports, "id": minion})
    return master


def _common(home: Path) -> Mapping[str, object]:
    """What masters and minions have alike. Salt moves the sockets into the cache when that has the shorter name."""
    return {
        "root_dir": str(home),
        "pidfile": str(_pidfile(home)),
        "sock_dir": str(home / "s"),
        "cachedir": str(home / "cache"),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        **_QUIET,
    }


def _pidfile(home: Path) -> Path:
    return home / "run" / "pid"


def _write_config(path: Path, settings: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(settings)))


def _beside_python(program: str) -> str:
    path = Path(sys.executable).parent / program
    if not path.exists():
        raise LabError(f"there is no {program} beside {sys.executable}: is Salt installed there?")
    return str(path)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the group that `process` leads, and wait until its sockets are closed."""
    os.killpg(process.pid, signal.SIGKILL)  # it is not reaped before that, so its id cannot be another's yet
    process.wait()
    assert process.stdin is not None  # noqa: S101  it was asked for
    process.stdin.close()
    limit = time.monotonic() + _DEAD_S
    while _lives(process.pid) and time.monotonic() < limit:
        time.sleep(0.01)


def _lives(group: int) -> bool:
    """Does a process of the group still hold anything? One that waits to be reaped does not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False
