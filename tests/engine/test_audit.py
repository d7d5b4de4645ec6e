"""The audit: what was noted is there, as it was, whatever happens to the file."""

from __future__ import annotations

import logging
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest

from saltpeter.engine.audit import Audit, AuditError, Entry, append, read

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def entry(who: str = "token:alice", **what: object) -> Entry:
    return Entry(at=NOON, who=who, peer="10.0.0.1:4711", did="run", what=what, result="done")


def test_what_was_noted_is_there_in_its_order(tmp_path: Path) -> None:
    noted = [entry(job="backup"), entry("unix:root", job="\n\x1b[2J\u202e", machines=["m1"])]
    for each in noted:
        append(tmp_path / "audit", each)
    assert list(read(tmp_path / "audit")) == noted
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600


@pytest.mark.parametrize("torn", [b'\n{"at": "2026-', b"\xff\xfe", b"[]", b"\n{}\n", b"\0" * 4096])
def test_a_damaged_line_spoils_no_other(torn: bytes, tmp_path: Path) -> None:
    append(tmp_path / "audit", entry(number=1))
    with (tmp_path / "audit").open("ab") as file:
        file.write(torn)
    append(tmp_path / "audit", entry(number=2))
    assert [each.what["number"] for each in read(tmp_path / "audit")] == [1, 2]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "audit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="cannot be written"):
        append(tmp_path / "audit", entry())
    assert not (tmp_path / "elsewhere").exists()


def test_where_nothing_was_noted_nothing_is(tmp_path: Path) -> None:
    assert list(read(tmp_path / "audit")) == []


async def test_what_cannot_be_written_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await Audit(tmp_path / "no such place" / "audit").note(entry(job="backup"))
    [message] = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert message.startswith("The audit lacks ")
    assert "backup" in message
