"""Measures how fast saltpeter is, on the machine that this runs on.

python -m tests.bench                         everything, in ten minutes
python -m tests.bench storm kills             some of it
python -m tests.bench --json FILE --scale 0.1
    python -m tests.bench --page docs/performance.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

from tests.bench import (
    clients,
    following,
    growth,
    heartbeats,
    history,
    idle,
    kills,
    lateness,
    one_minion,
    pushes,
    storm,
    throughput,
    wrapper,
)
from tests.bench.frame import Result, Sheet, as_json, as_markdown, as_table, into_page
from tests.bench.machine import raise_limits

BENCHMARKS: Mapping[str, tuple[str, Callable[[Sheet, float], Awaitable[None]]]] = {
    "idle": ("Idle, start and reload", idle.measure),
    "lateness": ("From a slot to its launch", lateness.measure),
    "heartbeats": ("Connected wrappers, a heartbeat from each every 5 seconds", heartbeats.measure),
    "storm": ("All machines of a run print a line and exit", storm.measure),
    "throughput": ("Output as fast as it goes, in messages of 64 KiB", throughput.measure),
    "kills": ("From a kill's request to the wrappers", kills.measure),
    "following": ("From a command's writing to a subscriber", following.measure),
    "pushes": ("What a client is sent when one machine of many ends", pushes.measure),
    "clients": ("Many clients while a job writes all the time", clients.measure),
    "history": ("Looking back", history.measure),
    "wrapper": ("The wrapper on its machine", wrapper.measure),
    "one_minion": ("Jobs due in the same second, through Salt", one_minion.measure),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables into that page, in place of its own")
    parser.add_argument("--scale", type=float, default=1.0, help="do so much of it, for trying the benchmarks out")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    raise_limits()
    facts = about()  # before the load is our own
    results: list[Result] = []
    for name in wanted.names or BENCHMARKS:
        results += _measure(name, wanted.scale)
    if wanted.json:
        wanted.json.write_text(as_json(results, facts) + "\n")
    if wanted.page:
        figures = f"{in_words(facts)}\n\n{as_markdown(results)}\n\n{growth.as_markdown(results)}\n"
        wanted.page.write_text(into_page(wanted.page.read_text(), figures))


def _measure(name: str, scale: float) -> list[Result]:
    title, measure = BENCHMARKS[name]
    sheet, begun = Sheet(title), time.monotonic()
    trio.run(measure, sheet, scale)
    print(as_table(sheet.results))  # noqa: T201
    print(f"  ({time.monotonic() - begun:.0f} s)\n", flush=True)  # noqa: T201
    return sheet.results


def in_words(facts: Mapping[str, object]) -> str:
    return (
        f"Measured {facts['at']} UTC on {facts['cpus']} processors at a load of {facts['load']:.1f}, with"
        f" Python {facts['python']}, trio {facts['trio']}, SQLite {facts['sqlite']} and Linux {facts['kernel']}."
    )


def about() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "trio": trio.__version__,
        "sqlite": sqlite3.sqlite_version,
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


if __name__ == "__main__":
    main()
