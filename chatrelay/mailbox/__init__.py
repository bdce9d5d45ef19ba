"""The log of an owned name: what waits for it, what it has read, and what it sent."""
