"""Some seconds of coverage-guided fuzzing for each target; `make fuzz` takes longer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
MISSING = "ATHERIS IS NOT INSTALLED: NOTHING WAS FUZZED BY COVERAGE. It has no wheel for this Python or machine?"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=MISSING)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_moment(name: str, tmp_path: Path) -> None:
    before = set(CORPUS.joinpath(name).iterdir())
    keep = ROOT / "build" / "fuzz" / name if "FUZZ_SECONDS" in os.environ else tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, f"--seconds={SECONDS}", f"--keep={keep}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'wrapper'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS + 120,
        check=False,
    )
    found = set(CORPUS.joinpath(name).iterdir()) - before
    assert done.returncode == 0, f"{[path.name for path in found]}\n{done.stdout.decode(errors='replace')[-4000:]}"
    assert not found
    assert b"stat::number_of_executed_units" in done.stdout
