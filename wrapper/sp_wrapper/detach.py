"""Leaving whoever started us: Salt waits until every copy of its pipes is closed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable


def detach(work: Callable[[], object], keep: Iterable[int]) -> None:
    """Run `work` in a session and process of its own, without our descriptors but `keep`. Returns at once.

    Raises OSError when there cannot be another process.
    """
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            raise OSError(os.waitstatus_to_exitcode(status), "the wrapper could not fork")
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
    except OSError as exc:
        os._exit(exc.errno or 1)
    try:
        close_all_but(keep)
        work()
    finally:
        os._exit(0)


def close_all_but(keep: Iterable[int]) -> None:
    """Point 0 to 2 at /dev/null and close the rest."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    kept = {0, 1, 2, *keep}
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(fd)
