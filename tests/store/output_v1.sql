BEGIN TRANSACTION;
CREATE TABLE logs (
        key INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
INSERT INTO "logs" VALUES(1,1,1762344000000000,'info','connected');
CREATE TABLE pieces (
        key INTEGER PRIMARY KEY,  -- stream and index in one number, so a stream's pieces lie side by side
        position INTEGER NOT NULL,  -- of its first byte in the command's output
        system INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
INSERT INTO "pieces" VALUES(4294967296,0,0,X'6F6E650A74776FFF0A');
INSERT INTO "pieces" VALUES(4294967297,9,1,X'5B74686520656E645D0A');
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
    ) STRICT;
INSERT INTO "streams" VALUES(1,'backup_1762344000','db01',1,9,2,1024,NULL,NULL,0);
CREATE INDEX logs_of_stream ON logs (stream);
COMMIT;
PRAGMA user_version = 1;
