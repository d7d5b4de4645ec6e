"""The daemon, its wrappers and the network fail at random; afterwards every promise must have been kept."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import WORKS, Campaign
from tests.faults.fleet import fleet
from tests.faults.rounds import rounds


async def test_random_faults_break_no_promise(wrapper_file: Path, tmp_path: Path) -> None:
    broken: list[str] = []
    for each in rounds(tmp_path):
        with fleet(each.directory, wrapper_file, WORKS, each.chance) as whole:
            broken += await each.play(Campaign(whole, each.chance))
    assert not broken, "\n".join(broken)
