"""What a name may be, and when two are the same: docs/protocol.rst, *Names*."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import BadName
from chatrelay.names import MAX_NAME_BYTES, SERVER_NAME, Name, key_of_party, parse_name

DEVANAGARI_KI = "\u0915\u093f"  # a letter and a mark that have no single code point
ACCEPTED = [
    "a",
    "7",
    "a" * 32,
    "9" * 32,
    "Carol",
    "a_b-c.d",
    "a..",
    "0x1f.local",
    "server2",
    "я",
    "я" * 32,
    "Ольга-2",
    "Ωμέγα",
    "日本語",
    "한국",
    "שלום",
    "مرحبا",
    DEVANAGARI_KI * 16,
    "cafe\u0301",
    "e\u0301" * 32,  # 64 code points as written, 32 after NFC
    "\u03b1\u0313\u0300\u0345" * 32,  # 256 bytes as written, 96 after NFC
    "\u0967\u0968",  # Devanagari digits
    "مرحبا\u0664",
    "अ१२",
    "\U00020000" * 32,  # four bytes each, the longest name there is
    "日本ab",  # only Latin, Greek and Cyrillic exclude one another
    "日本яб",
    "bob\u0967",
]
REFUSED = [
    ("nothing", ""),
    ("33 code points", "a" * 33),
    ("33 code points in Cyrillic", "я" * 33),
    ("33 code points after NFC", "e\u0301" * 33),
    ("far too long", "a" * 100_000),
    ("far too long, not ASCII", "я" * 100_000),
    ("punctuation first", "_a"),
    ("a dash first", "-a"),
    ("a dot first", ".a"),
    ("a mark first", "\u093f\u0915"),
    ("a combining accent first", "\u0301a"),
    ("a space", "a b"),
    ("a space at the end", "a "),
    ("a line end", "a\n"),
    ("a percent sign", "a%b"),
    ("a comma", "a,b"),
    ("a hash", "#a"),
    ("a star", "*"),
    ("an exclamation mark", "!a"),
    ("an at sign", "@a"),
    ("a slash", "/a"),
    ("a colon", "a:b"),
    ("a tab", "a\tb"),
    ("a null", "a\0b"),
    ("DEL", "a\x7fb"),
    ("a C1 control", "a\x85b"),
    ("a zero-width joiner", "a\u200db"),
    ("a right-to-left override", "a\u202eb"),
    ("a soft hyphen", "a\xadb"),
    ("a line separator", "a\u2028b"),
    ("an emoji", "😀"),
    ("a Roman numeral, no decimal digit", "Ⅷ"),
    ("a superscript", "a²"),
    ("Latin and Cyrillic", "pаypal"),  # the second letter is U+0430
    ("Latin and Greek", "aα"),
    ("Greek and Cyrillic", "αя"),
    ("full-width Latin and Cyrillic", "ｐаｙｐａｌ"),
    ("Latin and Cyrillic, decomposed", "e\u0301я"),
    ("an unassigned code point", "a\u0378"),
    ("Arabic digits beside Latin, RFC 5893", "bob\u0661"),
    ("Arabic digits alone, RFC 5893", "\u0661"),
    ("private use", "\ue000"),
]
NOT_UTF8 = [b"\xff", b"a\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]
SAME = [
    ("Carol", "cAROL"),
    ("a-B_c.D", "A-b_C.d"),
    ("Ольга", "оЛЬГА"),
    ("caf\xe9", "cafe\u0301"),
    ("CAF\xc9", "cafe\u0301"),
    ("\u1e69", "s\u0323\u0307"),  # two marks
    ("\u1e69", "s\u0307\u0323"),  # in the other order
    ("Ωμέγα", "ωμέγα"),
    ("\uac01", "\u1100\u1161\u11a8"),  # a syllable and its three letters
]
DIFFERENT = [
    ("carol", "caro1"),
    ("a.b", "a_b"),
    ("e", "é"),
    ("a", "а"),  # the second is Cyrillic
    ("1", "\u0967"),
    ("bob", "bob2"),
]


def parse(name: str) -> Name:
    return parse_name(name.encode())


class NameTests(SynchronousTestCase):
    """The rules, one table for each answer."""

    def test_accepted(self) -> None:
        for written in ACCEPTED:
            shown = unicodedata.normalize("NFC", written)
            self.assertEqual(parse(written).shown.decode(), shown, ascii(written))

    def test_refused(self) -> None:
        for why, written in REFUSED:
            error = self.assertRaises(BadName, parse, written)
            self.assertEqual(error.context, (), why)

    def test_not_utf8(self) -> None:
        for written in NOT_UTF8:
            self.assertRaises(BadName, parse_name, written)

    def test_a_refusal_is_remembered_as_one(self) -> None:
        for _ in range(2):
            self.assertRaises(BadName, parse, "pаypal")

    def test_two_writings_of_one_name(self) -> None:
        for one, other in SAME:
            self.assertEqual(parse(one).key, parse(other).key, (one, other))

    def test_different_names(self) -> None:
        for one, other in DIFFERENT:
            self.assertNotEqual(parse(one).key, parse(other).key, (one, other))

    def test_shown_as_given(self) -> None:
        self.assertEqual(parse("cAROL"), Name(b"cAROL", b"carol"))
        self.assertEqual(parse("ОЛЬГА"), Name("ОЛЬГА".encode(), "ольга".encode()))

    def test_the_server_in_any_case(self) -> None:
        for written in ("server", "Server", "SERVER"):
            self.assertEqual(parse(written).key, SERVER_NAME)

    def test_a_wide_writing_of_the_server_is_the_server(self) -> None:
        # RFC 8265 maps full-width letters to the usual ones, so nobody can pose as it.
        self.assertEqual(parse("ｓｅｒｖｅｒ").key, SERVER_NAME)

    def test_the_longest_name_in_bytes(self) -> None:
        self.assertEqual(len(parse("\U00020000" * 32).shown), MAX_NAME_BYTES)


class PartyTests(SynchronousTestCase):
    """What the other side of a message is compared by."""

    def test_table(self) -> None:
        for party, key in (
            ("alice", "alice"),
            ("Alice", "alice"),
            ("#Ops", "#ops"),
            ("#Ops%Alice", "#ops%alice"),
            ("#Ärger%ÄNNE", "#ärger%änne"),
            ("*", "*"),
            ("*%Alice", "*%alice"),
        ):
            self.assertEqual(key_of_party(party.encode()).decode(), key)

    def test_what_is_none(self) -> None:
        for party in (b"", b"#", b"#%alice", b"#ops%", b"%alice", b"##ops", b"**"):
            self.assertRaises(BadName, key_of_party, party)


NAME_CHARACTERS = st.one_of(
    st.sampled_from("aZ09_-.яЖαΩ日한\u0301\u0308\u093f\u0661ßİıſςσﬁ"),
    st.characters(categories=("L", "M", "Nd")),
)
NAMES = st.text(NAME_CHARACTERS, min_size=1, max_size=36)


class NameProperties(SynchronousTestCase):
    """What holds for every name."""

    @given(st.one_of(NAMES.map(str.encode), st.binary(max_size=140)))
    @example("\u1e9e".encode())
    @example("\u0130".encode())
    @example("\u03a3\u03c2".encode())
    def test_reading_what_is_shown_gives_the_same_name(self, written: bytes) -> None:
        try:
            name = parse_name(written)
        except BadName:
            return
        self.assertEqual(parse_name(name.shown), name)
        self.assertTrue(1 <= len(name.shown.decode()) <= 32)
        self.assertLessEqual(len(name.shown), MAX_NAME_BYTES)
        self.assertTrue(name.key)
        for syntax in b" %,#*:;=@!/\n\r\t":
            self.assertNotIn(syntax, name.shown)
            self.assertNotIn(syntax, name.key)

    @given(NAMES)
    @example("\u1e9e")
    @example("\u0130")
    def test_a_key_is_a_writing_of_its_name(self, written: str) -> None:
        try:
            name = parse(written)
        except BadName:
            return
        self.assertEqual(parse_name(name.key).key, name.key)

    @given(NAMES)
    def test_both_normal_forms_are_one_name(self, written: str) -> None:
        def key(form: str) -> bytes | None:
            try:
                return parse(form).key
            except BadName:
                return None

        composed, decomposed = (unicodedata.normalize(form, written) for form in ("NFC", "NFD"))
        self.assertEqual(key(composed), key(decomposed))

    @given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True))
    def test_ascii_names_are_compared_by_lower_case(self, written: str) -> None:
        self.assertEqual(parse(written), Name(written.encode(), written.lower().encode()))
