-- Owned names.  Times are seconds since the epoch; names are UTF-8, as chatrelay/names.py has them.

CREATE TABLE account (
    -- AUTOINCREMENT: who holds the number of an account that was removed never has another's.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    shown BLOB NOT NULL,
    secret_hash TEXT NOT NULL,
    is_disabled INTEGER NOT NULL DEFAULT 0 CHECK (is_disabled IN (0, 1)),
    created_s REAL NOT NULL,
    changed_s REAL NOT NULL,
    last_login_s REAL
) STRICT;

CREATE TABLE token (
    account INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    created_s REAL NOT NULL,
    used_s REAL NOT NULL,
    PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX token_by_use ON token (used_s);

-- The networks that an account was opened from with its secret.
CREATE TABLE login (
    account INTEGER NOT NULL REFERENCES account (number) ON DELETE CASCADE,
    network TEXT NOT NULL,
    last_s REAL NOT NULL,
    PRIMARY KEY (account, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX login_by_time ON login (last_s);

-- Whoever was granted a name before this moment holds it no longer.
CREATE TABLE revocation (
    -- AUTOINCREMENT: a relay asks for those after the last one it has seen.
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL,
    revoked_s REAL NOT NULL
) STRICT;

CREATE INDEX revocation_by_time ON revocation (revoked_s);
CREATE INDEX revocation_by_key ON revocation (key, sequence);
