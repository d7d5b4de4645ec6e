"""The audit: what was noted is there, as it was, whatever happens to the file."""

from __future__ import annotations

import logging
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from saltpeter.engine import audit
from saltpeter.engine.audit import Audit, AuditError, Entry, Page, Wanted, append, look_back, read

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def entry(who: str = "token:alice", **what: object) -> Entry:
    return Entry(at=NOON, who=who, peer="10.0.0.1:4711", did="run", what=what, result="done")


def test_what_was_noted_is_there_in_its_order(tmp_path: Path) -> None:
    noted = [entry(job="backup"), entry("unix:root", job="\n\x1b[2J\u202e", machines=["m1"])]
    for each in noted:
        append(tmp_path / "audit", each)
    assert list(read(tmp_path / "audit")) == noted
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "torn",
    [
        b'\n{"at": "2026-',
        b"\xff\xfe",
        b"[]",
        b"\n{}\n",
        b'\n{"at":"2026-11-20T12:00","who":"","peer":"","did":"","what":{},"result":""}\n',
        b"\0" * 4096,
    ],
)
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


def pages(path: Path, wanted: Wanted, limit: int) -> list[Page]:
    """Looked back through to the beginning."""
    found = [look_back(path, wanted, None, limit)]
    while found[-1].before is not None:
        assert len(found) < 1000
        found.append(look_back(path, wanted, found[-1].before, limit))
    return found


@pytest.mark.parametrize("stretch", [20, 150, 1000, 2**20])  # bytes; an entry has some 130
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_it_is_looked_back_through_in_pages(
    limit: int, stretch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "STRETCH", stretch)
    for number in range(10):
        append(tmp_path / "audit", entry("unix:root" if number % 2 else "token:alice", number=number))
    with (tmp_path / "audit").open("ab") as file:
        file.write(b'{"torn')
    found = pages(tmp_path / "audit", Wanted(who="unix:root"), limit)
    told = [each.what["number"] for page in found for each in page.entries]
    assert told == ([9, 7, 5, 3, 1] if stretch > 20 else [])  # what is longer than a stretch is passed over
    assert all(len(page.entries) <= limit for page in found)


def test_what_is_wanted_is_said_by_time_and_name(tmp_path: Path) -> None:
    append(tmp_path / "audit", entry(number=1))
    assert look_back(tmp_path / "audit", Wanted(NOON, "token:alice"), None, 9).entries == (entry(number=1),)
    for wanted in (Wanted(NOON + timedelta(seconds=1)), Wanted(who="token:bob")):
        assert look_back(tmp_path / "audit", wanted, None, 9) == Page((), None)


def test_a_file_that_was_moved_away_since_is_looked_through_from_its_end(tmp_path: Path) -> None:
    append(tmp_path / "audit", entry(number=1))
    assert look_back(tmp_path / "audit", Wanted(), 10**9, 9).entries == (entry(number=1),)
    (tmp_path / "audit").unlink()
    assert look_back(tmp_path / "audit", Wanted(), 10**9, 9) == Page((), None)


def test_nothing_is_looked_at_through_a_link(tmp_path: Path) -> None:
    append(tmp_path / "elsewhere", entry())
    (tmp_path / "audit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="cannot be read"):
        look_back(tmp_path / "audit", Wanted(), None, 9)


async def test_what_cannot_be_written_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await Audit(tmp_path / "no such place" / "audit").note(entry(job="backup"))
    [message] = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert message.startswith("The audit lacks ")
    assert "backup" in message
