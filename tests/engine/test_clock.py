"""The wall clock's alarm is the kernel's. What it says of a clock that was set is played: nobody may set it here."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio

from saltpeter.engine import clock
from saltpeter.engine.clock import Alarm, now
from tests.helpers.daemon import Daemon, eventually


@attrs.define(eq=False)
class Bell:
    """Notes when it rings."""

    times: list[datetime] = attrs.field(factory=list)
    _rung: trio.Event = attrs.field(factory=trio.Event)

    def ring(self) -> None:
        self.times.append(now())
        self._rung.set()

    async def after(self, alarm: Alarm, at: datetime) -> None:
        """Return when `alarm`, set to `at`, has rung."""
        self._rung = trio.Event()
        alarm.set(at)
        with trio.fail_after(10):
            await self._rung.wait()


async def test_it_rings_at_its_instant_and_not_before(nursery: trio.Nursery) -> None:
    bell = Bell()
    alarm = Alarm(bell.ring)
    nursery.start_soon(alarm.serve)
    for after_s in (0.02, 0.001, -5, 0.0305):  # the third is gone already
        at = now() + timedelta(seconds=after_s)
        await bell.after(alarm, at)
        assert bell.times[-1] >= at
    assert len(bell.times) == 4


async def test_it_may_be_set_before_it_is_served_and_set_anew(nursery: trio.Nursery) -> None:
    bell = Bell()
    alarm = Alarm(bell.ring)
    alarm.set(now() + timedelta(hours=1))
    nursery.start_soon(alarm.serve)
    await trio.sleep(0.02)
    alarm.set(None)
    await bell.after(alarm, now() + timedelta(seconds=0.02))
    alarm.set(now() + timedelta(seconds=0.05))
    alarm.set(None)
    await trio.sleep(0.1)
    assert len(bell.times) == 1


async def test_the_daemon_sleeps_by_it(tmp_path: Path) -> None:
    """The kernel shows the timer: of the wall clock, not yet far from the next slot, and cancelled when that is set."""
    daemon = Daemon(tmp_path, {"executor": "local"})
    daemon.write(soon={"command": "true", "schedule": "* * * * *", "targets": ["m1"]})
    try:
        await daemon.start()
        await eventually(lambda: any(0 < seconds <= 60 for seconds in timers(daemon.process.pid)))
    finally:
        daemon.end_everything()


def timers(pid: int) -> list[int]:
    """Seconds that the process's timers of the wall clock have left, of those that mind its being set."""
    found = []
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            text = path.read_text()
            if "clockid: 0" in text and "settime flags: 03" in text:
                found.append(int(text.partition("it_value: (")[2].partition(",")[0]))
    return found


@pytest.mark.parametrize("by", ["read", "set"])
async def test_it_rings_when_the_clock_was_set(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    """The kernel tells whoever reads the timer or sets it next, and only once."""
    caplog.set_level("INFO", "saltpeter")
    bell = Bell()
    alarm = Alarm(bell.ring)
    nursery.start_soon(alarm.serve)
    await trio.sleep(0.01)
    if by == "read":
        read = os.read

        def cancelled(descriptor: int, size: int) -> bytes:
            read(descriptor, size)
            monkeypatch.setattr(os, "read", read)
            raise OSError(errno.ECANCELED, "cancelled")

        monkeypatch.setattr(os, "read", cancelled)
        await bell.after(alarm, now())
    else:

        class Libc:
            @staticmethod
            def timerfd_settime(*_: object) -> int:
                ctypes.set_errno(errno.ECANCELED)
                return -1

        monkeypatch.setattr(clock, "_libc", Libc)
        alarm.set(None)
    assert len(bell.times) == 1
    assert "The clock was set" in caplog.text
