"""What the kernel says of a process, and what processes need of it."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

_ALL_THREADS = 2  # CPUCLOCK_SCHED of the kernel's process clocks


def raise_limits() -> None:
    """As many open files as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process has used, by all its threads, those included that have ended."""
    return time.clock_gettime((~pid << 3) | _ALL_THREADS)


def memory(pid: int) -> int:
    """Bytes that the process has in use (its resident set)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no figure for {pid}")


def group_cpu_s(group: int) -> float:
    """Seconds of CPU that the living processes of a process group have used, and the children that they waited for."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
