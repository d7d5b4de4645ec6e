"""The first page: is all well?"""

from __future__ import annotations

import re
from datetime import timedelta

from playwright.sync_api import Page, expect

from tests.web.conftest import Served, keep_picture
from tests.web.past import FINE, Past, utc_now, write_past
from tests.web.test_jobs import LOCAL
from tests.web.test_run import start


def test_how_the_daemon_fares_and_how_far_a_run_is(page: Page, own_daemon: Served) -> None:
    own_daemon.write("work", work={**LOCAL, "command": "exec sleep 600"}, often={**LOCAL, "command": "true"})
    hours = [utc_now() - age * timedelta(hours=1) for age in (3, 2, 1)]
    write_past(own_daemon.state, [Past("work", at, 1800, {"db01": FINE}) for at in hours])
    own_daemon.begin()
    page.goto(own_daemon.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("All quiet: 2 jobs, none failing")
    health = page.get_by_role("list", name="How the daemon fares")
    expect(health).to_contain_text(re.compile(r"Slots.*none in the last hour.*Daemon.*up for"))
    expect(health).to_contain_text(re.compile(r"Store.*used, .* of the disk free.*2 jobs, no problems"))
    start(page, own_daemon, "work")
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 run going on")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-label", re.compile("0 % of the usual 30:00"))
    own_daemon.write("often", often={**LOCAL, "command": "true", "schedule": "* * * * * *"})
    own_daemon.write("work", work={**LOCAL, "command": "exec sleep 600"})
    expect(health).to_contain_text(re.compile(r"\d+ in the last hour, at most .* late"), timeout=60_000)
    own_daemon.write("broken", broken={"command": "true", "schedule": "99 * * * *"})
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 config problem")
    expect(page.locator(".problems")).to_contain_text(re.compile(r"broken\.yaml:\d+"))
    keep_picture(page, "now-health")


def test_times_are_shown_in_the_zone_that_one_chooses(page: Page, daemon: Served) -> None:
    far = {**LOCAL, "command": "true", "schedule": "0 3 * * *", "timezone": "Asia/Kathmandu"}
    daemon.write("zones", far=far)
    page.goto(f"{daemon.url}#/job/far")
    slot = page.locator(".slots time").first
    for zone, shown in (
        ("Local", r"UTC\+0[12]:00$"),  # the browser's, which is Berlin's
        ("UTC", r"21:15:00 UTC$"),
        ("Job's zone", r"03:00:00 UTC\+05:45$"),
    ):
        expect(page.get_by_role("button", name=zone, exact=True)).to_be_visible()
        expect(slot).to_have_attribute("title", re.compile(shown))
        page.keyboard.press("u")
    page.get_by_label("At", exact=True).fill("2026-11-20T03:00:00")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_be_visible()
