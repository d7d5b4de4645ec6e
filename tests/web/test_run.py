"""From the click to the receipt, and through a restart of the daemon."""

from __future__ import annotations

import re
from datetime import timedelta

from playwright.sync_api import Page, expect

from saltpeter.domain.outcome import Outcome
from tests.web.conftest import PATIENCE_MS, Served, keep_picture
from tests.web.past import BROKEN, FINE, Past, utc_now, write_past

PROGRESS = r"""
for i in 1 2 3 4 5; do printf '\r\033[32m%d of 5\033[0m' $i; sleep 0.1; done
printf '\n\033[1;31mred alert\033[0m\n'
exec sleep 300
"""
MANY = 5000
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
    daemon.write("kill", progress={"command": PROGRESS, "targets": ["db01", "db02", "db03"], "target_type": "list"})
    page.goto(daemon.url)
    start(page, daemon, "progress")
    machines = page.get_by_role("grid", name="Machines")
    expect(machines).to_contain_text("Running 3")

    expect(page.locator(".screen")).to_contain_text("red alert")
    assert screen(page) == ["5 of 5", "red alert"]  # a carriage return writes over what was there
    expect(page.locator(".screen .fg-2")).to_have_text("5 of 5")
    expect(page.locator(".screen .bold.fg-1")).to_have_text("red alert")
    keep_picture(page, "run")

    machines.get_by_role("checkbox", name="Choose db02").check()
    machines.get_by_role("checkbox", name="Choose db03").check()
    page.get_by_role("button", name="Kill 2").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text(["db02", "db03"])
    keep_picture(page, "kill")
    dialog.get_by_role("button", name="Kill on 2 machines").click()
    card = page.locator(".operation", has_text="on 2 machines")
    expect(card).to_contain_text("none survived")
    expect(card.get_by_role("listitem")).to_contain_text(["db02 143", "db03 143"])
    expect(machines).to_contain_text("Killed 2")
    expect(machines).to_contain_text("Running 1")

    expect(page.get_by_role("button", name="Kill 0")).to_be_disabled()  # what is chosen has ended
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Kill all")).to_be_enabled()
    page.keyboard.press("Shift+K")
    expect(dialog.get_by_role("listitem")).to_have_text(["db01"])
    page.keyboard.press("Enter")
    expect(machines).to_contain_text("Killed 3")
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
        long={
            "command": "seq 1 5000; printf 'caf\\351 \\033[32mend\\033[0m\\n'",
            "targets": ["db01"],
            "target_type": "list",
        },
    )
    page.goto(daemon.url)
    start(page, daemon, "long")
    expect(page.locator(".terminal .tools")).to_contain_text("5,001 lines, complete")
    assert screen(page)[-1] == "caf\ufffd end"  # it follows
    assert page.locator(".screen .line").count() < 200  # and draws what is in sight
    follow = page.get_by_role("button", name="Follow")
    page.locator(".screen").hover()
    page.mouse.wheel(0, -2000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.locator(".screen").evaluate("(element) => (element.scrollTop = 0)")
    expect(page.locator(".screen .line").first).to_have_text("1")
    page.keyboard.press("f")
    expect(page.locator(".screen .line").last).to_have_text("caf\ufffd end")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    saved = download.value.path().read_bytes()
    assert saved == b"".join(b"%d\n" % number for number in range(1, 5001)) + b"caf\xe9 \x1b[32mend\x1b[0m\n"


def test_text_is_found_in_the_output(page: Page, daemon: Served) -> None:
    daemon.write("find", find={"command": "seq 1 5000", "targets": ["db01"], "target_type": "list"})
    page.goto(daemon.url)
    start(page, daemon, "find")
    expect(page.locator(".terminal .tools")).to_contain_text("5,000 lines, complete")
    page.locator("h1").focus()
    page.keyboard.press("s")
    page.keyboard.type("49")
    found = page.get_by_role("search")
    hits = sum(str(number).count("49") for number in range(1, 5001))
    expect(found).to_contain_text(f"1 of {hits}")
    expect(page.locator("mark.current")).to_have_text("49")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Shift+Enter")
    expect(found).to_contain_text(f"{hits} of {hits}")
    expect(page.locator(".line", has=page.locator("mark.current"))).to_have_text("4999")
    page.keyboard.press("Escape")
    expect(page.locator("mark")).to_have_count(0)


def test_a_signal_is_sent_after_asking_which(page: Page, daemon: Served) -> None:
    trapping = "trap 'echo got it' USR1; echo trapped; while :; do sleep 0.1; done"
    daemon.write("trap", trap={"command": trapping, "targets": ["db01"], "target_type": "list"})
    page.goto(daemon.url)
    start(page, daemon, "trap")
    expect(page.get_by_role("grid", name="Machines")).to_contain_text("Running 1")
    expect(page.locator(".screen")).to_contain_text("trapped")  # and its wrapper is connected
    page.get_by_role("button", name="Signal all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text(["db01"])
    dialog.get_by_role("combobox", name="Signal").select_option("USR1")
    dialog.get_by_role("button", name="Send to 1 machine").click()
    expect(page.locator(".operation")).to_contain_text("handed over to 1 machine")
    expect(page.locator(".screen")).to_contain_text("got it")
    page.keyboard.press("Shift+K")
    dialog.get_by_role("button", name="Kill on 1 machine").click()
    expect(page.get_by_role("grid", name="Machines")).to_contain_text("Killed 1")


def test_the_odd_one_out_is_seen_at_once(page: Page, fleet: Served) -> None:
    run = fleet.newest["db-backup"]
    page.goto(f"{fleet.url}#/run/{run}")
    machines = page.get_by_role("grid", name="Machines")
    expect(machines.get_by_role("row").nth(1)).to_contain_text("Failed 1")  # what went wrong comes first
    expect(machines.get_by_role("row").nth(2)).to_contain_text("db07")
    expect(page.locator(".machine-facts")).to_contain_text("wrapper 1.0.0")
    expect(page.locator(".screen")).to_contain_text("no space left")
    keep_picture(page, "run-failed")
    page.get_by_role("button", name="Alike").click()
    kinds = page.locator(".alike")
    expect(kinds).to_contain_text("2 kinds of output on 8 machines")
    expect(kinds.get_by_role("listitem").nth(1)).to_contain_text("line 13 is error: no space left on /srv/db07")
    keep_picture(page, "run-alike")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".beside .one")).to_have_count(2)
    expect(page.locator(".beside .one").nth(0)).to_contain_text("11 of 11")
    expect(page.locator(".beside .one").nth(1)).to_contain_text("no space left")
    keep_picture(page, "run-beside")
    page.reload()  # the address holds it
    expect(page.locator(".beside .one")).to_have_count(2)
    expect(page.locator(".beside .one").nth(1)).to_contain_text("no space left")
    page.get_by_role("button", name="succeeded 7").click()
    expect(machines.get_by_role("row")).to_have_count(1 + 1 + 7)


