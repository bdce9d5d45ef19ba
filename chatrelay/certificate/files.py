"""Where certificates and their keys are kept, and how files are replaced while others read them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from chatrelay.store.database import default_directory as data_directory
from chatrelay.store.files import sync

CERTIFICATES = "tls"
"""Where they are in a relay's data directory."""
CERTIFICATE_FILE = "certificate.pem"
KEY_FILE = "key.pem"
AUTHORITY_FILE = "ca.pem"
AUTHORITY_KEY_FILE = "ca-key.pem"

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


def default_directory(environment: Mapping[str, str]) -> Path:
    """
    Where a relay's certificate and key are, if nothing else is said.

    :param environment: that of the process.
    :returns: the directory; it need not exist.
    :raises StoreError: this user has no home.
    """
    return data_directory(environment) / CERTIFICATES


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """
    Wait until nobody else is at work in a directory, and keep others out.

    It is made if it is not there, for its owner alone.

    :raises OSError: it can not be made or opened.
    """
    # Each by itself: `parents` would make those above for everybody.
    for one in (*reversed(directory.parents), directory):
        one.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """
    Write files so that whoever reads one sees the old one or the new one, whole.

    All are written beside their places first, and then take them in the order given: what can
    fail fails before anything is replaced.

    :param files: the contents and the mode of each.
    :raises OSError: nothing was replaced, or (a disk that fails between) only the first ones.
    """
    written: dict[Path, Path] = {}
    try:
        for path, (contents, mode) in files.items():
            written[path] = _write_aside(path, contents, mode)
        for path in files:
            os.replace(written.pop(path), path)
            sync(path.parent)
    finally:
        for aside in written.values():
            with suppress(OSError):
                aside.unlink()


def _write_aside(path: Path, contents: bytes, mode: int) -> Path:
    # For its owner alone until it has its mode: a key is never open, not even for a moment.
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(aside)
        raise
    return Path(aside)
