"""What outlives the relay: its accounts, in one SQLite file, reached from one thread."""
