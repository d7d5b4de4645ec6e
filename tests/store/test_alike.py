"""Which machines wrote the same, without reading more of it than is bearable."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import pytest

from saltpeter.domain.events import ExecutionId
from saltpeter.store import alike
from tests.store.test_output import append, empty_day, note

RUN = "backup_1762346049"


def groups(written: Mapping[str, Sequence[bytes]]) -> list[list[str]]:
    day = empty_day()
    for machine, pieces in written.items():
        write(day, ExecutionId(RUN, machine), pieces)
    found = alike.alike(day, [ExecutionId(RUN, machine) for machine in written])
    day.close()
    return [sorted(group.machines) for group in found]


def write(day: sqlite3.Connection, execution: ExecutionId, pieces: Sequence[bytes]) -> None:
    written = 0
    for piece in pieces:
        written = append(day, execution, written, piece)


def test_only_the_last_attempt_counts() -> None:
    day = empty_day()
    for machine, first, second in (("m1", b"broken", b"fine"), ("m2", b"fine", b"worse")):
        write(day, ExecutionId(RUN, machine), [first])
        write(day, ExecutionId(RUN, machine, 2), [second])
    found = alike.alike(day, [ExecutionId(RUN, "m1", 2), ExecutionId(RUN, "m2", 1), ExecutionId(RUN, "m3", 1)])
    assert [group.machines for group in found] == [("m1", "m2")]
    day.close()


def test_what_saltpeter_added_counts_as_well() -> None:
    day = empty_day()
    for machine in ("m1", "m2"):
        write(day, ExecutionId(RUN, machine), [b"fine\n"])
    note(day, ExecutionId(RUN, "m2"), "[Job exceeded timeout of 1 seconds]")
    found = alike.alike(day, [ExecutionId(RUN, "m1"), ExecutionId(RUN, "m2")])
    assert [(group.machines, group.line, group.text) for group in found] == [
        (("m1",), 0, ""),
        (("m2",), 2, "[Job exceeded timeout of 1 seconds]"),
    ]
    day.close()


@pytest.mark.parametrize("place", [0, 70_000, 199_999])
def test_long_output_is_compared_at_both_ends(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(alike, "WINDOW", 90_000)
    usual = bytes(200_000)
    other = bytearray(usual)
    other[place] = 1
    odd = [bytes(other[:1000]), bytes(other[1000:])]
    assert groups({"m1": [usual], "m2": odd, "m3": [usual]}) == [["m1", "m3"], ["m2"]]


def test_a_run_on_many_machines_reads_less_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "LEAST", 10)
    monkeypatch.setattr(alike, "READ_IN_ALL", 100)
    written = {f"m{number}": [b"x" * 20 + b"%d" % number + b"y" * 20] for number in range(10)}
    assert groups(written) == [sorted(written)]
