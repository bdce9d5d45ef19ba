-- Rooms that are kept, who belongs to them, and what was said there.
CREATE TABLE room (
    -- AUTOINCREMENT: who holds the number of a room that is gone never has another's.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- With the "#"; compared and shown as the names of accounts are.
    key BLOB NOT NULL UNIQUE,
    shown BLOB NOT NULL,
    owner INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    topic BLOB NOT NULL DEFAULT x'',
    is_members_only INTEGER NOT NULL DEFAULT 0 CHECK (is_members_only IN (0, 1)),
    created_s REAL NOT NULL
) STRICT;

CREATE INDEX room_by_owner ON room (owner);

CREATE TABLE room_member (
    room INTEGER NOT NULL REFERENCES room (number) ON DELETE CASCADE,
    account INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    -- Whether it has joined, or is only invited.
    has_joined INTEGER NOT NULL CHECK (has_joined IN (0, 1)),
    PRIMARY KEY (room, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX room_member_by_account ON room_member (account);

CREATE TABLE room_chunk (
    -- In the order of the commits, which is that of time whatever the clock says.
    number INTEGER PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (number) ON DELETE CASCADE,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    written_s REAL NOT NULL,
    -- chatrelay/mailbox/entries.py
    data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX room_chunk_of_log ON room_chunk (room, first_id);

-- Who is kept out, and until when.
CREATE TABLE ban (
    -- A name's key, or a network such as 203.0.113.0/24.
    kind TEXT NOT NULL CHECK (kind IN ('name', 'network')),
    what BLOB NOT NULL,
    shown BLOB NOT NULL,
    made_s REAL NOT NULL,
    -- NULL: for good.
    until_s REAL,
    made_by BLOB NOT NULL,
    why BLOB NOT NULL,
    PRIMARY KEY (kind, what)
) STRICT, WITHOUT ROWID;
