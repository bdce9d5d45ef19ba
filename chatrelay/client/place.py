"""
Where somebody has read to, kept from one run of the program to the next.

One small file for each server and name in the XDG state directory, readable by its owner only.
It is replaced as a whole: of two programs that write it, the last one counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from chatrelay.store.database import StoreError, default_directory

MAX_IDS = 1000
"""Ids kept beside the cursor; with ids of the longest kind the file has 130 KB."""

_MAX_FILE_BYTES = 256 * 1024
# Whatever a relay calls an id: it becomes a word of a command.
_ID = re.compile(r"[!-~]{1,128}")


class Place(NamedTuple):
    """
    Where somebody has read to.

    :ivar cursor: the id of the message that was shown last; empty: of none that there was.
    :ivar unacked: ids of those that were shown and that the relay may deliver again.
    """

    cursor: str = ""
    unacked: tuple[str, ...] = ()


class Places:
    """The places of one user on one server."""

    def __init__(self, directory: Path, server: str) -> None:
        """
        Read and write nothing yet.

        :param directory: is made when something is kept.
        :param server: tells this server from others.
        """
        self._directory = directory
        self._server = server

    def read(self, key: bytes) -> Place | None:
        """
        Read the place of a name; ``None`` if there is none, or it can not be read.

        :param key: what is the same for all writings of the name.
        """
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            with self._path(key).open("rb") as file:
                written = json.loads(file.read(_MAX_FILE_BYTES))
            ids = [str(written["cursor"]), *map(str, written["unacked"])]
            if all(not identity or _ID.fullmatch(identity) for identity in ids):
                return Place(ids[0], tuple(ids[1:][-MAX_IDS:]))
        return None

    def write(self, key: bytes, place: Place) -> None:
        """
        Keep the place of a name, in place of the one that was kept.

        :raises OSError: it can not be written; what was kept before still is.
        """
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        written = {
            "server": self._server,
            "name": key.decode("utf-8"),
            "cursor": place.cursor,
            "unacked": place.unacked[-MAX_IDS:],
        }
        aside = path.with_suffix(f".{os.getpid()}")
        with suppress(FileNotFoundError):
            aside.unlink()  # of a program that had this number, and was killed
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # A path need not be UTF-8; what is written for its bytes is an escape of JSON, too.
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(written, file, ensure_ascii=False, indent=1)
                file.write("\n")
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise

    def _path(self, key: bytes) -> Path:
        # A name may be longer than a file's, and hold what that may not.
        digest = sha256(os.fsencode(self._server) + b"\n" + key).hexdigest()
        return self._directory / f"{digest[:32]}.json"


def is_id(identity: str | None) -> bool:
    """Whether an id can be kept, and written as a word of a command."""
    return identity is not None and _ID.fullmatch(identity) is not None


def places_directory(environment: Mapping[str, str]) -> Path | None:
    """
    Where places are kept; ``None`` for a user without a home.

    :param environment: usually ``os.environ``.
    """
    try:
        return default_directory(environment) / "client"
    except StoreError:
        return None
