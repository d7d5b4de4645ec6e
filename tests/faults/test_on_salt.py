"""The same on real Salt, where the master fails too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.fleet import fleet
from tests.faults.rounds import rounds
from tests.faults.salt import WORKS_ON_SALT, SaltCampaign
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt

SHARE = 0.5  # of the time that the other campaign has


async def test_random_faults_break_no_promise_on_salt(wrapper_file: Path, tmp_path: Path, salt_lab: LabHandle) -> None:
    broken: list[str] = []
    for each in rounds(tmp_path, SHARE):
        with fleet(each.directory, wrapper_file, WORKS_ON_SALT, each.chance, salt_lab.lab) as whole:
            broken += await each.play(SaltCampaign(whole, each.chance, salt_lab))
    assert not broken, "\n".join(broken)
