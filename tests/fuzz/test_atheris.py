"""Coverage-guided fuzzing of each target: some thousand inputs, the same each time; `make fuzz` looks for new ones."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = os.environ.get("FUZZ_SECONDS")
SEED = "20261121"
RUNS = {"http": 1000, "config": 5000, "crontab": 300}  # what takes longer
MOST_RUNS = 10_000
PATIENCE_S = 300  # on a slow machine, for what takes some seconds
MISSING = "ATHERIS IS NOT INSTALLED: NOTHING WAS FUZZED BY COVERAGE. It has no wheel for this Python or machine?"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=MISSING)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    before = set(CORPUS.joinpath(name).iterdir())
    how = [f"--runs={RUNS.get(name, MOST_RUNS)}", f"--seed={SEED}", f"--keep={tmp_path / 'kept'}"]
    if SECONDS is not None:
        how = [f"--seconds={SECONDS}", f"--keep={ROOT / 'build' / 'fuzz' / name}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, *how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'wrapper'}", "PYTHONHASHSEED": SEED},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S + int(SECONDS or 0),
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    seed = re.findall(r"INFO: Seed: (\d+)", said)
    found = sorted(path.name for path in set(CORPUS.joinpath(name).iterdir()) - before)
    assert done.returncode == 0, f"{name} with the seed {seed}: {found}\n{said[-4000:]}"
    [tried] = re.findall(r"number_of_executed_units: +(\d+)", said)
    sys.stdout.write(f"{name}: {tried} inputs, seed {seed}\n")
    assert not found
