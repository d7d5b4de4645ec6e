"""Names and outputs that would be something else than text, if the page let them: it shows them as they are."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import trio
from playwright.sync_api import Page, expect

from tests.helpers.daemon import MARK
from tests.helpers.hostile import ANY_BYTES, ANY_TEXT, PROPER, job, jobs, lying_wrapper, yaml_of
from tests.web.conftest import Served

LIES = "lies"
SHOWN = [PROPER[key] for key in ("html", "attribute", "path", "percent", "prototype", "markup", "turning", "long")]
WHAT_IS_NOT_TEXT = """
    () => ({
        made: document.querySelectorAll('iframe, object, script:not([src^="/web/"]), img:not([src^="/web/"])').length,
        handlers: [...document.querySelectorAll('*')].flatMap((each) => [...each.attributes])
            .filter(({ name }) => name.startsWith('on')).length,
        links: [...document.querySelectorAll('a')].map((each) => each.getAttribute('href'))
            .filter((link) => link !== null && !link.startsWith('#') && !link.startsWith('blob:')),
        proto: ({}).polluted === undefined && Object.keys(Object.prototype).length,
    })
"""
NOTHING_ELSE = {"made": 0, "handlers": 0, "links": [], "proto": 0}


@pytest.fixture(scope="module")
def runs(daemon: Served) -> dict[str, str]:
    """The runs of jobs with bad names, on machines with bad names, that print bad bytes; one of a machine that lies."""
    (outputs := daemon.directory / "outputs").write_bytes(ANY_BYTES)
    made = jobs(outputs, **{MARK: daemon.mark})
    made[LIES] = job(wrapper_path=str(lying_wrapper(daemon.directory / "liar")), env={MARK: daemon.mark})
    (daemon.conf_d / "<img src=x onerror=alert(1)>.yaml").write_text(yaml_of(made))
    return trio.run(_run_all, daemon, [*made])


async def _run_all(daemon: Served, names: list[str]) -> dict[str, str]:
    async with daemon.watching() as watch:
        await watch.client.request("reload", True)
        await watch.client.request("maintenance", {"set": {"machine": "held<b>", "reason": ANY_TEXT}})
        begun = {name: await watch.run(name) for name in names}
        for run in begun.values():
            while (await watch.client.request("getRun", {"job_instance": run}))["ended"] is None:  # noqa: ASYNC110  nobody tells
                await trio.sleep(0.2)
        return begun


def visit(page: Page, daemon: Served, *place: str) -> None:
    page.goto(f"{daemon.url}#/{'/'.join(quote(part, safe='') for part in place)}")


@pytest.mark.parametrize("name", SHOWN)
def test_a_job_and_its_run_are_called_as_they_are(name: str, page: Page, daemon: Served, runs: dict[str, str]) -> None:
    visit(page, daemon, "job", name)
    expect(page.locator("h1")).to_have_text(name)
    expect(page.locator(".lead")).to_contain_text("<script>alert(1)</script>")
    assert page.evaluate(WHAT_IS_NOT_TEXT) == NOTHING_ELSE
    visit(page, daemon, "run", runs[name])
    machines = page.get_by_role("grid", name="Machines")
    expect(machines).to_contain_text(PROPER["html"])
    expect(machines).to_contain_text(name)
    machines.get_by_text(name, exact=True).click()
    expect(page.locator(".screen")).to_contain_text(PROPER["html"])
    assert page.evaluate(WHAT_IS_NOT_TEXT) == NOTHING_ELSE


@pytest.mark.parametrize("place", ["", "jobs", "machines", "timeline"])
def test_the_other_pages_show_text_too(place: str, page: Page, daemon: Served, runs: dict[str, str]) -> None:
    page.goto(f"{daemon.url}#/{place}")
    expect(page.locator("main")).to_contain_text("script" if place else "held<b>")
    page.wait_for_timeout(300)  # for what is asked for when a row shows
    assert page.evaluate(WHAT_IS_NOT_TEXT) == NOTHING_ELSE


@pytest.mark.parametrize("name", SHOWN[:5])
def test_a_machine_is_called_as_it_is(name: str, page: Page, daemon: Served, runs: dict[str, str]) -> None:
    visit(page, daemon, "machine", name)
    expect(page.locator("h1")).to_have_text(name)
    assert page.evaluate(WHAT_IS_NOT_TEXT) == NOTHING_ELSE


def test_a_name_that_turns_the_direction_turns_its_own_only(page: Page, daemon: Served, runs: dict[str, str]) -> None:
    visit(page, daemon, "machine", PROPER["html"])
    link = page.get_by_role("table", name="Ended here lately").get_by_role("link", name=PROPER["turning"], exact=True)
    expect(link).to_have_css("unicode-bidi", "isolate")


def test_what_a_lying_machine_says_is_shown(page: Page, daemon: Served, runs: dict[str, str]) -> None:
    visit(page, daemon, "run", runs[LIES])
    page.get_by_role("grid", name="Machines").get_by_text("m1", exact=True).click()
    expect(page.locator(".screen")).to_contain_text(PROPER["html"])
    assert page.evaluate(WHAT_IS_NOT_TEXT) == NOTHING_ELSE
