"""What the page makes of what the daemon tells, and that none of it goes unheard."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page

from tests.endpoints.scene import RUN
from tests.endpoints.test_golden_2 import FOLDER

FOLD = """async (messages) => {
    const { emptyModel, fold, known } = await import('/web/model.js');
    const model = emptyModel();
    for (const message of messages) fold(model, message);
    const plain = (each) => ({ ...each, machines: each.machines, states: [...each.states] });
    const living = [...model.running.values()].map(plain);
    return {
        jobs: [...model.jobs.keys()],
        last: Object.fromEntries(model.last),
        living,
        byJob: [...model.runningByJob].map(([job, runs]) => [job, runs.map(({ run }) => run)]),
        results: [...model.details.values()].map(({ results }) => results),
        serials: [...model.details.values()].map(({ serial }) => serial ?? null),
        runs: [...model.details.values()].map(({ run }) => run),
        held: model.maintenance.machines,
        storeProblem: model.storeProblem,
        known: known(model),
    };
}"""

# The flush of an earlier change comes between the first drawing of a component and its effects.
CHANGED_BETWEEN = """async () => {
    const { html, render } = await import('/web/ui.js');
    const { redraw, useSession } = await import('/web/session.js');
    let value = 'before';
    const Shown = () => {
        useSession();
        return html`<b>${value}</b>`;
    };
    const root = document.createElement('div');
    document.body.append(root);
    redraw();
    for (const until = performance.now() + 40; performance.now() < until; );
    render(html`<${Shown} />`, root);
    value = 'after';
    await new Promise((done) => setTimeout(done, 300));
    const text = root.textContent;
    render(null, root);
    root.remove();
    return text;
}"""


def told(*chapters: str) -> list[dict[str, Any]]:
    frames = [frame for chapter in chapters for frame in json.loads((FOLDER / f"{chapter}.json").read_text())]
    return [frame["daemon"] for frame in frames if "daemon" in frame]


def test_what_is_told_is_put_together(tab: Page) -> None:
    begun = tab.evaluate(FOLD, told("hello", "changes_begin", "subscribe", "output", "changes_machine"))
    assert begun["jobs"] == ["backup", "other"]
    [living] = begun["living"]
    assert (living["run"], living["open"], living["targets"]) == (RUN, 2, 2)
    assert sorted(living["machines"]) == ["db01", "db02"]
    assert sorted(living["states"]) == [["db01", "running"], ["db02", "paused"]]
    assert begun["byJob"] == [["backup", [RUN]]]
    [results] = begun["results"]
    assert {machine: part["state"] for machine, part in results.items()} == {"db01": "running", "db02": "paused"}
    assert results["db01"]["output_length"] == len("dumping größer tables\n".encode())


def test_what_is_over_is_taken_away(tab: Page) -> None:
    chapters = (
        "hello",
        "changes_begin",
        "subscribe",
        "changes_maintenance",
        "resumed",
        "changes_end",
        "changes_config",
    )
    ended = tab.evaluate(FOLD, told(*chapters))
    assert (ended["jobs"], ended["living"], ended["byJob"], ended["held"]) == (["backup", "new"], [], [], ["db03"])
    assert ended["last"]["backup"]["verdict"] == "failed"
    [run] = ended["runs"]
    assert (run["verdict"], run["failed"]) == ("failed", 1)
    assert ended["results"][0]["db02"]["late"]["retcode"] == 0
    assert ended["known"]["serial"] == told("changes_config")[-1]["serial"]


def test_a_restart_of_the_daemon_begins_anew(tab: Page) -> None:
    anew = tab.evaluate(FOLD, told("hello", "changes_begin", "restarted"))
    assert (anew["jobs"], anew["living"], anew["byJob"]) == (["backup", "new"], [], [])


def test_what_is_known_of_a_run_counts_in_the_life_of_the_daemon_that_told_it(tab: Page) -> None:
    before = told("hello", "changes_begin", "subscribe", "resumed_run")
    gone_on = tab.evaluate(FOLD, before)
    assert gone_on["serials"] == [told("resumed_run")[-1]["serial"]]
    assert gone_on["results"][0]["db02"]["late"]["retcode"] == 0
    assert tab.evaluate(FOLD, [*before, *told("restarted")])["serials"] == gone_on["serials"]
    another = [{**each, "life": "another"} if each["type"] == "snapshot" else each for each in told("restarted")]
    assert tab.evaluate(FOLD, [*before, *another])["serials"] == [None]


def test_a_store_that_cannot_write_is_known_until_it_can(tab: Page) -> None:
    def after(*changes: dict[str, Any]) -> str:
        later = [{"type": "changes", "serial": 1000 + number, **each} for number, each in enumerate(changes)]
        return str(tab.evaluate(FOLD, [*told("hello"), *later])["storeProblem"])

    full: dict[str, Any] = {"store_problem": "the ledger is full"}
    assert after() == ""
    assert after(full, {"jobs": {}}) == "the ledger is full"
    assert after(full, {"store_problem": None}) == ""


def test_a_change_between_the_drawing_and_its_effects_is_heard(tab: Page) -> None:
    assert tab.evaluate(CHANGED_BETWEEN) == "after"
