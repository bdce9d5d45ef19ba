"""What is asked of the store about kept rooms, and what it answers."""

from __future__ import annotations

from typing import NamedTuple


class KeptRoom(NamedTuple):
    """
    One room that is kept.

    :ivar number: never given to another room, not even after this one was given up.
    :ivar key: what rooms are compared by, with the ``#``.
    :ivar shown: the room as who made it wrote it, with the ``#``.
    :ivar owner: the number of its owner's account.
    :ivar topic: empty if it has none.
    :ivar is_members_only: whether only who is invited may join.
    :ivar members: the number of each member's account, and whether it has joined; if not, it
        is only invited.
    :ivar entries: how many entries its log has.
    :ivar size_bytes: what they count for.
    """

    number: int
    key: bytes
    shown: bytes
    owner: int
    topic: bytes
    is_members_only: bool
    members: list[tuple[int, bool]]
    entries: int
    size_bytes: int
