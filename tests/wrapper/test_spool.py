from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_wrapper.spool import HOLD, SpoolReader, SpoolWriter


def content(start: int, end: int) -> bytes:
    """Output in which every place is known by its bytes."""
    return b"".join(b"%07d\n" % number for number in range(start // 8, end // 8 + 1))[start % 8 :][: end - start]


@settings(deadline=None, max_examples=50)  # the time is the disk's
@given(
    writes=st.lists(st.integers(1, 400), max_size=30),
    reads=st.lists(st.integers(20, 300), min_size=1, max_size=5),
    limit=st.integers(64, 10_000),
)
def test_what_is_read_was_written_there(writes: list[int], reads: list[int], limit: int) -> None:
    with TemporaryDirectory() as folder:
        writer, reader = SpoolWriter(folder, limit), SpoolReader(folder)
        for size in writes:
            writer.write(content(writer.length, writer.length + size))
        writer.close()
        at, cut, turn = 0, 0, 0
        while at < writer.length:
            piece = reader.read(at, reads[turn % len(reads)], writer.length)
            assert piece.data == content(piece.start, piece.start + len(piece.data))
            cut += piece.start - at
            at, turn = piece.start + len(piece.data), turn + 1
        assert at == writer.length
        assert cut == 0 or writer.length > limit
        assert writer.length - cut >= min(writer.length, limit // 2)


@settings(deadline=None, max_examples=50)
@given(writes=st.lists(st.integers(1, 400), max_size=60), lag=st.integers(0, 600))
def test_with_a_reader_that_keeps_up_nothing_is_cut_and_the_disk_stays_small(writes: list[int], lag: int) -> None:
    with TemporaryDirectory() as folder:
        writer, reader = SpoolWriter(folder, 2000), SpoolReader(folder)
        at = 0
        for size in writes:
            writer.write(content(writer.length, writer.length + size))
            while writer.length - at > lag:
                piece = reader.read(at, 250)
                assert (piece.start, piece.closed) == (at, False)
                assert piece.data == content(at, at + len(piece.data))
                at += len(piece.data)
            reader.forget(at)
            writer.acknowledge(at)
            assert sum(path.stat().st_size for path in Path(folder).iterdir()) <= 2000 + 1000


def test_too_much_keeps_the_first_and_the_last_half(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 1600), SpoolReader(str(tmp_path))
    for _ in range(1000):
        writer.write(content(writer.length, writer.length + 100))
    writer.close()
    first = reader.read(0, 100_000)
    assert (first.start, first.closed) == (0, True)
    assert 700 <= len(first.data) <= 1000
    last = reader.read(len(first.data), 100_000, writer.length)
    assert last.start + len(last.data) == writer.length
    assert 700 <= len(last.data) <= 1000


class FullDisk:
    """os.write as it fails on a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.right = os.write
        monkeypatch.setattr("sp_wrapper.spool.os.write", self)

    def __call__(self, fd: int, data: bytes) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.right(fd, data)


def test_a_full_disk_that_gets_room_again_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    writer, reader = SpoolWriter(str(tmp_path), 10**6), SpoolReader(str(tmp_path))
    writer.write(content(0, 1000))
    assert writer.waiting
    assert (writer.length, writer.stored) == (1000, 0)
    assert reader.read(0, 5000) == (0, b"", False)
    disk.full = False
    writer.write(content(1000, 1500))
    assert not writer.waiting
    assert reader.read(0, 5000) == (0, content(0, 1500), False)


def test_a_disk_that_stays_full_costs_the_oldest_and_then_it_is_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 10**8), SpoolReader(str(tmp_path))
    writer.write(content(0, 1000))
    disk = FullDisk(monkeypatch)
    block = HOLD // 4
    for _ in range(6):
        writer.write(content(writer.length, writer.length + block))
    disk.full = False
    writer.write(b"end")
    writer.close()
    assert reader.read(0, 5000).closed, "what follows is missing"
    after = reader.read(1000, 100)
    assert after.start == 1000 + 2 * block
    assert after.data == content(after.start, after.start + 100)
    disk.full = True
    assert reader.end() == writer.length


def test_a_cut_at_the_very_end_is_seen_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 10**6), SpoolReader(str(tmp_path))
    writer.write(b"kept")
    FullDisk(monkeypatch)
    writer.write(b"lost")
    writer.close()
    assert writer.length == 8
    assert reader.read(0, 100, 8) == (0, b"kept", True)
    assert reader.read(4, 100, 8) == (8, b"", True)
