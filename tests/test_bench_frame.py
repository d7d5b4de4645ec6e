"""The benchmarks' own frame: a figure that misses its target says so, and the page keeps what is not a figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from wsproto.connection import Connection, ConnectionType

from tests.bench import growth
from tests.bench.frame import (
    BEGIN,
    END,
    Sheet,
    as_json,
    as_markdown,
    as_table,
    at_least,
    at_most,
    into_page,
    percentile,
)
from tests.bench.growth import growths
from tests.bench.swarm import masked

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def sheet() -> Sheet:
    made = Sheet("Some row")
    made.add("100 machines", "rate", "MB/s", [10, 30, 20], at_least(25))
    made.add("100 machines", "lag", "ms", [1.5], at_most(2))
    made.add("100 machines", "CPU", "%", [1234.5])
    return made


def test_a_missed_target_is_shown() -> None:
    rate, lag, cpu = sheet().results
    assert (rate.median, rate.verdict, lag.verdict, cpu.verdict) == (20, "MISSED", "met", "")
    for text in (as_table(sheet().results), as_markdown(sheet().results), as_json(sheet().results, {})):
        assert text.count("MISSED") == 1
    assert "| 100 machines | rate | 20 MB/s | 10 to 30 | ≥ 25 | MISSED |" in as_markdown(sheet().results)


def test_only_the_figures_of_a_page_are_replaced() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    assert into_page(page, "new") == f"before\n{BEGIN}\nnew\n{END}after\n"
    assert into_page(into_page(page, "new"), "newer") == into_page(page, "newer")
    with pytest.raises(ValueError, match="no place"):
        into_page("a page", "new")
    assert into_page(PAGE.read_text(), "new") != PAGE.read_text()


def test_what_was_measured_of_several_sizes_tells_how_it_grows() -> None:
    made = Sheet("Some row")
    for size, used in (("10,000", 400.0), ("100", 4.0), ("1,000", 39.0)):
        made.add(f"{size} wrappers", "CPU", "%", [used])
        made.add(f"{size} wrappers", "lost", "", [0.0])
    made.add("1,000 others", "CPU", "%", [1.0])
    by_what = {each.what: each for each in growths(made.results)}
    cpu, lost = by_what["N wrappers: CPU"], by_what["N wrappers: lost"]
    assert list(cpu.values.items()) == [(100, 4.0), (1000, 39.0), (10_000, 400.0)]
    assert cpu.tenfold == pytest.approx(10.0)
    assert lost.tenfold is None
    assert "| N wrappers: CPU | 100: 4; 1,000: 39; 10,000: 400 % | 10 |" in growth.as_markdown(made.results)


def test_percentiles() -> None:
    assert [percentile(range(100, 0, -1), share) for share in (0, 50, 99, 100)] == [1, 51, 100, 100]
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize("size", [0, 5, 125, 126, 70_000])
def test_the_swarms_frames_are_those_of_a_client(size: int) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(masked("x" * size))
    text = "".join(str(event.data) for event in server.events() if hasattr(event, "data"))
    assert text == "x" * size
