"""The machines: which fail, which do not answer, what runs there, and leaving them out."""

from __future__ import annotations

import re
from datetime import timedelta

from playwright.sync_api import Locator, Page, expect

from saltpeter.domain.outcome import NO_RESPONSE
from tests.web.conftest import Served, keep_picture
from tests.web.past import BROKEN, FINE, Past, utc_now, write_past
from tests.web.test_jobs import LOCAL, quickest

MANY = 5000


def rows(page: Page) -> Locator:
    return page.get_by_role("grid", name="Machines").locator(".all-rows").get_by_role("row")


def past(own_daemon: Served) -> None:
    """db01 fails again and again, db02 does not answer any more, db03 is well."""
    own_daemon.write("past", nightly={**LOCAL, "targets": ["db01", "db02", "db03"], "command": "sleep 600"})
    now = utc_now()
    runs = [
        Past("nightly", now - timedelta(hours=age), 30, {"db01": BROKEN, "db02": silent, "db03": FINE})
        for age, silent in ((3, FINE), (2, NO_RESPONSE), (1, NO_RESPONSE))
    ]
    write_past(own_daemon.state, runs)


def test_what_is_wrong_with_machines_and_what_runs_there(page: Page, own_daemon: Served) -> None:
    past(own_daemon)
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/machines")
    expect(rows(page)).to_have_count(3)
    expect(rows(page).nth(0)).to_contain_text(re.compile("db01.*nightly.*3×.*nightly"))
    expect(rows(page).nth(1)).to_contain_text(re.compile(r"db02.*2×.*does not answer for [12]:\d\d:\d\d"))
    page.get_by_role("button", name="not responding").click()
    expect(rows(page)).to_have_count(1)
    expect(page).to_have_url(re.compile("filter=not"))
    page.get_by_role("button", name=re.compile("^all")).click()
    keep_picture(page, "machines")

    page.goto(f"{own_daemon.url}#/job/nightly")
    expect(page.get_by_role("button", name="Run now")).to_be_visible()
    page.keyboard.press("r")
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(page).to_have_url(re.compile("#/run/nightly"))
    page.keyboard.press("g")
    page.keyboard.press("m")
    expect(rows(page).nth(2).locator(".cell-runs")).to_have_text("nightly")
    page.keyboard.press("/")
    page.keyboard.type("db03")
    expect(rows(page)).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("db03")
    expect(page.locator(".list").get_by_role("link", name="nightly")).to_be_visible()
    expect(page.get_by_role("table", name="Ended here lately").get_by_role("row")).to_have_count(4)
    keep_picture(page, "machine")
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"#/run/nightly_\d+\?m=db03"))


def test_maintenance_is_begun_with_a_reason_and_ended(page: Page, own_daemon: Served) -> None:
    past(own_daemon)
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/machines")
    rows(page).nth(0).get_by_role("checkbox").check()
    page.get_by_role("button", name="Maintenance for 1").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("new disk")
    dialog.get_by_label("Ends").select_option("in four hours")
    keep_picture(page, "maintenance")
    dialog.get_by_role("button", name="Begin maintenance").click()
    expect(rows(page).nth(0)).to_contain_text("maintenance: new disk")
    page.get_by_role("button", name=re.compile("^maintenance 1")).click()
    expect(rows(page)).to_have_count(1)
    rows(page).get_by_role("link", name="db01").click()
    expect(page.locator(".notice")).to_contain_text(re.compile("leave it out: new disk.*until"))
    page.get_by_role("button", name="End maintenance").click()
    expect(page.locator(".notice")).to_have_count(0)
    page.goto(f"{own_daemon.url}#/machines")
    page.get_by_role("button", name="Stop all new runs").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop all new runs").click()
    expect(page.locator(".notice")).to_contain_text("no new runs start")
    page.get_by_role("button", name="End maintenance of everything").click()
    expect(page.locator(".notice")).to_have_count(0)


def test_five_thousand_machines_are_searched_as_one_types(page: Page, own_daemon: Served) -> None:
    own_daemon.write("wide", wide={**LOCAL, "command": "true"})
    machines = {f"machine-{number:04}": FINE for number in range(MANY)}
    write_past(own_daemon.state, [Past("wide", utc_now() - timedelta(minutes=5), 30, machines)])
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/machines")
    expect(page.locator(".tools [role=status]")).to_have_text("5,000 machines")
    assert rows(page).count() < 60
    assert quickest(page, "e-49") < 500
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep_picture(page, "phone-machines")


# Types two letters faster than the page draws; returns what then stands in the field.
TYPE_FAST = """
async (field) => {
    for (const letter of 'db') {
        field.value += letter;
        field.dispatchEvent(new Event('input', { bubbles: true }));
        await new Promise((done) => setTimeout(done, 1));
    }
    return field.value;
}
"""


def test_what_is_typed_stays_while_the_list_is_drawn_anew(page: Page, own_daemon: Served) -> None:
    past(own_daemon)
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/machines")
    expect(rows(page)).to_have_count(3)
    page.keyboard.press("j")  # a chosen row, which typing gives up: the page draws itself before it knows the address
    expect(page.get_by_role("row", selected=True)).to_have_count(1)
    page.keyboard.press("/")
    assert page.get_by_role("searchbox").evaluate(TYPE_FAST) == "db"
    expect(page).to_have_url(re.compile("q=db$"))
    own_daemon.end()


# Asks for the machines in a way that is refused.
REFUSED = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
    send.call(this, data.replace('"getMachines":{}', '"getMachines":{"since":"yesterday"}'));
};
"""


def test_a_refusal_is_shown(page: Page, own_daemon: Served) -> None:
    own_daemon.begin()
    page.add_init_script(REFUSED)
    page.goto(f"{own_daemon.url}#/machines")
    expect(page.get_by_role("alert")).to_contain_text("since")
    own_daemon.end()
