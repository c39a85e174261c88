-- A journal that version 0.3.2 has written, as SQL: schema 1.
PRAGMA application_id=1869640809;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE cursors (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, file TEXT NOT NULL,
    cursor TEXT NOT NULL, PRIMARY KEY (session, file)
) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('one','optio.log','{"device":0,"inode":7,"size":0,"mtime_ns":0,"offset":60,"generation":0,"lines":3,"tail":"","window":0}');
INSERT INTO "cursors" VALUES('two','optio.log','{"device":0,"inode":9,"size":0,"mtime_ns":0,"offset":90,"generation":0,"lines":2,"tail":"","window":0}');
CREATE TABLE deliveries (
    event INTEGER PRIMARY KEY REFERENCES events ON DELETE CASCADE, session TEXT NOT NULL,
    path TEXT NOT NULL, size INTEGER, sha256 TEXT, reply TEXT, taken INTEGER, saved TEXT
);
INSERT INTO "deliveries" VALUES(3,'one','a.txt',6,'00ff','accepted',1,'/kept/a.txt');
CREATE TABLE digests (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    generation INTEGER NOT NULL, digests BLOB NOT NULL
);
INSERT INTO "digests" VALUES(1,'one',0,X'3132333435363738');
INSERT INTO "digests" VALUES(2,'two',0,X'3132333435363738');
INSERT INTO "digests" VALUES(3,'one',0,X'6162636465666768');
INSERT INTO "digests" VALUES(4,'one',0,X'3132333435363738');
INSERT INTO "digests" VALUES(5,'two',0,X'696A6B6C6D6E6F70');
CREATE TABLE events (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    file TEXT NOT NULL, generation INTEGER NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL,
    line TEXT NOT NULL, repeated INTEGER NOT NULL, at REAL NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session, file, generation, offset)
);
INSERT INTO "events" VALUES(1,'one','optio.log',0,17,'status','STATUS: 50% half',0,1.7958347599760680199e+09,1);
INSERT INTO "events" VALUES(2,'two','optio.log',0,10,'unknown','just words',0,1.7958347599771301746e+09,0);
INSERT INTO "events" VALUES(3,'one','optio.log',0,50,'deliverable','DELIVERABLE: deliverables/a.txt',0,1.79583475997725892066e+09,1);
INSERT INTO "events" VALUES(4,'one','optio.log',0,60,'done','DONE: all',0,1.79583475997811412806e+09,1);
INSERT INTO "events" VALUES(5,'two','optio.log',0,90,'caller_message','CALLER_MESSAGE: k {"a": 1}',0,1.79583475997847676281e+09,0);
CREATE TABLE notes (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL,
    UNIQUE (session, kind, key)
);
INSERT INTO "notes" VALUES(1,'one','sent','0001-aa','{"text": "go on", "by": "me"}',1.79583475997703504562e+09);
INSERT INTO "notes" VALUES(2,'one','permission','r1','{"tool_name": "Bash", "raw": {"type": "control_request", "request_id": "r1", "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm -rf build"}}}, "digest": "d1", "behavior": "allow", "by": "me"}',1.79583475997769713406e+09);
INSERT INTO "notes" VALUES(3,'one','turn','000000000007','{"subtype": "success", "is_error": false, "result": "That is all.", "total_cost_usd": 0.5}',1.7958347599778418541e+09);
INSERT INTO "notes" VALUES(4,'one','turn','000000000009','{"subtype": "success", "is_error": true, "result": "Not logged in", "total_cost_usd": 0.5}',1.79583475997794175145e+09);
INSERT INTO "notes" VALUES(5,'one','heard','stdout','{"events": 9, "answers": 1}',1.79583475997801756858e+09);
INSERT INTO "notes" VALUES(6,'one','claude','session','"c-1"',1.79583475997807598119e+09);
INSERT INTO "notes" VALUES(7,'two','permission','r2','{"tool_name": "Bash", "raw": {"type": "control_request", "request_id": "r2", "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm -rf build"}}}, "digest": "d2"}',1.79583475997871446611e+09);
CREATE TABLE replies (
    event INTEGER PRIMARY KEY REFERENCES events ON DELETE CASCADE, reply TEXT NOT NULL
);
INSERT INTO "replies" VALUES(5,'answer to k');
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, host TEXT NOT NULL, taskdir TEXT NOT NULL,
    facts TEXT NOT NULL, ended_at REAL, outcome TEXT, summary TEXT, result TEXT
) WITHOUT ROWID;
INSERT INTO "sessions" VALUES('one',1000.0,'me@box','~/tasks/one','{"agent": "claude", "program": "claude", "title": "the title", "cwd": null, "ssh": null, "features": null, "hidden": [], "reads_to_end": false, "journal": "j"}',1010.0,'done','all','{"session": "one", "outcome": "done", "summary": "all", "started_at": 1000.0, "ended_at": 1010.0, "deliverables": [], "replies": "none", "statuses": 0, "agent": {"exit_code": null, "signal": null, "how": "unknown"}, "cursor": null, "last_lines": [], "abandoned": [], "troubles": {}, "skipped": 0}');
INSERT INTO "sessions" VALUES('two',1000.0,'me@box','~/tasks/two','{"agent": "claude", "program": "claude", "title": "the title", "cwd": null, "ssh": null, "features": null, "hidden": [], "reads_to_end": false, "journal": "j"}',NULL,NULL,NULL,NULL);
CREATE INDEX session_events ON events (session);
CREATE INDEX open_events ON events (session) WHERE NOT done;
CREATE INDEX session_digests ON digests (session);
CREATE INDEX session_deliveries ON deliveries (session);
COMMIT;
