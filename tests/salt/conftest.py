"""A daemon for each test, on the one Salt master and its minions of the session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon
from tests.helpers.salt_lab import LabHandle


@pytest.fixture
def daemon(tmp_path: Path, salt_lab: LabHandle, wrapper_file: Path) -> Iterator[Daemon]:
    """Not started yet, so that a test can write its jobs first."""
    settings = {
        "master_config": str(salt_lab.lab.master_config),
        "default_wrapper_path": str(wrapper_file),
        "default_wrapper_logdir": str(tmp_path / "wrapper"),
    }
    made = Daemon(tmp_path, settings)
    yield made
    made.end_everything()
    for minion in salt_lab.lab.minions:  # what those wrappers could not report must not occupy the next ones
        shutil.rmtree(salt_lab.lab.statedir(minion), ignore_errors=True)
