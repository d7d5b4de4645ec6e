"""The wall clock, and news of its being set. Deadlines are trio's business; the two never mix."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from datetime import datetime, timezone

import trio

from saltpeter.logs import fields

log = logging.getLogger(__name__)

# <linux/timerfd.h> and <linux/time.h>; Python itself offers timerfd from 3.13 on only
_CLOCK_REALTIME = 0
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_FAR_AWAY_S = 2**33  # about 270 years: the timer itself never fires


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def now() -> datetime:
    """The instant, in UTC."""
    return datetime.now(timezone.utc)


async def watch_steps(stepped: Callable[[], None]) -> None:
    """Call `stepped` whenever the wall clock is set (by NTP, by hand, at the end of a suspend); until cancelled."""
    descriptor = _timer()
    try:
        while True:
            _arm(descriptor)
            await trio.lowlevel.wait_readable(descriptor)
            try:
                os.read(descriptor, 8)
            except OSError:  # ECANCELED: this is how the kernel says that the clock was set
                log.info("The clock was set", extra=fields("clock.stepped"))
                stepped()
    finally:
        os.close(descriptor)


def _timer() -> int:
    descriptor: int = _libc().timerfd_create(_CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return descriptor


def _arm(descriptor: int) -> None:
    spec = _Itimerspec(_Timespec(0, 0), _Timespec(_FAR_AWAY_S, 0))
    flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
    if _libc().timerfd_settime(descriptor, flags, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
