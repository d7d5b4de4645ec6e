"""The text logs: one line for one fact, whatever a job is called and whatever a command prints."""

from __future__ import annotations

import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.events import (
    CameLate,
    Confirmed,
    Ended,
    ExecutionId,
    KillRequested,
    LedgerEvent,
    Reason,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
)
from saltpeter.domain.outcome import KILLED, End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.store import textlog
from saltpeter.store.textlog import LineCutter, TextLogs, file_name, shown

AT = datetime(2025, 11, 5, 12, 34, 9, tzinfo=timezone.utc)
STAMP = "2025-11-05T12:34:09.000+00:00"
RUN = "backup_1762346049"
DB01 = ExecutionId(RUN, "db01")


async def write(logs: TextLogs) -> None:
    """Let the service run until nothing is queued, and stop it as the daemon does."""
    async with trio.open_nursery() as nursery:
        await nursery.start(logs.run)
        nursery.cancel_scope.cancel()


def last_characters(directory: Path) -> dict[str, str]:
    """Of each line of each file."""
    return {path.name: "".join(line[-1] for line in path.read_text().splitlines()) for path in directory.iterdir()}


@pytest.mark.trio
async def test_a_run_reads_as_a_story(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path / "logs")
    second = ExecutionId(RUN, "db01", 2)
    story: list[LedgerEvent | tuple[ExecutionId, bytes]] = [
        SlotPassed(job="backup", slot=AT, reason=Reason.OVERLAP, text="the last run lives", at=AT),
        RunStarted(run=RUN, job="backup", slot=AT, by="schedule", token="secret", at=AT),
        Confirmed(execution=DB01, at=AT),
        Started(execution=DB01, pid=4711, version="1", at=AT),
        (DB01, b"dumping\r\n50 %\t\xc3"),
        (DB01, b"\xa4\nhalf a"),
        KillRequested(run=RUN, machines=(), by="ann", at=AT),
        Ended(execution=DB01, outcome=KILLED, at=AT),
        Retrying(execution=second, at=AT),
        CameLate(execution=second, outcome=Outcome(end=End.EXITED, code=3), at=AT),
        RunEnded(run=RUN, verdict=Verdict.KILLED, at=AT),
    ]
    for event in story:
        if isinstance(event, tuple):
            logs.output(*event, AT)
        else:
            logs.post(event)
    await write(logs)
    assert (tmp_path / "logs" / "backup.log").read_text().splitlines() == [
        f"{STAMP} {RUN} - did not run: overlap the last run lives",
        f"{STAMP} {RUN} - started by schedule",
        f"{STAMP} {RUN} db01 started (PID: 4711)",
        f"{STAMP} {RUN} db01 dumping",
        f"{STAMP} {RUN} db01 50 %\tä",
        f"{STAMP} {RUN} - kill requested by ann",
        f"{STAMP} {RUN} db01 half a",
        f"{STAMP} {RUN} db01 [Job terminated by user request]",
        f"{STAMP} {RUN} db01 ended: killed (exit code: 143)",
        f"{STAMP} {RUN} db01 trying again (attempt 2)",
        f"{STAMP} {RUN} db01 reported late: exited (exit code: 3)",
        f"{STAMP} {RUN} - ended: killed",
    ]
    assert stat.S_IMODE((tmp_path / "logs" / "backup.log").stat().st_mode) & 0o007 == 0


@pytest.mark.trio
async def test_no_output_forges_a_line_or_moves_the_cursor(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    logs.output(DB01, b"\x1b[2J\rgone\x0b\xff\xe2\x80\xae\n", AT)
    logs.post(Started(execution=ExecutionId(RUN, "evil\nhost"), pid=1, version="", at=AT))
    await write(logs)
    assert (tmp_path / "backup.log").read_text().splitlines() == [
        f"{STAMP} {RUN} db01 \\x1b[2J\\rgone\\x0b\\xff\\u202e",
        f"{STAMP} {RUN} evil\\nhost started (PID: 1)",
    ]


@pytest.mark.trio
async def test_a_full_file_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path, max_bytes=150, keep=2)
    for number in range(10):
        logs.output(DB01, b"number %d\n" % number, AT)
        await write(logs)
    assert last_characters(tmp_path) == {"backup.log": "89", "backup.log.1": "67", "backup.log.2": "45"}
    nothing_kept = TextLogs(tmp_path, max_bytes=150, keep=0)
    nothing_kept.output(DB01, b"number 10\n", AT)
    await write(nothing_kept)
    assert (tmp_path / "backup.log").read_text().count("\n") == 1


