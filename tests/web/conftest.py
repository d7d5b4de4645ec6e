"""The page as people have it: in a real browser, served by a real daemon that runs real commands on this host.

These tests are plain functions: Playwright brings its own loop, and the daemon is a process of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from saltpeter.lab import free_ports
from tests.helpers.daemon import Daemon
from tests.web.past import fleet_jobs, fleet_past, utc_now, write_past

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000  # for anything that the page or the daemon does
WHILE_AWAY = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "Error during WebSocket handshake")

# What a browser says about a page that breaks its own policy, from the very first script on.
WATCH_POLICY = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"no browser at {CHROMIUM}: on Debian `apt-get install chromium`, or set CHROMIUM to one")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of its own. Whatever it complains about fails the test, but for a daemon that is away."""
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in WHILE_AWAY):
            said.append(message.text)

    context = browser.new_context(viewport={"width": 1360, "height": 820}, timezone_id="Europe/Berlin")
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    yield page
    violations = page.evaluate("window.violations")
    context.close()
    assert (said, violations) == ([], [])


@pytest.fixture(scope="package")
def tab(browser: Browser, daemon: Served) -> Iterator[Page]:
    """One tab for all who only ask the page's modules."""
    page = browser.new_page()
    page.goto(daemon.url)
    yield page
    page.close()


class Served(Daemon):
    """A daemon whose page is at `url`."""

    newest: Mapping[str, str] = {}  # of a job that was given a past, its newest run

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['api_ws_port']}/"

    def begin(self) -> None:
        trio.run(self.start)

    def end(self) -> None:
        trio.run(self.signal, signal.SIGTERM)


@pytest.fixture(scope="package")
def daemons(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path) -> Iterator[list[Served]]:
    """Daemons that were made; all that they started ends with the tests."""
    made: list[Served] = []
    yield made
    for daemon in made:
        daemon.end_everything()


def make_daemon(directory: Path, wrapper_file: Path, made: list[Served]) -> Served:
    [port] = free_ports(1)
    settings = {
        "executor": "local",
        "api_ws": True,
        "api_ws_port": port,
        "default_wrapper_path": str(wrapper_file),
        "default_wrapper_logdir": str(directory / "wrapper-log"),
    }
    daemon = Served(directory, settings)
    made.append(daemon)
    return daemon


@pytest.fixture(scope="package")
def daemon(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path, daemons: list[Served]) -> Served:
    """One daemon for all tests that leave it running. Each writes its jobs into a file of its own."""
    daemon = make_daemon(tmp_path_factory.mktemp("daemon"), wrapper_file, daemons)
    daemon.begin()
    return daemon


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory, wrapper_file: Path, daemons: list[Served]) -> Served:
    """A daemon with some weeks behind it. Its jobs are not run."""
    daemon = make_daemon(tmp_path_factory.mktemp("fleet"), wrapper_file, daemons)
    for file, jobs in fleet_jobs().items():
        (daemon.conf_d / f"{file}.yaml").write_text(yaml.safe_dump(jobs, sort_keys=False))
    runs, passed = fleet_past(utc_now())
    write_past(daemon.state, runs, passed)
    daemon.newest = {run.job: run.id for run in runs}
    daemon.begin()
    return daemon


@pytest.fixture
def own_daemon(tmp_path: Path, wrapper_file: Path, daemons: list[Served]) -> Served:
    """A daemon of the test's own, not yet begun."""
    return make_daemon(tmp_path, wrapper_file, daemons)


def keep_picture(page: Page, name: str) -> None:
    """A picture of the page for people to look at, where SALTPETER_SHOTS says; nowhere without it."""
    if folder := os.environ.get("SALTPETER_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            page.screenshot(path=Path(folder) / f"{name}-{scheme}.png")
