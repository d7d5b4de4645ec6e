"""From a slot to the publishing of its launch: of one job, and of very many that are due in the same second."""

from __future__ import annotations

import trio

from tests.bench.frame import Sheet, at_most, percentile
from tests.bench.site import Published, job, plant

COUNTS = (1, 100, 1000)
SECONDS = {1: 1, 100: 2, 1000: 4}  # between a job's slots
SLOTS = {1: 9, 100: 3, 1000: 3}


def late_ms(published: Published) -> float:
    """The run's name has its slot."""
    return (published.at - int(published.run.rpartition("_")[2])) * 1000


async def measure(sheet: Sheet, scale: float) -> None:
    for count in COUNTS:
        if count > 1000 * scale and count > 100:
            continue
        slots = max(2, int(SLOTS[count] * scale))
        fields = {"sec": f"*/{SECONDS[count]}", "min": "*", "hour": "*", "dom": "*", "mon": "*", "dow": "*"}
        jobs = {f"job{number:05}": job(schedule=None, targets="broken:1", **fields) for number in range(count)}
        for facts in jobs.values():
            del facts["schedule"]
        medians, p99s, lags = [], [], []
        async with plant(jobs) as made:
            for _ in range(count):  # the first slot finds everything cold
                await made.orders.receive()
            for _ in range(slots):
                await trio.sleep(SECONDS[count] / 2)
                await made.loop()
                found = [late_ms(await made.orders.receive()) for _ in range(count)]
                medians.append(percentile(found, 50))
                p99s.append(percentile(found, 99))
                lags.append((await made.loop()).lag_ms)
        case = "one job each second" if count == 1 else f"{count:,} jobs in the same second"
        sheet.add(case, "slot to publish, median", "ms", medians, at_most(5) if count == 1 else None)
        if count > 1:
            sheet.add(case, "slot to publish, p99", "ms", p99s, at_most(1000) if count == 1000 else None)
        sheet.add(case, "longest turn of the loop", "ms", lags, at_most(50) if count == 1000 else None)
