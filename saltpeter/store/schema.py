"""The tables, how they came to be, and how a database file is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from saltpeter.errors import StoreError
from saltpeter.store.places import sync

RING = 20  # executions that are remembered of each machine
CHECKPOINT_BYTES = 8 * 1024**2  # of journal, before it is copied into its file
LARGEST_JOURNAL = 8 * CHECKPOINT_BYTES  # before a commit waits for that
SMALL_PAGE, LARGE_PAGE = 4096, 8192  # bytes; SQLite makes two calls of the kernel for each page it writes
BUSY_S = 5.0  # how long a locked database is waited for; only another program can lock it for so long

# Older SQLite (3.34 in RHEL 9) has no strict tables; all else works there too.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_AND = "," if _STRICT else ""

# Names that come from elsewhere (jobs, machines) are values; the keys between the tables are numbers.
# Instants are whole microseconds since 1970, UTC.
LEDGER: Sequence[str] = (
    f"""
    CREATE TABLE jobs (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        last_slot_us INTEGER,  -- the newest slot that has an answer
        last_run INTEGER REFERENCES runs ON DELETE SET NULL  -- the run that ended last
    ) {_STRICT};

    CREATE TABLE runs (
        key INTEGER PRIMARY KEY,
        run TEXT NOT NULL UNIQUE,
        job INTEGER NOT NULL REFERENCES jobs,
        slot_us INTEGER,  -- NULL: started by hand
        started_by TEXT NOT NULL,
        token TEXT NOT NULL,
        started_us INTEGER NOT NULL,
        ended_us INTEGER,
        verdict TEXT,
        text TEXT NOT NULL DEFAULT ''
    ) {_STRICT};
    CREATE UNIQUE INDEX runs_slot ON runs (job, slot_us) WHERE slot_us IS NOT NULL;
    CREATE INDEX runs_of_job ON runs (job, started_us);
    CREATE INDEX runs_by_start ON runs (started_us);
    CREATE INDEX runs_open ON runs (key) WHERE ended_us IS NULL;

    CREATE TABLE launches (
        key INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        ticket TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        at_us INTEGER NOT NULL
    ) {_STRICT};
    CREATE INDEX launches_of_run ON launches (run);

    CREATE TABLE executions (
        key INTEGER PRIMARY KEY,  -- ascending in launch order
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        machine TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        launch INTEGER,  -- NULL: not launched yet
        targeted_us INTEGER NOT NULL,
        launched_us INTEGER,
        confirmed_us INTEGER,
        started_us INTEGER,
        pid INTEGER,
        wrapper_version TEXT NOT NULL DEFAULT '',
        ended_us INTEGER,
        outcome TEXT,  -- what the outcome is, and what the machine said later: JSON
        late_us INTEGER,
        late TEXT,
        UNIQUE (run, machine, attempt)
    ) {_STRICT};

    CREATE TABLE kills (
        key INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        machines TEXT NOT NULL,  -- a JSON array, empty for the whole run
        killed_by TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) {_STRICT};
    CREATE INDEX kills_of_run ON kills (run);

    CREATE TABLE holds (  -- maintenance by hand; '' is every machine
        machine TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        held_by TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        until_us INTEGER  -- NULL: until somebody ends it
    ) {_STRICT};

    CREATE TABLE passed (  -- slots that did not run; a stretch of them with the same answer is one row
        key INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES jobs,
        first_us INTEGER NOT NULL,
        last_us INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        reason TEXT NOT NULL,
        text TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) {_STRICT};
    CREATE INDEX passed_of_job ON passed (job, last_us);
    """,
    f"""
    CREATE TABLE lives (  -- when a daemon was there
        key INTEGER PRIMARY KEY,
        started_us INTEGER NOT NULL,
        seen_us INTEGER NOT NULL,  -- the last sign of it
        ended_us INTEGER  -- NULL: it lives, or died without a word
    ) {_STRICT};

    CREATE INDEX runs_by_hand ON runs (job, started_us) WHERE slot_us IS NULL;
    CREATE INDEX passed_by_end ON passed (last_us);
    CREATE INDEX jobs_by_last_run ON jobs (last_run);  -- else forgetting a run would look through all jobs
    """,
    """
    ALTER TABLE executions ADD COLUMN bound TEXT NOT NULL DEFAULT '';  -- the digest of its wrapper's secret
    """,
    f"""
    CREATE INDEX runs_that_failed ON runs (started_us, job) WHERE verdict <> 'success';

    CREATE TABLE machines (  -- every machine that an execution has ended on, and how it fares
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        parts INTEGER NOT NULL DEFAULT 0,  -- executions that have ended there
        ended_us INTEGER NOT NULL,  -- the latest of these ends
        failures INTEGER NOT NULL DEFAULT 0,  -- how often it has failed in a row
        failed INTEGER,  -- the latest execution that did
        silent_us INTEGER  -- since when it does not answer; NULL: it does
    ) {_STRICT};

    CREATE TABLE parts (  -- of each machine the latest executions that ended there: a ring
        machine INTEGER NOT NULL REFERENCES machines ON DELETE CASCADE,
        place INTEGER NOT NULL,
        execution INTEGER NOT NULL,
        PRIMARY KEY (machine, place)
    ) {_STRICT}{_AND} WITHOUT ROWID;

    INSERT INTO machines (name, parts, ended_us)
        SELECT machine, count(*), max(ended_us) FROM executions WHERE ended_us IS NOT NULL GROUP BY machine;
    INSERT INTO parts
        SELECT machine, (total - newer - 1) % {RING}, execution FROM (
            SELECT machines.key AS machine, executions.key AS execution, count(*) OVER every AS total,
                row_number() OVER (every ORDER BY executions.ended_us DESC, executions.key DESC) - 1 AS newer
            FROM executions JOIN machines ON machines.name = executions.machine
            WHERE executions.ended_us IS NOT NULL WINDOW every AS (PARTITION BY machines.key)
        ) WHERE newer < {RING};
    """,  # noqa: S608  # a number of ours
    """
    ALTER TABLE kills ADD COLUMN signal TEXT;  -- in place of the job's own
    ALTER TABLE kills ADD COLUMN grace_s REAL;
    """,
    """
    DROP INDEX runs_that_failed;
    CREATE INDEX failures ON runs (started_us) WHERE verdict <> 'success';
    CREATE INDEX failures_of_job ON runs (job, started_us) WHERE verdict <> 'success';
    CREATE INDEX passed_that_waited ON passed (job, last_us) WHERE reason = 'waiting';
    """,
    """
    ALTER TABLE runs ADD COLUMN ran_on INTEGER;  -- so many machines; NULL: it lives, or ended before this was kept
    ALTER TABLE runs ADD COLUMN failed_on INTEGER;  -- so many of them
    """,
)

# What has been made of a file, and by which saltpeter.
_STEPS = f"""
    CREATE TABLE IF NOT EXISTS steps (schema INTEGER PRIMARY KEY, saltpeter TEXT NOT NULL) {_STRICT};