@pytest.mark.trio
async def test_no_file_is_renamed_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is, ext4 writes to the disk at once: a flood of output would be in the way of all commits."""
    rename = Path.rename
    free: list[bool] = []

    def noting(path: Path, target: Path) -> Path:
        free.append(not target.exists())
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", noting)
    monkeypatch.setattr(Path, "replace", None)
    logs = TextLogs(tmp_path, max_bytes=10, keep=2)
    for number in range(5):
        logs.output(DB01, b"number %d\n" % number, AT)
        await write(logs)
    assert free == [True] * (1 + 2 * 3)


@pytest.mark.trio
async def test_trouble_is_said_once_and_goes_by(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs = TextLogs(tmp_path / "dir")
    (tmp_path / "dir").write_text("in the way")
    for _ in range(3):
        logs.output(DB01, b"lost\n", AT)
        await write(logs)
    (tmp_path / "dir").unlink()
    logs.output(DB01, b"kept\n", AT)
    await write(logs)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["Cannot write the text logs"]
    assert (tmp_path / "dir" / "backup.log").read_text().endswith("kept\n")


@pytest.mark.trio
async def test_a_slow_disk_costs_lines_and_not_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textlog, "MAX_QUEUED", 1000)
    logs = TextLogs(tmp_path)
    for number in range(100):
        logs.output(DB01, b"%03d\n" % number, AT)
    await write(logs)
    written = (tmp_path / "backup.log").read_text()
    assert len(written) <= 1000
    assert f"{100 - written.count(chr(10))} lines are missing" in caplog.text
    logs.output(DB01, b"room again\n", AT)
    await write(logs)
    assert (tmp_path / "backup.log").read_text().endswith("room again\n")


@pytest.mark.trio
async def test_lines_are_written_while_the_daemon_lives(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(logs.run)
        for text in (b"one", b"two"):
            logs.output(DB01, text + b"\n", AT)
            with trio.fail_after(5):
                while (
                    "backup.log" not in last_characters(tmp_path) or text not in (tmp_path / "backup.log").read_bytes()
                ):
                    await trio.lowlevel.checkpoint()  # the disk has a clock of its own
        nursery.cancel_scope.cancel()


@given(st.lists(st.sampled_from([b"a", b"\n", b"bc", b"\r\n", b"x" * 9000]), max_size=12), st.data())
def test_lines_do_not_depend_on_how_the_output_was_cut(parts: list[bytes], data: st.DataObject) -> None:
    output, cutter = b"".join(parts), LineCutter()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=6)))
    blocks = []
    for start, end in zip([0, *cuts], [*cuts, len(output)], strict=True):
        blocks += cutter.feed(DB01, output[start:end])
        assert cutter.feed(ExecutionId(RUN, "db02"), b"") == []
    blocks += cutter.finish(DB01)
    lines = [line for block in blocks for line in block.split(b"\n")]
    assert b"".join(lines) == output.replace(b"\n", b"")
    assert len(lines) >= output.count(b"\n")
    assert cutter.finish(DB01) == []


@given(
    st.lists(st.sampled_from([b"plain", b"\ttab", b"\r", b"\r\n", b"\n", b"\x1b[1m", b"\xc3\xa4", b"\xff", b"\xc3"]))
)
def test_a_block_shows_what_its_lines_would_one_by_one(parts: list[bytes]) -> None:
    block = b"".join(parts)
    assert shown(block) == b"\n".join(shown(line) for line in block.split(b"\n"))
    assert shown(block).count(b"\n") == block.count(b"\n")
    assert all(character.isprintable() or character in "\t\n" for character in shown(block).decode())


@given(st.text(max_size=300))
def test_a_jobs_name_is_never_a_path(job: str) -> None:
    name = file_name(job)
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
    assert len(name.encode()) <= 255


def test_different_jobs_have_different_files() -> None:
    jobs = ["a/b", "a%2Fb", "a", "a.log", "", "..", "x" * 500, "x" * 501, "ä" * 100, "ä" * 101]
    assert len({file_name(job) for job in jobs}) == len(jobs)
    assert file_name("nightly backup") == "nightly backup.log"
