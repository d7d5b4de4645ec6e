"""From the click to the receipt, and through a restart of the daemon."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.web.conftest import PATIENCE_MS, Served, keep_picture

PROGRESS = r"""
for i in 1 2 3 4 5; do printf '\r\033[32m%d of 5\033[0m' $i; sleep 0.1; done
printf '\n\033[1;31mred alert\033[0m\n'
exec sleep 300
"""
COUNT = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.04; done"
RECEIVED = """
    () => {
        const run = decodeURIComponent(location.hash.split('/')[2].split('?')[0]);
        const chunks = window.chunks.filter((each) => each.instance === run);
        let position = 0;
        for (const each of chunks) {
            if (each.position !== position) return `at ${position} came ${each.position}`;
            position += each.chunk.length;
        }
        return chunks.map((each) => each.chunk).join('');
    }
"""
# keeps what the daemon sends, whatever the page makes of it
RECORD = """
window.chunks = [];
window.WebSocket = class extends WebSocket {
    constructor(url) {
        super(url);
        this.addEventListener('message', ({ data }) => {
            const message = JSON.parse(data);
            if (message.type === 'output_chunk') window.chunks.push(message);
        });
    }
};
"""


def start(page: Page, daemon: Served, job: str) -> None:
    """Run `job` from its page; returns on the page of the run."""
    page.goto(f"{daemon.url}#/job/{job}")
    page.get_by_role("button", name="Run now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Run {job}?")
    dialog.get_by_role("button", name="Run now").click()
    expect(page).to_have_url(re.compile(rf"#/run/{job}_\d+"))


def screen(page: Page) -> list[str]:
    return [line for line in page.locator(".screen .line").all_inner_texts() if line.strip()]


def test_from_running_a_job_to_the_receipt_of_its_kill(page: Page, daemon: Served) -> None:
    daemon.write("kill", progress={"command": PROGRESS, "targets": ["db01", "db02"], "target_type": "list"})
    page.goto(daemon.url)
    start(page, daemon, "progress")
    machines = page.get_by_role("grid", name="Machines")
    expect(machines).to_contain_text("Running 2")

    expect(page.locator(".screen")).to_contain_text("red alert")
    assert screen(page) == ["5 of 5", "red alert"]  # a carriage return writes over what was there
    expect(page.locator(".screen .fg-2")).to_have_text("5 of 5")
    expect(page.locator(".screen .bold.fg-1")).to_have_text("red alert")
    keep_picture(page, "run")

    machines.get_by_role("checkbox", name="Choose db02").check()
    page.get_by_role("button", name="Kill 1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text(["db02"])
    keep_picture(page, "kill")
    dialog.get_by_role("button", name="Kill on 1 machine").click()
    card = page.locator(".operation", has_text="on 1 machine")
    expect(card).to_contain_text("none survived")
    expect(card.get_by_role("listitem")).to_contain_text("db02 143")
    expect(machines).to_contain_text("Killed 1")
    expect(machines).to_contain_text("Running 1")

    expect(page.get_by_role("button", name="Kill all")).to_be_visible()  # what has ended is not chosen any more
    page.keyboard.press("Shift+K")
    expect(dialog.get_by_role("listitem")).to_have_text(["db01"])
    page.keyboard.press("Enter")
    expect(machines).to_contain_text("Killed 2")
    expect(page.locator("header.title")).to_contain_text("killed")
    keep_picture(page, "killed")
    assert daemon.commands("progress") == []


def test_a_paused_command_goes_on_when_it_is_resumed(page: Page, daemon: Served) -> None:
    daemon.write(
        "pause", ticking={"command": "while sleep 0.1; do echo tick; done", "targets": ["db01"], "target_type": "list"}
    )
    page.goto(daemon.url)
    start(page, daemon, "ticking")
    expect(page.locator(".screen")).to_contain_text("tick")
    for button, state in (("Pause", "Paused 1"), ("Resume", "Running 1")):
        page.get_by_role("button", name=f"{button} all").click()
        page.get_by_role("dialog").get_by_role("button", name=f"{button} on 1 machine").click()
        expect(page.get_by_role("grid", name="Machines")).to_contain_text(state)
    page.get_by_role("button", name="Kill all").click()
    page.get_by_role("dialog").get_by_role("button", name="Kill").click()
    expect(page.get_by_role("grid", name="Machines")).to_contain_text("Killed 1")


def test_a_restart_of_the_daemon_loses_and_repeats_nothing(page: Page, own_daemon: Served) -> None:
    own_daemon.write(counting={"command": COUNT, "targets": ["db01"], "target_type": "list"})
    own_daemon.begin()
    page.add_init_script(RECORD)
    page.goto(own_daemon.url)
    start(page, own_daemon, "counting")
    expect(page.locator(".screen")).to_contain_text("line 20")
    own_daemon.end()
    expect(page.get_by_role("status").first).to_contain_text("Not live")
    expect(page).to_have_title(re.compile("not live"))
    expect(page.locator(".screen")).to_contain_text("line")  # what is known stays in sight
    keep_picture(page, "not-live")
    own_daemon.begin()
    expect(page.get_by_role("status").first).to_contain_text("Live")
    expect(page.get_by_role("grid", name="Machines")).to_contain_text("Succeeded 1", timeout=3 * PATIENCE_MS)
    expect(page.locator(".terminal .tools")).to_contain_text("400 lines, complete")
    assert page.evaluate(RECEIVED) == "".join(f"line {number}\n" for number in range(1, 401))


def test_the_output_can_be_scrolled_and_saved(page: Page, daemon: Served) -> None:
    daemon.write(
        "long",
        long={"command": "seq 1 5000; printf '\\033[32mend\\033[0m\\n'", "targets": ["db01"], "target_type": "list"},
    )
    page.goto(daemon.url)
    start(page, daemon, "long")
    expect(page.locator(".terminal .tools")).to_contain_text("5,001 lines, complete")
    assert screen(page)[-1] == "end"  # it follows
    assert page.locator(".screen .line").count() < 200  # and draws what is in sight
    follow = page.get_by_role("button", name="Follow")
    page.locator(".screen").hover()
    page.mouse.wheel(0, -2000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.locator(".screen").evaluate("(element) => (element.scrollTop = 0)")
    expect(page.locator(".screen .line").first).to_have_text("1")
    page.keyboard.press("f")
    expect(page.locator(".screen .line").last).to_have_text("end")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    saved = download.value.path().read_text()
    assert saved == "".join(f"{number}\n" for number in range(1, 5001)) + "\x1b[32mend\x1b[0m\n"
