"""Rooms: who belongs to them, what is said there, and what is kept of that."""
