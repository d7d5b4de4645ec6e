"""Look for inputs that are bugs, led by what they reach in the code:

    python -m tests.fuzz.run wire --seconds 600
    python -m tests.fuzz.run wire --runs 20000 --seed 1     the same inputs each time

What is found is kept in the target's corpus, as crash-...; new inputs that reach further are put into `--keep`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
OF_OTHERS = ("h11", "websockets", "yaml", "croniter")


def main() -> None:
    asked = _parser().parse_args()
    with atheris.instrument_imports(include=["saltpeter", "sp_wrapper", *OF_OTHERS]):
        targets = importlib.import_module("tests.fuzz.targets")
    keep, seeds = Path(asked.keep), targets.CORPUS / asked.target
    keep.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={asked.seconds}",  # 0: however long it takes
        f"-runs={asked.runs}",
        f"-seed={asked.seed}",
        f"-max_len={targets.LONGEST}",
        f"-artifact_prefix={seeds}/",
        "-timeout=10",  # seconds that one input may take
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(keep), str(seeds)], targets.TARGETS[asked.target])
    atheris.Fuzz()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1: as many as there is time for")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time, which is printed")
    parser.add_argument("--keep", default=str(ROOT / "build" / "fuzz"))
    return parser


if __name__ == "__main__":
    main()
