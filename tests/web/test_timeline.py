"""The timeline: what ran, what did not, and what is to come."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio
from playwright.sync_api import Locator, Page, expect

from saltpeter.store.sqlite import open_store
from tests.web.conftest import PATIENCE_MS, Served, keep_picture
from tests.web.past import utc_now
from tests.web.test_jobs import LOCAL
from tests.web.test_scripts import CALL

BERLIN = ZoneInfo("Europe/Berlin")  # where the browser of the tests is
HOUR = timedelta(hours=1)
JOBS, RUNS = 10_000, 5  # of each
# where the middle of the newest run of a job is, on the screen
PLACE_OF = """
async ([job, run]) => {
    const canvas = document.querySelector('canvas').getBoundingClientRect();
    const labels = [...document.querySelectorAll('.labels li')];
    const row = labels.find((each) => each.textContent === job).getBoundingClientRect();
    const query = new URLSearchParams(location.hash.split('?')[1]);
    const { readSpan, windowOf } = await import('/web/timescale.js');
    const { from, to } = windowOf({ centre: Date.parse(query.get('at')), span: readSpan(query.get('span')) });
    return [canvas.left + ((run - from) / (to - from)) * canvas.width, row.top + row.height / 2];
}
"""
ZOOMED_TO_PAINTED = """
async () => {
    const canvas = document.querySelector('canvas');
    const { left, top } = canvas.getBoundingClientRect();
    const begun = performance.now();
    const turn = { deltaY: -120, clientX: left + 300, clientY: top + 10, cancelable: true };
    canvas.dispatchEvent(new WheelEvent('wheel', turn));
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve))));
    return performance.now() - begun;
}
"""
ASKED = """
window.asked = [];
window.WebSocket = class extends WebSocket {
    send(text) {
        window.asked.push(JSON.parse(text));
        super.send(text);
    }
};
"""


def labels(page: Page) -> Locator:
    return page.locator(".labels").get_by_role("listitem")


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def until(page: Page, holds: str) -> None:
    """Wait for what the policy of the page forbids Playwright to wait for."""
    for _ in range(PATIENCE_MS // 100):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {holds}")


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def fill(state: Any, rows: list[tuple[str, datetime, float, str]]) -> None:
    """Runs as (job, start, seconds, verdict), straight into the ledger of a daemon that has not begun."""

    async def make() -> None:
        async with open_store(state):
            pass

    state.mkdir(parents=True, exist_ok=True)
    trio.run(make)
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        names = sorted({row[0] for row in rows})
        ledger.executemany("INSERT INTO jobs (key, name) VALUES (?, ?)", enumerate(names, 1))
        keys = {name: key for key, name in enumerate(names, 1)}
        begun = [(job, int(at.timestamp()), int(took * 1e6), verdict) for job, at, took, verdict in rows]
        ledger.executemany(
            "INSERT INTO runs (run, job, slot_us, started_by, token, started_us, ended_us, verdict)"
            " VALUES (?, ?, ?, 'schedule', 't', ?, ?, ?)",
            [
                (f"{job}_{at}", keys[job], at * 10**6, at * 10**6, at * 10**6 + took, verdict)
                for job, at, took, verdict in begun
            ],
        )
        ledger.commit()


DRAW = """
async () => {
    const { redraw } = await import('/web/session.js');
    redraw();
    await new Promise((done) => setTimeout(done, 100));
}
"""


def test_what_ran_at_three_is_seen_in_one_look(page: Page, own_daemon: Served) -> None:
    shown = (utc_now() - 24 * HOUR).astimezone(BERLIN).replace(hour=3, minute=0, second=0, microsecond=0)
    three = shown.astimezone(timezone.utc)
    jobs = {f"at-three-{number}": {**LOCAL, "command": "true"} for number in range(3)}
    own_daemon.write("night", **jobs, elsewhere={**LOCAL, "command": "true"})
    rows = [(job, three + number * 60 * timedelta(seconds=1), 120.0, "success") for number, job in enumerate(jobs)]
    rows[1] = (*rows[1][:3], "failed")
    fill(own_daemon.state, [*rows, ("elsewhere", three - 5 * HOUR, 60.0, "success")])
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/timeline")
    expect(page.get_by_role("heading", level=1)).to_have_text("Timeline")
    page.get_by_label("What ran at").fill(shown.strftime("%Y-%m-%dT%H:%M:%S"))
    page.evaluate(DRAW)  # as anything that the daemon tells does
    page.get_by_role("button", name="Go", exact=True).click()
    expect(labels(page)).to_have_text(["at-three-0", "at-three-1", "at-three-2"])
    expect(page).to_have_url(re.compile(re.escape(f"at={iso(three).replace(':', '%3A')}") + ".*span=1h"))

    x, y = page.evaluate(PLACE_OF, ["at-three-1", milliseconds(three + timedelta(minutes=2))])
    expect(page.locator("canvas")).to_be_visible()
    page.mouse.move(x, y)
    expect(page.locator(".tip")).to_contain_text(re.compile(r"at-three-1\s*failed.*took 2:00"))
    keep_picture(page, "timeline-three")
    page.get_by_role("button", name="went wrong").click()
    expect(labels(page)).to_have_text(["at-three-1"])
    page.keyboard.press("j")
    page.keyboard.press("]")
    expect(page.locator(".lines [role=status]")).to_contain_text("at-three-1: failed")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/run/at-three-1_\d+"))
    page.go_back()
    expect(labels(page)).to_have_text(["at-three-1"])  # where one was is in the address
    x, y = page.evaluate(PLACE_OF, ["at-three-1", milliseconds(three + timedelta(minutes=2))])
    page.mouse.move(x, y)
    expect(page.locator(".tip")).to_contain_text("took 2:00")  # it is drawn, and not only on its way
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile(r"#/run/at-three-1_\d+"))
    own_daemon.end()


def test_moving_and_zooming_by_keys_wheel_and_drag(page: Page, fleet: Served) -> None:
    page.goto(f"{fleet.url}#/timeline?span=1d")
    expect(labels(page).first).to_be_visible()
    status = page.locator(".when [role=status]")
    keep_picture(page, "timeline")
    acts: list[Callable[[], object]] = [
        lambda: page.keyboard.press("+"),
        lambda: page.keyboard.press("ArrowLeft"),
        lambda: page.get_by_role("button", name="Show more time").click(),
        lambda: _wheel(page, -300),
        lambda: _drag(page, 200),
    ]
    for act in acts:
        before, shown = page.url, status.inner_text()
        act()
        expect(page).not_to_have_url(before)
        assert status.inner_text() != shown
    assert "at=" in page.url
    page.keyboard.press("n")
    expect(page).not_to_have_url(re.compile("at="))
    page.get_by_role("button", name="7d").click()
    expect(page).to_have_url(re.compile("span=7d"))


def _wheel(page: Page, by: int) -> None:
    box = page.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 400, box["y"] + 12)
    page.mouse.wheel(0, by)


def _drag(page: Page, by: int) -> None:
    box = page.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300 + by, box["y"] + 200, steps=4)
    page.mouse.up()


def test_the_same_is_there_as_a_list(page: Page, fleet: Served) -> None:
    page.goto(f"{fleet.url}#/timeline?span=12h&q=db-backup")
    expect(labels(page)).to_have_text(["db-backup"])
    page.keyboard.press("l")
    table = page.get_by_role("table", name="What ran")
    held = table.get_by_role("row", name=re.compile("global maintenance is on"))
    expect(held).to_contain_text("did not run")
    expect(held.get_by_role("link", name="db-backup")).to_be_visible()
    keep_picture(page, "timeline-list")
    page.set_viewport_size({"width": 390, "height": 800})
    page.keyboard.press("l")
    expect(labels(page)).to_have_text(["db-backup"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep_picture(page, "phone-timeline")


def test_fifty_thousand_runs_of_ten_thousand_jobs_are_zoomed_at_once(page: Page, own_daemon: Served) -> None:
    now = utc_now()
    names = [f"job-{number:05}" for number in range(JOBS)]
    fill(
        own_daemon.state,
        [
            (job, now - timedelta(minutes=50 * run + number % 50), 400.0, "failed" if number % 97 == 0 else "success")
            for number, job in enumerate(names)
            for run in range(1, RUNS + 1)
        ],
    )
    (own_daemon.conf_d / "many.yaml").write_text(
        json.dumps({job: {**LOCAL, "schedule": "@yearly", "command": "true"} for job in names})
    )
    page.add_init_script(ASKED)
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/timeline")
    status = page.locator(".when [role=status]")
    expect(status).to_contain_text("10,000 jobs", timeout=60_000)
    expect(labels(page).first).to_have_text("job-00000")
    assert labels(page).count() < 60
    took = [page.evaluate(ZOOMED_TO_PAINTED) for _ in range(4)]
    assert min(took) < 500, took  # a busy machine is slow now and then
    page.locator(".lines").evaluate("(element) => (element.scrollTop = element.scrollHeight)")
    expect(labels(page).last).to_have_text("job-09999")
    until(page, "window.asked.some(({ getBars }) => getBars?.crons.includes('job-09999'))")
    keep_picture(page, "timeline-many")
    assert page.evaluate("Math.max(...window.asked.map(({ getBars }) => getBars?.crons.length ?? 0))") <= 80
    page.get_by_role("button", name="went wrong").click()
    expect(status).to_contain_text("104 jobs")
    own_daemon.end()


@pytest.mark.parametrize(
    ("text", "ms"), [("90m", 5_400_000), ("6h", 21_600_000), ("1s", 10_000), ("x", None), ("99999d", 34_560_000_000)]
)
def test_a_span_is_read(tab: Page, text: str, ms: int | None) -> None:
    assert tab.evaluate(CALL, ["timescale", "readSpan", text, None]) == ms


@pytest.mark.parametrize("span", ["15s", "90m", "6h", "7d"])
def test_a_span_is_written_as_it_was_read(tab: Page, span: str) -> None:
    assert tab.evaluate(CALL, ["timescale", "writeSpan", tab.evaluate(CALL, ["timescale", "readSpan", span])]) == span


def test_what_is_under_the_pointer_stays_there(tab: Page) -> None:
    zoomed = tab.evaluate(CALL, ["timescale", "zoomed", {"from": 0, "to": 1_000_000}, 250_000, 0.5])
    assert zoomed == {"from": 125_000, "to": 625_000}


MARKS = """async ([from, to, zone]) => {
    const [{ marks }, { offsetAt }] = [await import('/web/timescale.js'), await import('/web/times.js')];
    return marks({ from, to }, 1000, (at) => offsetAt(at, zone)).map(({ label }) => label);
}"""


@pytest.mark.parametrize(
    ("begin", "hours", "zone", "labels"),
    [
        ("2026-11-20T22:00:00+00:00", 5, "UTC", ["22:00", "22:30", "23:00"]),
        ("2026-11-20T22:00:00+00:00", 5, "Europe/Berlin", ["23:00", "23:30", "Sat 21 Nov"]),
        ("2026-11-20T22:00:00+00:00", 5, "Asia/Kathmandu", ["04:00", "04:30", "05:00"]),
        ("2026-10-24T22:00:00+00:00", 50, "Europe/Berlin", ["Sun 25 Oct", "06:00", "12:00", "18:00", "Mon 26 Oct"]),
    ],
)
def test_marks_stand_where_the_wall_clock_is_even(
    tab: Page, begin: str, hours: int, zone: str, labels: list[str]
) -> None:
    at = datetime.fromisoformat(begin).astimezone(timezone.utc)
    found = tab.evaluate(MARKS, [milliseconds(at), milliseconds(at + hours * HOUR), zone])
    assert found[: len(labels)] == labels


@pytest.mark.parametrize(
    ("wall", "zone", "instant"),
    [
        ("2026-11-20T03:00", "UTC", "2026-11-20T03:00:00Z"),
        ("2026-11-20T03:00", "Europe/Berlin", "2026-11-20T02:00:00Z"),
        ("2026-07-01T03:00", "America/New_York", "2026-07-01T07:00:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),  # the clock shows it twice
        ("2026-10-25T03:30", "Europe/Berlin", "2026-10-25T02:30:00Z"),
    ],
)
def test_a_wall_clock_is_read_in_its_zone(tab: Page, wall: str, zone: str, instant: str) -> None:
    at = tab.evaluate(CALL, ["times", "instantOf", wall, zone])
    assert at == milliseconds(datetime.fromisoformat(instant.replace("Z", "+00:00")))
    assert tab.evaluate(CALL, ["times", "asWall", at, zone]).startswith(wall)
