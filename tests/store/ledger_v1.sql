BEGIN TRANSACTION;
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
    ) STRICT;
INSERT INTO "executions" VALUES(1,1,'db01',1,1,1762344000000000,1762344000000000,1762344000000000,1762344000000000,4711,'1.0.0',1762344000000000,'{"end": "exited", "code": 3}',NULL,NULL);
INSERT INTO "executions" VALUES(2,1,'db02',1,1,1762344000000000,1762344000000000,NULL,NULL,NULL,'',1762344000000000,'{"end": "killed", "code": 143, "text": "[Job terminated by user request]"}',NULL,NULL);
INSERT INTO "executions" VALUES(3,2,'db01',1,NULL,1762351200000000,NULL,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL);
CREATE TABLE holds (  -- maintenance by hand; '' is every machine
        machine TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        held_by TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        until_us INTEGER  -- NULL: until somebody ends it
    ) STRICT;
INSERT INTO "holds" VALUES('db09','disk','bob',1762344000000000,NULL);
CREATE TABLE jobs (
        key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        last_slot_us INTEGER,  -- the newest slot that has an answer
        last_run INTEGER REFERENCES runs ON DELETE SET NULL  -- the run that ended last
    ) STRICT;
INSERT INTO "jobs" VALUES(1,'backup',1762351200000000,1);
INSERT INTO "jobs" VALUES(2,'report',NULL,NULL);
CREATE TABLE kills (
        key INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        machines TEXT NOT NULL,  -- a JSON array, empty for the whole run
        killed_by TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
INSERT INTO "kills" VALUES(1,1,'["db02"]','ann',1762344000000000);
CREATE TABLE launches (
        key INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        ticket TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
INSERT INTO "launches" VALUES(1,1,'20251105120000000000',1,1762344000000000);
CREATE TABLE passed (  -- slots that did not run; a stretch of them with the same answer is one row
        key INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES jobs,
        first_us INTEGER NOT NULL,
        last_us INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        reason TEXT NOT NULL,
        text TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
INSERT INTO "passed" VALUES(1,1,1762347600000000,1762347600000000,1,'overlap','the last run lives',1762347600000000);
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
    ) STRICT;
INSERT INTO "runs" VALUES(1,'backup_1762344000',1,1762344000000000,'schedule','t',1762344000000000,1762344000000000,'failed','');
INSERT INTO "runs" VALUES(2,'backup_1762351200',1,1762351200000000,'schedule','t',1762351200000000,NULL,NULL,'');
INSERT INTO "runs" VALUES(3,'report_1762344007',2,NULL,'schedule','t',1762344000000000,NULL,NULL,'');
CREATE UNIQUE INDEX runs_slot ON runs (job, slot_us) WHERE slot_us IS NOT NULL;
CREATE INDEX runs_of_job ON runs (job, started_us);
CREATE INDEX runs_by_start ON runs (started_us);
CREATE INDEX runs_open ON runs (key) WHERE ended_us IS NULL;
CREATE INDEX launches_of_run ON launches (run);
CREATE INDEX kills_of_run ON kills (run);
CREATE INDEX passed_of_job ON passed (job, last_us);
COMMIT;
PRAGMA user_version = 1;
