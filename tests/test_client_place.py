"""Where somebody has read to: a small file, whole or not there."""

import json
import os
import stat
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.place import MAX_IDS, Place, Places, is_id, places_directory


class PlacesTests(SynchronousTestCase):
    """`Places`."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name) / "state" / "client"
        self.places = Places(self.directory, "relay:12345")

    def test_kept(self) -> None:
        """What was written is read, by a name on a server."""
        self.assertIsNone(self.places.read(b"carol"))
        self.places.write(b"carol", Place("a7", ("a6", "a7")))
        self.places.write("jürgen".encode(), Place())
        other = Places(self.directory, "relay:12346")
        other.write(b"carol", Place("b1"))
        self.assertEqual(self.places.read(b"carol"), Place("a7", ("a6", "a7")))
        self.assertEqual(self.places.read("jürgen".encode()), Place("", ()))
        self.assertEqual(other.read(b"carol"), Place("b1", ()))
        self.assertIsNone(other.read(b"dave"))

    def test_server_not_utf_8(self) -> None:
        """A server may be a path, and that any bytes."""
        server = os.fsdecode(b"unix:/run/\xff")
        Places(self.directory, server).write(b"carol", Place("a7"))
        self.assertEqual(Places(self.directory, server).read(b"carol"), Place("a7"))

    def test_private(self) -> None:
        """Only its owner reads it; nothing else is left there."""
        for cursor in ("a7", "a8"):
            self.places.write(b"carol", Place(cursor))
        [path] = self.directory.iterdir()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        self.assertEqual(json.loads(path.read_text(encoding="utf-8"))["name"], "carol")

    def test_bounded(self) -> None:
        """No more ids than may be, of the longest kind, are read again: the last ones."""
        ids = tuple(f"{number:0128}" for number in range(MAX_IDS + 5))
        self.places.write(b"carol", Place(ids[-1], ids))
        self.assertEqual(self.places.read(b"carol"), Place(ids[-1], ids[5:]))

    def test_left_aside(self) -> None:
        """What a killed program has left is in nobody's way."""
        self.places.write(b"carol", Place("a1"))
        [path] = self.directory.iterdir()
        path.with_suffix(f".{os.getpid()}").write_text("half", encoding="utf-8")
        self.places.write(b"carol", Place("a2"))
        self.assertEqual(self.places.read(b"carol"), Place("a2"))
        self.assertEqual(list(self.directory.iterdir()), [path])

    def test_can_not_be_written(self) -> None:
        """It raises, and what was there still is."""
        self.directory.parent.mkdir()
        self.directory.write_text("a file", encoding="utf-8")
        with self.assertRaises(OSError):
            self.places.write(b"carol", Place("a1"))
        self.assertIsNone(self.places.read(b"carol"))

    @given(
        st.binary(max_size=200)
        | st.sampled_from(
            [
                b"[]",
                b"null",
                b'{"cursor": "a 1", "unacked": []}',
                b'{"cursor": "a1", "unacked": ["a\\n/quit"]}',
                b'{"cursor": "a1", "unacked": 7}',
                b'{"cursor": null}',
                b"[",
            ]
        )
    )
    def test_damaged(self, content: bytes) -> None:
        """Whatever is in it that is no place is none."""
        content = content * 100_000 if content == b"[" else content
        self.places.write(b"carol", Place("a1"))
        [path] = self.directory.iterdir()
        path.write_bytes(content)
        self.assertIsNone(self.places.read(b"carol"))


class DirectoryTests(SynchronousTestCase):
    """Where it is."""

    def test_directory(self) -> None:
        """In the XDG state directory."""
        self.assertEqual(
            places_directory({"XDG_STATE_HOME": "/state", "HOME": "/h"}),
            Path("/state/chatrelay/client"),
        )
        self.assertEqual(places_directory({"HOME": "/h"}), Path("/h/.local/state/chatrelay/client"))

    def test_ids(self) -> None:
        """What can be a word of a command, and no more."""
        for identity, good in [
            ("416dcf156474-2", True),
            ("x" * 128, True),
            ("x" * 129, False),
            ("", False),
            (None, False),
            ("a b", False),
            ("a\n", False),
            ("ä", False),
        ]:
            self.assertEqual(is_id(identity), good, identity)
