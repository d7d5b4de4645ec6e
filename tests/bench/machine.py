"""What the kernel says of a process, and what processes need of it."""

from __future__ import annotations

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
