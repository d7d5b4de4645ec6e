"""What the kernel says of a process, and what processes need of it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ALL_THREADS = 2  # CPUCLOCK_SCHED of the kernel's process clocks
_PARENT, _GROUP = 1, 2  # of what stands in /proc/PID/stat, behind the name


def raise_limits() -> None:
    """As many open files as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process and its children have used, by all threads, those included that have ended."""
    return sum(time.clock_gettime((~each << 3) | _ALL_THREADS) for each in _with_children(pid))


def memory(pid: int) -> int:
    """Bytes that the process and its children have in use (their resident sets: what they share counts twice)."""
    return sum(_resident(each) for each in _with_children(pid))


def _with_children(pid: int) -> list[int]:
    return [pid, *(number for number, fields in _processes() if int(fields[_PARENT]) == pid)]


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no figure for {pid}")


def _processes() -> Iterator[tuple[int, list[str]]]:
    """All that live, with what the kernel tells of each behind its name (see proc(5))."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            yield int(path.parent.name), path.read_text().rpartition(")")[2].split()


def group_cpu_s(group: int) -> float:
    """Seconds of CPU that the living processes of a process group have used, and the children that they waited for."""
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _processes() if int(fields[_GROUP]) == group)
    return ticks / os.sysconf("SC_CLK_TCK")
