"""Measure chatrelay beside other relays: ``python -m bench`` (docs/performance.rst)."""
