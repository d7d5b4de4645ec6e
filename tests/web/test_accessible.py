"""What axe-core finds on every page, light and dark: names, roles, order, and WCAG AA contrast."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.web.conftest import Served, keep_picture

PAGES = {
    "now": "#/",
    "jobs": "#/jobs",
    "job": "#/job/db-backup",
    "run": "#/run/{run}",
    "output": "#/run/{run}?m=db07",
    "timeline": "#/timeline",
    "timeline-list": "#/timeline?view=list",
    "machines": "#/machines",
    "machine": "#/machine/db07",
    "audit": "#/audit",
}
SERIOUS = ("serious", "critical")
STILL = "document.getAnimations().every((each) => each.playState !== 'running')"  # a colour on its way has no contrast


def findings(page: Page) -> list[str]:
    """What is serious or worse, each with the places where it was found."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {node['target']} {node['failureSummary']}"
        for found in violations
        if found["impact"] in SERIOUS
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_people_out(page: Page, fleet: Served, name: str) -> None:
    page.goto(fleet.url + PAGES[name].format(run=fleet.newest["db-backup"]))
    expect(page.get_by_role("main")).not_to_be_empty()
    page.wait_for_load_state("networkidle")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
        page.wait_for_function(STILL)
        assert findings(page) == [], scheme
    keep_picture(page, f"fleet-{name}")


def test_the_help_and_a_dialog_keep_nobody_out_either(page: Page, fleet: Served) -> None:
    page.goto(f"{fleet.url}#/job/db-backup")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(page) == []
