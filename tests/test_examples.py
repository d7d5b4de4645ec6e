"""The files in conf.d are what people copy: they must be right, and do no harm."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from saltpeter.domain.config import NEEDS_RESTART, Host
from saltpeter.domain.job import Config
from saltpeter.domain.written import WrittenJob, WrittenMaintenance, WrittenSettings, keys_of
from saltpeter.engine.reload import check

EXAMPLES = Path(__file__).parent.parent / "conf.d"
NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def config() -> Config:
    return check(str(EXAMPLES), Host(statedir="/s", logdir="/l", zone=timezone.utc), NOW)


def test_nothing_is_to_be_said_about_them(config: Config) -> None:
    assert config.problems == ()
    assert {"hello", "failing", "long", "nightly"} <= config.jobs.keys()


def test_they_run_often_enough_to_be_looked_at(config: Config) -> None:
    for job in config.jobs.values():
        slot = job.schedule.next_after(NOW)
        assert slot is not None
        soon = timedelta(minutes=20) if job.group == "examples" else timedelta(days=40)
        assert slot - NOW < soon, job.name


def test_they_end(config: Config) -> None:
    assert all(job.timeout_s < 3 * 3600 for job in config.jobs.values())


def test_the_reference_names_every_key() -> None:
    text = (EXAMPLES.parent / "docs" / "jobs.md").read_text()
    for kind in (WrittenJob, WrittenSettings, WrittenMaintenance):
        for key in keys_of(kind):
            assert f"`{key}`" in text or f"  {key}:" in text, key
    for key in keys_of(WrittenSettings):
        [*_, line] = [line for line in text.splitlines() if f"`{key}`" in line and line.startswith("|")] or [""]
        assert ("**restart**" in line) == (key in NEEDS_RESTART), key
