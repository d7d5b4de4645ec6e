"""The ledger's rules: facts go in, and each changes what its kind says. Plain functions of a connection, inside its
transaction.

Nothing here needs the rest of saltpeter, so that a process that only writes stays small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from saltpeter.errors import RunTaken, SlotTaken
from saltpeter.store.codec import from_us
from saltpeter.store.facts import OF_EXECUTION, Fact, write
from saltpeter.store.schema import RING

# What an end says of its machine.
FAILED, SUCCEEDED, SILENT, HEARD = 1, 2, 4, 8  # heard: the machine itself, or Salt on it, has said so

# Of each machine the latest attempt: a row's other columns are those of its max(attempt), SQLite promises so.
LATEST = """
    SELECT run, max(attempt), coalesce(
        json_extract(outcome, '$.end') NOT IN ('exited', 'maintenance') OR
        (json_extract(outcome, '$.end') = 'exited' AND json_extract(outcome, '$.code') != 0), FALSE
    ) AS failed
    FROM executions WHERE run = {run} GROUP BY run, machine
"""
# To be remembered of a run in which nothing changes any more: on thousands of machines counting takes long.
_TALLIED = f"""
    (ran_on, failed_on) = (SELECT count(*), coalesce(sum(failed), 0) FROM ({LATEST.format(run="runs.key")}))
"""  # noqa: S608  # texts of ours

# The job is known, and its slots up to `new.number` have an answer.
_JOB = "INSERT INTO jobs (name) VALUES (new.job) ON CONFLICT DO NOTHING;"
_SLOT_ANSWERED = """
    UPDATE jobs SET last_slot_us = new.number
        WHERE name = new.job AND new.number IS NOT NULL AND coalesce(last_slot_us < new.number, TRUE);
"""

# What has become of an execution that is in the ledger, `new.number` being the sum of what its end says.
_MACHINE_HAS_ENDED = f"""
    INSERT INTO machines (name, parts, ended_us, failures, failed, silent_us)
        SELECT machine, 1, new.at_us, new.number & {FAILED} != 0, iif(new.number & {FAILED}, key, NULL),
            iif(new.number & {SILENT}, new.at_us, NULL)
        FROM executions WHERE {OF_EXECUTION} AND new.number IS NOT NULL
        ON CONFLICT (name) DO UPDATE SET parts = parts + 1, ended_us = excluded.ended_us,
            failures = iif(new.number & {SUCCEEDED}, 0, failures + excluded.failures),
            failed = coalesce(excluded.failed, failed),
            silent_us = CASE WHEN new.number & {SILENT} THEN coalesce(silent_us, excluded.silent_us)
                WHEN NOT new.number & {HEARD} THEN silent_us END;
    INSERT OR REPLACE INTO parts
        SELECT machines.key, (parts - 1) % {RING}, executions.key FROM executions JOIN machines ON name = machine
        WHERE {OF_EXECUTION} AND new.number IS NOT NULL;
"""  # noqa: S608  # texts and numbers of ours
_MACHINE_ANSWERS = """
    UPDATE machines SET silent_us = NULL WHERE name = new.machine AND silent_us IS NOT NULL;
