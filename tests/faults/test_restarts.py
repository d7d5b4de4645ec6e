"""The daemon comes and goes while fifty commands write: nobody but the log may notice."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from saltpeter.domain.outcome import End
from tests.faults.checker import Case, examined, figures, violations
from tests.faults.fleet import Fleet, Work, fleet
from tests.helpers.daemon import eventually

MACHINES = tuple(f"m{number:02}" for number in range(1, 51))
SIZE = 1024 * 1024
IN_FULL = float(os.environ.get("FAULTS_SECONDS", "0")) >= 600
WAYS = (False, True) if IN_FULL else (False,)
RESTARTS, SPAN_S = (20, 120.0) if IN_FULL else (5, 13.0)
STARTING_S = 90.0  # fifty wrappers, on a small machine


@pytest.mark.parametrize("gently", WAYS, ids=lambda gently: "term" if gently else "kill")
async def test_restarts_during_fifty_executions_cost_nothing(wrapper_file: Path, tmp_path: Path, gently: bool) -> None:
    writing = Work(name="writing", machines=MACHINES, size=SIZE, seconds=SPAN_S + 8)
    works = (writing, Work(name="sweep", machines=MACHINES[:1]))
    chance = random.Random(1)  # noqa: S311  hides nothing
    with trio.fail_after(SPAN_S + 400), fleet(tmp_path, wrapper_file, works, chance) as whole:
        async with trio.open_nursery() as nursery:
            await nursery.start(whole.network.serve)
            await whole.start()
            run = await whole.run("writing")
            await eventually(lambda: len(examined_starts(whole)) == len(MACHINES), STARTING_S)
            await restart(whole, gently)
            unsettled = await whole.settle()
            await whole.stop()
            nursery.cancel_scope.cancel()
        case = examined(whole)
        print(f"\n{RESTARTS} restarts in {SPAN_S:g} s: {figures(case)}")  # noqa: T201
        assert [*unsettled, *violations(case), *false_ends(case, run)] == []


async def restart(whole: Fleet, gently: bool) -> None:
    """Again and again, evenly spread."""
    begun = trio.current_time()
    for number in range(1, RESTARTS + 1):
        if gently:
            assert await whole.stop() == 0
        else:
            whole.kill()
        await whole.start()
        await trio.sleep_until(begun + number * SPAN_S / RESTARTS)


def examined_starts(whole: Fleet) -> list[str]:
    return whole.journal.read_text().splitlines() if whole.journal.exists() else []


def false_ends(case: Case, run: str) -> list[str]:
    """Every execution of `run` was heard to its end, and there was no other run but the last one by hand."""
    ends = {known.id.machine: known.outcome for known in case.ledger.attempts.values() if known.id.run == run}
    wrong = [f"{machine}: {end}" for machine, end in ends.items() if end is None or end.end is not End.EXITED]
    extra = [each.id for each in case.ledger.runs.values() if each.job == "writing" and each.id != run]
    return [*wrong, *extra, *([] if len(ends) == len(MACHINES) else [f"only {len(ends)} machines"])]