"""

# One file for each day of runs, so that forgetting a day is removing a file.
OUTPUT: Sequence[str] = (
    f"""
    CREATE TABLE streams (  -- one for each execution that has said anything
        key INTEGER PRIMARY KEY,
        run TEXT NOT NULL,
        machine TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        length INTEGER NOT NULL DEFAULT 0,  -- bytes of the command's output that have been here
        next_index INTEGER NOT NULL DEFAULT 0,
        output_limit INTEGER,
        tail_index INTEGER,  -- the first piece past the half that is kept from the beginning
        tail_position INTEGER,
        dropped INTEGER NOT NULL DEFAULT 0,  -- bytes left out from tail_position on
        UNIQUE (run, machine, attempt)
    ) {_STRICT};

    CREATE TABLE pieces (
        key INTEGER PRIMARY KEY,  -- stream and index in one number, so a stream's pieces lie side by side
        position INTEGER NOT NULL,  -- of its first byte in the command's output
        system INTEGER NOT NULL,
        data BLOB NOT NULL
    ) {_STRICT};

    CREATE TABLE logs (
        key INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL
    ) {_STRICT};
    CREATE INDEX logs_of_stream ON logs (stream);
    """,
)


def connect(
    path: Path, migrations: Sequence[str], version: str = "", page_bytes: int = SMALL_PAGE
) -> sqlite3.Connection:
    """Open `path` for writing, made or brought up to date as needed; `version` is this saltpeter's.

    A file that exists keeps the size of its pages. Raises StoreError for a file of a newer saltpeter, sqlite3.Error
    and OSError for one that cannot be used.
    """
    if not path.exists():
        _create(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {page_bytes}")  # before all else; has no effect on what is there
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # the same
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # else large statements fail where /var/tmp is full
        connection.execute(f"PRAGMA wal_autocheckpoint = {LARGEST_JOURNAL // pragma(connection, 'page_size')}")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_JOURNAL}")  # to which it is cut after a burst
        _migrate(connection, migrations, path, version)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open `path`, which exists, for reads that never wait for the writer. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    # not mode=ro: whoever closes a file last tidies up its journal, and that may be a reader
    connection.execute("PRAGMA query_only = ON")
    return connection


def give_back(connection: sqlite3.Connection, pages: int) -> int:
    """Let the file shrink by up to `pages` of those that hold nothing; returns how many of these there are then."""
    for _ in range(min(pages, pragma(connection, "freelist_count"))):
        connection.execute("PRAGMA incremental_vacuum(1)")  # one at a time: Python takes only its first step
    return pragma(connection, "freelist_count")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a setting or a figure that SQLite keeps; `name` is a text of ours."""
    [value] = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _create(path: Path) -> None:
    """An empty file that only we may read (it will hold tokens and output), and that a power cut does not undo."""
    path.touch(mode=0o600)
    sync(path.parent)


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], path: Path, version: str) -> None:
    schema = pragma(connection, "user_version")
    if schema > len(migrations):
        raise StoreError(_newer(connection, path, schema, len(migrations)))
    for number, script in enumerate(migrations[schema:], start=schema + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {_STEPS}; {script};")
        connection.execute("INSERT INTO steps VALUES (?, ?)", [number, version])
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def _newer(connection: sqlite3.Connection, path: Path, schema: int, known: int) -> str:
    """What to tell who opens a file that a later saltpeter has changed."""
    try:
        row = connection.execute("SELECT saltpeter FROM steps WHERE schema = ?", [schema]).fetchone()
    except sqlite3.OperationalError:  # that later saltpeter writes it down elsewhere
        row = None
    writer = f"saltpeter {row[0]}" if row and row[0] else "a newer saltpeter"
    return f"{path} was written by {writer} (schema {schema}, this one knows {known}): that one, or a later, is needed"
