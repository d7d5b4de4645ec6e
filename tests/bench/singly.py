"""The daemon as it would be if each launch went out by itself, for comparison: `python -m tests.bench.singly ARGS`."""

from __future__ import annotations

from collections.abc import Collection

from saltpeter.cli import main
from saltpeter.engine.departures import Departures


def _always(_departures: Departures, _machines: Collection[str]) -> bool:
    return True


if __name__ == "__main__":
    Departures._must_go_singly = _always  # type: ignore[assignment]
    main(prog_name="saltpeter")
