"""How rooms are measured: who is in them, how each relay's are spoken to, and what is counted."""

from __future__ import annotations
