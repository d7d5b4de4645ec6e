"""The wall clock, its alarm, and news of its being set. Deadlines are trio's business; the two never mix."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache

import attrs
import trio

from saltpeter.logs import fields

log = logging.getLogger(__name__)

# <linux/timerfd.h> and <linux/time.h>; Python itself offers timerfd from 3.13 on only
_CLOCK_REALTIME = 0
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_FAR_AWAY_S = 2**33  # about 270 years
_US = 1_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def now() -> datetime:
    """The instant, in UTC."""
    return datetime.now(timezone.utc)


@attrs.define(eq=False)
class Alarm:
    """Rings at an instant of the wall clock, and whenever that clock is set (by NTP, by hand, at the end of a suspend).

    The kernel's timer keeps to the microsecond, where trio's deadlines count whole milliseconds.
    """

    _ring: Callable[[], None]  # who is rung for, sets it anew
    _at: datetime | None = attrs.field(default=None, init=False)
    _descriptor: int | None = attrs.field(default=None, init=False)  # while it is served

    def set(self, at: datetime | None) -> None:
        """Ring at `at`, and no longer at any other instant."""
        self._at = at
        if self._descriptor is not None:
            self._arm(self._descriptor)

    async def serve(self) -> None:
        """Ring when it is time; until cancelled."""
        self._descriptor = descriptor = _timer()
        try:
            self._arm(descriptor)
            while True:
                await trio.lowlevel.wait_readable(descriptor)
                try:
                    os.read(descriptor, 8)
                except BlockingIOError:  # it has just been set anew
                    continue
                except OSError:  # ECANCELED: this is how the kernel says that the clock was set
                    _tell_of_a_step()
                self._ring()
        finally:
            self._descriptor = None
            os.close(descriptor)

    def _arm(self, descriptor: int) -> None:
        if not _set_timer(descriptor, self._at):
            _tell_of_a_step()
            self._ring()


def _tell_of_a_step() -> None:
    log.info("The clock was set", extra=fields("clock.stepped"))


def _timer() -> int:
    descriptor: int = _libc().timerfd_create(_CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return descriptor


def _set_timer(descriptor: int, at: datetime | None) -> bool:
    """Let it fire at `at`; False when the clock was set since it was read."""
    us = _FAR_AWAY_S * _US if at is None else round(at.timestamp() * _US)
    spec = _Itimerspec(_Timespec(0, 0), _Timespec(us // _US, us % _US * 1000))
    flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
    if _libc().timerfd_settime(descriptor, flags, ctypes.byref(spec), None) >= 0:
        return True
    if ctypes.get_errno() == errno.ECANCELED:  # it is armed all the same, and this is said once only
        return False
    raise OSError(ctypes.get_errno(), "timerfd_settime")


@lru_cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