def test_a_run_on_five_thousand_machines_stays_readable(page: Page, own_daemon: Served) -> None:
    """A daemon that comes back to a run on 5,000 machines, of which 1,000 are never heard of again."""
    names = [f"m{number:04}" for number in range(MANY)]
    outcomes: dict[str, Outcome | None] = dict.fromkeys(names, FINE)
    outcomes.update(dict.fromkeys(names[::5], None))
    outcomes.update(dict.fromkeys(names[7::250], BROKEN))
    broken, living = MANY // 250, MANY // 5
    own_daemon.write("large", large={"command": "true", "targets": names, "target_type": "list"})
    run = Past("large", utc_now(), 40, outcomes)
    write_past(own_daemon.state, [run])
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/run/{run.id}")
    states = page.get_by_role("group", name="Machines by state")
    machines = page.get_by_role("grid", name="Machines")
    expect(states).to_contain_text(re.compile(rf"failed {broken}"))
    expect(machines.get_by_role("row").nth(1)).to_contain_text(f"Failed {broken}")
    assert machines.get_by_role("row").count() < 80  # only those in sight exist
    page.get_by_role("searchbox", name="Search machines").fill("m4999")
    expect(machines.locator(".machine")).to_have_text(["m4999"])
    page.get_by_role("searchbox", name="Search machines").fill("")
    expect(states).to_contain_text(re.compile(rf"lost {living:,}"), timeout=3 * PATIENCE_MS)
    keep_picture(page, "run-many")
    page.get_by_role("button", name=re.compile("^lost")).click()
    expect(machines.get_by_role("row").nth(1)).to_contain_text(f"Lost {living:,}")
    page.keyboard.press("j")
    expect(page.locator(".machine-facts b")).to_have_text(names[5])
    machines.evaluate("(element) => (element.scrollTop = element.scrollHeight)")
    expect(machines.get_by_role("row").last).to_contain_text(names[-5])
    assert machines.get_by_role("row").count() < 80
    own_daemon.end()


def test_output_of_a_hundred_megabytes_is_shown_to_its_end(page: Page, own_daemon: Served) -> None:
    line = b"x" * 79 + b"\n"
    lines = 100 * 2**20 // len(line)
    own_daemon.write("much", much={"command": "true", "targets": ["db01"], "target_type": "list"})
    run = Past("much", utc_now() - timedelta(seconds=60), 40, {"db01": FINE}, {"db01": line * lines + b"the end\n"})
    write_past(own_daemon.state, [run])
    own_daemon.begin()
    page.goto(f"{own_daemon.url}#/run/{run.id}")
    expect(page.locator(".terminal .tools")).to_contain_text(f"{lines + 1:,} lines, complete", timeout=6 * PATIENCE_MS)
    assert screen(page)[-1] == "the end"
    expect(page.locator(".terminal .notice")).to_contain_text("lines are not shown; Download has all")
    assert page.locator(".screen .line").count() < 200
    page.get_by_role("searchbox", name="Find in the output of db01").fill("the END")
    expect(page.get_by_role("search")).to_contain_text("1 of 1")
    own_daemon.end()