"""

_RULES = {
    "run_started": """
        {job}
        INSERT INTO runs (run, job, slot_us, started_by, token, started_us)
            SELECT new.run, key, new.number, new.text, new.more, new.at_us FROM jobs WHERE name = new.job;
        {slot_answered}
    """,
    "slot_passed": """
        {job}
        INSERT INTO passed (job, first_us, last_us, slots, reason, text, at_us)
            SELECT key, json_extract(new.more, '$.first_us'), new.number, json_extract(new.more, '$.slots'),
                json_extract(new.more, '$.reason'), new.text, new.at_us
            FROM jobs WHERE name = new.job;
        {slot_answered}
    """,
    "awaited": "{job} {slot_answered}",
    "targeted": """
        INSERT INTO executions (run, machine, attempt, targeted_us)
            SELECT key, new.machine, 1, new.at_us FROM runs WHERE {of_living} ON CONFLICT DO NOTHING;
    """,
    "launching": """
        INSERT INTO launches (run, ticket, attempt, at_us)
            SELECT key, new.text, new.attempt, new.at_us FROM runs WHERE {of_living};
    """,
    "launched": """
        UPDATE executions SET launch = (SELECT max(key) FROM launches WHERE run = executions.run),
            launched_us = new.at_us
            WHERE run = (SELECT key FROM runs WHERE {of_living}) AND machine = new.machine AND attempt = new.attempt;
    """,
    "retrying": """
        INSERT INTO executions (run, machine, attempt, targeted_us)
            SELECT key, new.machine, new.attempt, new.at_us FROM runs WHERE run = new.run ON CONFLICT DO NOTHING;
    """,
    "confirmed": "UPDATE executions SET confirmed_us = new.at_us WHERE {of_execution};",
    "started": """
        UPDATE executions SET started_us = new.at_us, pid = new.number, wrapper_version = new.text
            WHERE {of_execution};
    """,
    "bound": "UPDATE executions SET bound = new.text WHERE {of_execution};",
    "kill_requested": """
        INSERT INTO kills (run, machines, killed_by, at_us, signal, grace_s)
            SELECT key, json_extract(new.more, '$.machines'), new.text, new.at_us,
                json_extract(new.more, '$.signal'), json_extract(new.more, '$.grace_s')
            FROM runs WHERE {of_living};
    """,
    "ended": """
        UPDATE executions SET ended_us = new.at_us, outcome = new.text WHERE {of_execution};
        {machine_has_ended}
    """,
    "came_late": """
        UPDATE executions SET late_us = new.at_us, late = new.text WHERE {of_execution};
        {machine_answers}
    """,
    "run_ended": """
        UPDATE jobs SET last_run = living.key FROM (SELECT key, job FROM runs WHERE {of_living}) AS living
            WHERE jobs.key = living.job;
        UPDATE runs SET ended_us = new.at_us, verdict = new.text, text = new.more, {tallied}
            WHERE {of_living};
    """,
    "hold_set": """
        INSERT OR REPLACE INTO holds (machine, reason, held_by, since_us, until_us)
            VALUES (new.machine, new.text, new.more, new.at_us, new.number);
    """,
    "hold_ended": "DELETE FROM holds WHERE machine = new.machine;",
}
RULES = {
    kind: rule.format(
        job=_JOB,
        slot_answered=_SLOT_ANSWERED,
        of_execution=OF_EXECUTION,
        of_living="run = new.run AND ended_us IS NULL",
        machine_has_ended=_MACHINE_HAS_ENDED,
        machine_answers=_MACHINE_ANSWERS,
        tallied=_TALLIED,
    )
    for kind, rule in _RULES.items()
}


def record(connection: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    """Write `facts`. One about a run or an execution that is not in the ledger changes nothing.

    Raises SlotTaken for a second run of a slot, RunTaken for a run id that is there already.
    """
    told = list(facts)
    try:
        write(connection, told, RULES)
    except sqlite3.IntegrityError:
        for fact in told:
            if fact.kind == "run_started":
                _make_sure_it_is_new(connection, fact)
        raise


def record_all(connection: sqlite3.Connection, commits: Sequence[Sequence[Fact]]) -> Sequence[None]:
    """The same for the facts of several commits."""
    record(connection, chain.from_iterable(commits))
    return [None] * len(commits)


def _make_sure_it_is_new(connection: sqlite3.Connection, fact: Fact) -> None:
    """Of a run that has started. Raises SlotTaken, or RunTaken."""
    of_slot = "SELECT 1 FROM runs JOIN jobs ON jobs.key = runs.job WHERE name = ? AND slot_us = ?"
    if fact.number is not None and connection.execute(of_slot, [fact.job, fact.number]).fetchone():
        raise SlotTaken(f"the ledger holds a run of {fact.job} for {from_us(fact.number).isoformat()}")
    if connection.execute("SELECT 1 FROM runs WHERE run = ?", [fact.run]).fetchone():
        raise RunTaken(f"the ledger holds a run {fact.run}")
