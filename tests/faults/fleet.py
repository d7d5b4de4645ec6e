"""What a campaign is about: a daemon, its jobs on a few machines, and the network between them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import trio

from saltpeter.client import connect
from saltpeter.lab import Lab, free_ports
from saltpeter.store.places import Places
from saltpeter.store.schema import connect_for_reading
from tests.faults import command
from tests.faults.network import Network
from tests.helpers.daemon import Daemon, Process, eventually

MACHINES = tuple(f"m{number:02}" for number in range(1, 7))
DISK_BYTES = 192 * 1024 * 1024  # of the daemon's state directory, where we may mount one
READ_S = 1.5  # in which the daemon has seen that its files have changed
SETTLE_S = 120.0  # for whatever was going on to end, once nobody disturbs it any more


@attrs.frozen(kw_only=True)
class Work:
    """A job of a campaign, and what its command does."""

    name: str
    schedule: str | None = None  # None: by hand
    machines: Sequence[str] = MACHINES
    size: int = 0  # bytes that it writes
    seconds: float = 0.0  # that it takes
    fails: int = 0  # in 100 cases
    more: Mapping[str, Any] = attrs.field(factory=dict)  # keys of the job

    def written(self, journal: Path) -> Mapping[str, Any]:
        """The job as a file of conf.d has it."""
        program = Path(command.__file__)
        return {
            "command": f"exec {sys.executable} -I -S {program} {self.size} {self.seconds:g} {self.fails}",
            "targets": list(self.machines),
            "timezone": "UTC",
            "env": {command.JOURNAL: str(journal)},
            **({} if self.schedule is None else {"schedule": self.schedule}),
            **self.more,
        }


def instant() -> datetime:
    return datetime.now(timezone.utc)


@attrs.define(eq=False)
class Fleet:
    """One daemon on 127.0.0.2, and on 127.0.0.1, where its wrappers look for it, the network.

    With a `lab`, the machines are its minions; else the daemon starts everything itself.
    """

    daemon: Daemon
    network: Network
    works: Mapping[str, Work]
    wrapper_file: Path
    limited_disk: bool
    lab: Lab | None = None
    ready_at: datetime | None = attrs.field(default=None, init=False)  # the first time
    idle_at: datetime | None = attrs.field(default=None, init=False)  # no slots were wanted from then on

    @property
    def journal(self) -> Path:
        return self.daemon.directory / "journal"

    @property
    def places(self) -> Places:
        return Places(self.daemon.state)

    def configure(self, *, enabled: bool = True) -> None:
        """Write the jobs; with `enabled` False they have no slots any more."""
        jobs = {name: {**work.written(self.journal), "enabled": enabled} for name, work in self.works.items()}
        self.daemon.write("jobs", **jobs)

    async def start(self) -> None:
        """Returns once the daemon is ready, and the first time has put down from when on slots count."""
        await self.daemon.start()
        if self.ready_at is None:
            self.ready_at = instant()
            await trio.sleep(READ_S)

    def kill(self) -> None:
        self.daemon.process.kill()
        self.daemon.process.wait()

    async def stop(self) -> int:
        return await self.daemon.signal(signal.SIGTERM)

    async def run(self, job: str) -> str:
        """Start it by hand; its run's id."""
        async with connect(self.daemon.socket) as client:
            started = await client.request("run", job)
        return str(started["job_instance"])

    async def settle(self) -> list[str]:
        """Let everything come to its end: no new slots, a last wrapper on each machine. What did not end is named."""
        self.network.heal()
        self.idle_at = instant()
        self.configure(enabled=False)
        await trio.sleep(READ_S)
        with trio.move_on_after(SETTLE_S):
            await eventually(lambda: not self.living(), 2 * SETTLE_S)
            await self.run("sweep")
            await eventually(lambda: not self.living() and not self.pending(), 2 * SETTLE_S)
        unheard = [f"{path} is still to be told" for path in self.pending()]
        return [f"{run} goes on" for run in self.living()] + unheard

    def living(self) -> list[str]:
        """The runs that have not ended."""
        connection = connect_for_reading(self.places.ledger)
        try:
            return [run for (run,) in connection.execute("SELECT run FROM runs WHERE ended_us IS NULL")]
        finally:
            connection.close()

    def pending(self) -> list[Path]:
        """What wrappers have not been able to tell yet."""
        return sorted(path for home in self._homes() for path in home.glob("pending/*"))

    def _homes(self) -> Iterable[Path]:
        """Where the machines' wrappers keep what they have."""
        if self.lab is not None:
            return map(self.lab.statedir, self.lab.minions)
        return (self.daemon.directory / "wrappers" / "machines").glob("*")

    def wrappers(self) -> dict[int, Process]:
        return {each.pid: each for each in self.daemon.marked() if each.is_wrapper and "SP_MACHINE_ID" in each.env}


@contextmanager
def fleet(
    directory: Path, wrapper_file: Path, works: Sequence[Work], chance: random.Random, lab: Lab | None = None
) -> Iterator[Fleet]:
    """A fleet that is not started yet. At the end nothing of it is left running or mounted."""
    [port] = free_ports(1)
    settings = {
        **({"executor": "local"} if lab is None else {"master_config": str(lab.master_config)}),
        "machines_ws_port": port,
        "machines_ws_bind_addr": "127.0.0.2",
        "default_saltpeter_server_host": "127.0.0.1",
        "default_wrapper_path": str(wrapper_file),
        "default_wrapper_logdir": str(directory / "wrapper-log"),
    }
    daemon = Daemon(directory, settings)
    daemon.state.mkdir(mode=0o700)
    mounted = _mount(daemon.state)
    try:
        (directory / "wrappers").mkdir(mode=0o700)
        (daemon.state / "wrappers").symlink_to(directory / "wrappers")  # the machines' disks are not the daemon's
        network = Network(("127.0.0.1", port), ("127.0.0.2", port), chance)
        made = Fleet(daemon, network, {work.name: work for work in works}, wrapper_file, mounted, lab)
        made.configure()
        try:
            yield made
        finally:
            daemon.end_everything()
            if lab is not None:
                for minion in lab.minions:  # what was never told must not occupy the next daemon
                    shutil.rmtree(lab.statedir(minion), ignore_errors=True)
    finally:
        if mounted:
            subprocess.run(["umount", str(daemon.state)], check=True)


def _mount(path: Path) -> bool:
    """Give it a small disk of its own. False where we may not."""
    if os.geteuid() != 0:
        return False
    asked = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(path)]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0
