-- The log of each owned name, in chunks: what one commit added to one side of it.
CREATE TABLE chunk (
    -- In the order of the commits, which is that of time whatever the clock says.
    number INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    -- Whether the name sent it, or was sent it.
    is_sent INTEGER NOT NULL CHECK (is_sent IN (0, 1)),
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    written_s REAL NOT NULL,
    -- chatrelay/mailbox/entries.py
    data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX chunk_of_log ON chunk (account, is_sent, first_id);

CREATE TABLE mailbox (
    account INTEGER PRIMARY KEY REFERENCES account (number) ON DELETE CASCADE,
    -- The last id that is read, and the last that may have been sent to who has to ack it.
    read_id INTEGER NOT NULL DEFAULT 0,
    offered_id INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE block (
    account INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    key BLOB NOT NULL,
    shown BLOB NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;

-- The first id that was not set aside for any run of the relay.
CREATE TABLE next_id (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id INTEGER NOT NULL
) STRICT;
