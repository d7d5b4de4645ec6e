"""What writes the files loads little, so that it can do so in a small process of its own."""

from __future__ import annotations

import subprocess
import sys

WRITING = ("codec", "facts", "forgetting", "lives", "schema", "streams")
HEAVY = ("cattrs", "croniter", "saltpeter.domain", "saltpeter.engine", "trio")


def test_what_writes_loads_nothing_heavy() -> None:
    modules = ", ".join(f"saltpeter.store.{name}" for name in WRITING)
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)
