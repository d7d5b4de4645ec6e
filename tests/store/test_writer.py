"""When the writer begins its next group. Who writes takes no time here, so each wait is the writer's own."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.store import scribe
from saltpeter.store.scribe import Done, Group, Report
from saltpeter.store.writer import CROWD, CROWD_BYTES, PACE_S, Writer

FILE = Path("day.sqlite")


@attrs.define
class Quick:
    """Implements `saltpeter.store.writer.Lane`."""

    begun: list[float] = attrs.field(factory=list)

    async def write(self, group: Group) -> Report:
        self.begun.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return Report([Done(None, None) for _ in group.tasks])


@pytest.mark.trio
@pytest.mark.parametrize(
    ("pieces", "size", "wait_s"),
    [
        pytest.param(CROWD, 100, PACE_S, id="many small pieces: more are gathered for the next group"),
        pytest.param(CROWD - 1, 100, 0.0, id="few"),
        pytest.param(CROWD, CROWD_BYTES // CROWD, 0.0, id="many bytes, whose sender may wait for them to send more"),
    ],
)
async def test_the_next_group_begins_later_where_that_gathers_more(
    autojump_clock: MockClock, pieces: int, size: int, wait_s: float
) -> None:
    lane = Quick()
    writer = Writer(lane)

    async def one() -> None:
        await writer.submit(FILE, scribe.probe, size)

    async with trio.open_nursery() as nursery:
        for _ in range(pieces):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        await one()
        writer.close()
    first, second = lane.begun
    assert second - first == pytest.approx(wait_s)
