"""Who may see the page and who may act: asked for a token, and shown what it lets them do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import trio
from playwright.sync_api import Browser, Page, expect

from tests.web.conftest import PATIENCE_MS, WATCH_POLICY, Served, keep_picture
from tests.web.test_jobs import LOCAL


@pytest.fixture
def refused_page(browser: Browser) -> Iterator[Page]:
    """A tab in which the browser may complain about being refused, but not about the policy."""
    context = browser.new_context(viewport={"width": 1360, "height": 820})
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    violations = page.evaluate("window.violations")
    context.close()
    assert (errors, violations) == ([], [])


def token(daemon: Served, *arguments: str) -> str:
    done = trio.run(lambda: daemon.command("token", *arguments, "--statedir", str(daemon.state)))
    assert done.returncode == 0, done.stderr
    found: str = done.stdout.decode().strip().splitlines()[-1]
    return found


def log_in(page: Page, secret: str) -> None:
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Log in").click()


def test_a_token_lets_in_and_a_viewer_has_no_buttons(refused_page: Page, own_daemon: Served) -> None:
    page = refused_page
    own_daemon.write("some", some={**LOCAL, "command": "exec sleep 600"})
    own_daemon.begin()
    viewer = token(own_daemon, "add", "victor", "--role", "viewer")
    operator = token(own_daemon, "add", "olga", "--role", "operator")

    page.goto(f"{own_daemon.url}#/job/some")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    expect(page.locator("header [role=status]")).to_have_text("Not logged in")
    keep_picture(page, "login")
    log_in(page, "nonsense")
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    log_in(page, viewer)
    expect(page.get_by_role("heading", level=1)).to_have_text("some")
    expect(page.get_by_text("Definition")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_count(0)
    page.keyboard.press("r")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Log out").click()

    log_in(page, operator)
    page.get_by_role("button", name="Run now").click()
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(page).to_have_url(re.compile(r"#/run/some_\d+"))
    expect(page.get_by_role("button", name="Kill all")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    log_in(page, viewer)
    expect(page.get_by_role("grid", name="Machines")).to_contain_text("Running 1")
    expect(page.get_by_role("button", name="Kill all")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    log_in(page, operator)
    expect(page.get_by_role("button", name="Kill all")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("some")  # the session goes on
    token(own_daemon, "revoke", "olga")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_who_is_limited_to_a_group_finds_nothing_else(refused_page: Page, own_daemon: Served) -> None:
    page = refused_page
    own_daemon.write("some", some={**LOCAL, "command": "true"})
    own_daemon.write("vault", gold={**LOCAL, "command": "true"})
    own_daemon.begin()
    limited = token(own_daemon, "add", "ann", "--role", "operator", "--group", "some")

    page.goto(f"{own_daemon.url}#/jobs")
    log_in(page, limited)
    expect(page.get_by_role("button", name="Log out")).to_have_attribute("title", "You are token:ann, operator of some")
    for name, found in (("now", "All quiet: 1 job"), ("jobs", "some"), ("machines", ""), ("timeline", "some")):
        page.goto(f"{own_daemon.url}#/{name}")
        expect(page.locator("main")).to_contain_text(found)
        expect(page.locator("main")).not_to_contain_text("gold")
        expect(page.get_by_role("button", name="Stop all new runs")).to_have_count(0)
    page.goto(f"{own_daemon.url}#/job/some")
    page.get_by_role("button", name="Run now").click()
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(page).to_have_url(re.compile(r"#/run/some_\d+"))
    page.goto(f"{own_daemon.url}#/now")
    expect(page.get_by_role("list", name="How the daemon fares")).to_contain_text("Store")
    expect(page.get_by_role("list", name="How the daemon fares")).not_to_contain_text("Slots")
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()

    log_in(page, token(own_daemon, "add", "ada", "--role", "admin"))
    page.get_by_role("link", name="Audit").click()
    table = page.get_by_role("region", name="Who has changed what")
    expect(table.get_by_role("row").nth(1)).to_contain_text("token add")
    expect(table.get_by_role("row").nth(2)).to_contain_text("token:ann")
    expect(table.get_by_role("row").nth(2)).to_contain_text('{"job":"some"')
    expect(page.get_by_role("button", name="Older")).to_have_count(0)
