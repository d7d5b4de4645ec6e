"""Faults at random moments, from one seed; each is noted, so that a checker knows what it may forgive."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import attrs
import trio

from saltpeter.domain.events import ExecutionId
from tests.faults.fleet import Fleet, Work
from tests.helpers.daemon import Process, eventually, kill, processes

PAUSE_S = (0.1, 1.2)  # between two faults
DOWN_S = (0.0, 3.0)  # a daemon stays away
CUT_OFF_S = (0.5, 6.0)  # a machine hears nothing
FULL_S = (0.5, 3.0)  # a disk stays full
LAUNCH_S = 5.0  # in which some wrapper is started

STEADY = Work(
    name="steady",
    schedule="*/4 * * * * *",
    machines=("m01", "m02", "m03"),
    size=100_000,
    seconds=2,
    fails=30,
    more={"misfire": "all"},
)
AGAIN = Work(
    name="again",
    schedule="*/7 * * * * *",
    machines=("m04", "m05"),
    size=5_000,
    seconds=0.5,
    fails=50,
    more={"retries": 2, "retry_delay": 1, "overlap": "allow"},
)
QUEUE = Work(
    name="queue", schedule="*/5 * * * * *", machines=("m06",), size=1_000, seconds=7, more={"overlap": "queue"}
)
REPLACE = Work(
    name="replace", schedule="*/9 * * * * *", machines=("m04",), size=9_000, seconds=12, more={"overlap": "replace"}
)
LIMIT = Work(name="limit", schedule="*/10 * * * * *", machines=("m05",), size=100, seconds=60, more={"timeout": 3})
OFTEN = Work(name="often", schedule="*/2 * * * * *", machines=("m06",), size=10)
SWEEP = Work(name="sweep")
WORKS = (STEADY, AGAIN, QUEUE, REPLACE, LIMIT, OFTEN, SWEEP)

Fault: TypeAlias = tuple[int, Callable[[], Awaitable[None]]]  # with its weight


@attrs.define
class Noted:
    """What was done."""

    counts: Counter[str] = attrs.field(factory=Counter)
    hurt: set[ExecutionId] = attrs.field(factory=set)  # a wrapper's process of it was killed, more than its reporter


@attrs.define(eq=False)
class Campaign:
    fleet: Fleet
    chance: random.Random
    noted: Noted = attrs.field(factory=Noted, init=False)

    async def run(self, seconds: float) -> None:
        """Do harm for so long."""
        weights, kinds = zip(*self.faults(), strict=True)
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at:
            await trio.sleep(self.chance.uniform(*PAUSE_S))
            [fault] = self.chance.choices(kinds, weights)
            self.noted.counts[fault.__name__] += 1
            await fault()

    def faults(self) -> list[Fault]:
        return [
            (4, self.kill_daemon),
            (2, self.kill_launching_daemon),
            (1, self.kill_starting_daemon),
            (1, self.stop_daemon),
            (1, self.kill_who_writes),
            (2, self.kill_reporter),
            (1, self.kill_supervisor),
            (1, self.kill_wrapper),
            (2, self.cut_one),
            (1, self.cut_all),
            (1, self.tear_one),
            (2, self.straggle),
            (2, self.stall),
            (2, self.delay),
            (1, self.refuse),
            *([(1, self.fill_disk)] if self.fleet.limited_disk else []),
        ]

    # --- the daemon ------------------------------------------------------------------------------

    async def kill_daemon(self) -> None:
        self.fleet.kill()
        await trio.sleep(self.chance.uniform(*DOWN_S))
        await self.fleet.start()

    async def kill_launching_daemon(self) -> None:
        """While a wrapper is on its way: does it start, or not?"""
        with trio.move_on_after(LAUNCH_S):
            await eventually(self.launching())
        await trio.sleep(self.chance.uniform(0, 0.1))
        self.fleet.kill()
        await self.fleet.start()

    def launching(self) -> Callable[[], bool]:
        """Whether a wrapper is on its way."""
        pid = self.fleet.daemon.process.pid
        return lambda: any(each.parent == pid for each in self.fleet.wrappers().values())

    async def kill_starting_daemon(self) -> None:
        self.fleet.kill()
        with trio.move_on_after(self.chance.uniform(0.3, 2.0)):
            await self.fleet.start()
        await self.kill_daemon()

    async def stop_daemon(self) -> None:
        with trio.fail_after(20):
            assert await self.fleet.stop() == 0
        await trio.sleep(self.chance.uniform(*DOWN_S))
        await self.fleet.start()

    async def kill_who_writes(self) -> None:
        """The daemon ends with its store."""
        daemon = self.fleet.daemon.process
        for each in processes():
            if each.parent == daemon.pid and "saltpeter.store.worker" in each.arguments:
                kill(each.pid)
        await eventually(lambda: daemon.poll() is not None)
        assert daemon.returncode > 0
        await self.fleet.start()

    async def fill_disk(self) -> None:
        """Every byte of it, for a while; half of the time the daemon is killed in the middle."""
        filler = self.fleet.daemon.state / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        await trio.sleep(self.chance.uniform(*FULL_S))
        dies = self.chance.random() < 0.5
        if dies:
            self.fleet.kill()
        filler.unlink()
        if dies:
            await self.fleet.start()

    # --- the wrappers ----------------------------------------------------------------------------

    async def kill_reporter(self) -> None:
        wrappers = self.fleet.wrappers()
        if reporters := [each for each in wrappers.values() if each.parent in wrappers]:
            kill(self.chance.choice(reporters).pid)
        await trio.lowlevel.checkpoint()

    async def kill_supervisor(self) -> None:
        """Or a wrapper that is just being started."""
        if (victim := self._victim()) is not None:
            kill(victim.pid)
        await trio.lowlevel.checkpoint()

    async def kill_wrapper(self) -> None:
        """All processes of one; its command runs on, until it writes."""
        if (victim := self._victim()) is None:
            return
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)  # it must not start another reporter
        for process in self.fleet.wrappers().values():
            if process.parent == victim.pid:
                kill(process.pid)
        kill(victim.pid)
        await trio.lowlevel.checkpoint()

    def _victim(self) -> Process | None:
        wrappers = self.fleet.wrappers()
        found = [each for each in wrappers.values() if each.parent not in wrappers]
        if not found:
            return None
        victim = self.chance.choice(found)
        env = victim.env
        self.noted.hurt.add(ExecutionId(env["SP_JOB_INSTANCE"], env["SP_MACHINE_ID"], int(env["SP_ATTEMPT"])))
        return victim

    # --- the network -----------------------------------------------------------------------------

    async def cut_one(self) -> None:
        if lines := self.fleet.network.lines:
            self.chance.choice(lines).cut()
        await trio.lowlevel.checkpoint()

    async def cut_all(self) -> None:
        self.fleet.network.cut()
        await trio.lowlevel.checkpoint()

    async def tear_one(self) -> None:
        """In the middle of a message."""
        if lines := self.fleet.network.lines:
            self.chance.choice(lines).torn = True
        await trio.lowlevel.checkpoint()

    async def straggle(self) -> None:
        """What machines have said arrives after what they say over their next connection."""
        for line in self.fleet.network.lines:
            if self.chance.random() < 0.5:
                line.straggle(self.chance.uniform(*CUT_OFF_S))
        await trio.lowlevel.checkpoint()

    async def stall(self) -> None:
        self.fleet.network.stall(self.chance.uniform(*CUT_OFF_S))
        await trio.lowlevel.checkpoint()

    async def delay(self) -> None:
        self.fleet.network.slowest_s = self.chance.choice((0.0, 0.01, 0.1, 0.5))
        await trio.lowlevel.checkpoint()

    async def refuse(self) -> None:
        self.fleet.network.close(self.chance.uniform(*CUT_OFF_S))
        await trio.lowlevel.checkpoint()
