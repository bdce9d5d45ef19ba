"""Rooms: who is in which, and what is said there (docs/protocol.rst, *Rooms*)."""
