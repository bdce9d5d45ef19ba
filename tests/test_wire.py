"""The grammar: docs/protocol.rst, *Lines*, *Messages*, *Tags*."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import (
    BadLine,
    BadName,
    BadRoom,
    BadTags,
    BadText,
    BadUtf8,
    EmptyText,
    Refusal,
    TooManyTargets,
    UnknownName,
)
from chatrelay.names import parse_room
from chatrelay.wire import (
    Command,
    Message,
    check_text,
    error_line,
    is_clean,
    is_other_protocol,
    is_room,
    parse_command,
    parse_message,
    parse_tags,
    with_tags,
)

MAX_TARGETS = 32
C0_REFUSED = [code for code in range(0x20) if code not in b"\t\n"]
BAD_CHARACTERS = [chr(code) for code in [*C0_REFUSED, 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029]]
# Neighbours of the refused ones, and characters that share bytes with them.
GOOD_CHARACTERS = [
    *("\t", " ", "~", "\xa0", "\xc2", "\u2027", "\u202a", "\u202e", "\u2068"),
    *("â", "€", "日", "😀", "\ufeff", "\u200d"),
]
NOT_UTF8 = [
    b"\x80",
    b"\xff",
    b"\xc3",
    b"\xc3(",
    b"\xc0\xaf",
    b"\xe2\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
]


class TextTests(SynchronousTestCase):
    """What may be relayed: nothing that drives a terminal or forges a line."""

    def test_controls_are_refused_wherever_they_stand(self) -> None:
        for character in BAD_CHARACTERS:
            for around in ("{}", "{}a", "a{}", "a{}b", "é{}", "{}日", "a\nb{}c"):
                text = around.format(character).encode()
                self.assertRaises(BadText, check_text, text)
                self.assertFalse(is_clean(text), ascii(text))

    def test_all_others_are_not(self) -> None:
        for character in GOOD_CHARACTERS:
            for around in ("{}", "{}a", "a{}b", "é{}", "a\nb{}c"):
                self.assertTrue(is_clean(around.format(character).encode()), ascii(character))

    def test_what_is_not_utf8(self) -> None:
        for data in NOT_UTF8:
            for around in (data, b"a" + data, data + b"a", "é".encode() + data + b"\n"):
                self.assertRaises(BadUtf8, check_text, around)
                self.assertFalse(is_clean(around))

    def test_a_control_in_what_is_not_utf8_is_bad_utf8(self) -> None:
        self.assertRaises(BadUtf8, check_text, b"\x1b\xff")

    def test_nothing_is_clean(self) -> None:
        self.assertTrue(is_clean(b""))

    @given(
        st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))
    )
    def test_the_quick_check_agrees_with_a_slow_one(self, data: bytes) -> None:
        try:
            slow = not any(character in BAD_CHARACTERS for character in data.decode("utf-8"))
        except UnicodeDecodeError:
            slow = False
        self.assertEqual(is_clean(data), slow)


class MessageTests(SynchronousTestCase):
    """``%TARGET[,TARGET…]%TEXT``."""

    def parse(self, line: bytes | str, max_targets: int = MAX_TARGETS) -> Message:
        return parse_message(line if isinstance(line, bytes) else line.encode(), max_targets)

    def test_accepted(self) -> None:
        for line, targets, text in [
            ("%bob%hello", ["bob"], "hello"),
            ("%bob,dave%hello", ["bob", "dave"], "hello"),
            ("%bob,bob%hello", ["bob", "bob"], "hello"),
            ("%#ops%disk is full", ["#ops"], "disk is full"),
            ("%#Ольга%x", ["#Ольга"], "x"),
            ("%*%going down", ["*"], "going down"),
            ("%Ольга%привет", ["Ольга"], "привет"),
            ("%bob%100%", ["bob"], "100%"),
            ("%bob%%", ["bob"], "%"),
            ("%bob%%%%", ["bob"], "%%%"),
            ("%bob%%s %d %(name)s {0}", ["bob"], "%s %d %(name)s {0}"),
            ("%bob% ", ["bob"], " "),
            ("%bob%\t", ["bob"], "\t"),
            ("%bob%  two  spaces  ", ["bob"], "  two  spaces  "),
            ("%bob%@ref=1 x", ["bob"], "@ref=1 x"),
            ("%bob%/quit", ["bob"], "/quit"),
            ("%bob%%dave%hi", ["bob"], "%dave%hi"),
            ("%bob%!error bad-name :x", ["bob"], "!error bad-name :x"),
        ]:
            expected = Message([target.encode() for target in targets], text.encode())
            self.assertEqual(self.parse(line), expected, line)

    def test_refused(self) -> None:
        for line, kind in [
            ("%", BadLine),
            ("%bob", BadLine),
            ("%bob hello", BadLine),
            ("%%", BadLine),
            ("%%hello", BadLine),
            ("%bob,#ops%x", BadLine),
            ("%#ops,bob%x", BadLine),
            ("%#ops,#dev%x", BadLine),
            ("%bob,*%x", BadLine),
            ("%*,bob%x", BadLine),
            ("%*,*%x", BadLine),
            ("%,%x", BadName),
            ("%bob,%x", BadName),
            ("%,bob%x", BadName),
            ("%bob, dave%x", BadName),
            ("% bob%x", BadName),
            ("%bob %x", BadName),
            ("%**%x", BadName),
            ("%@bob%x", BadName),
            (f"%{'a' * 33}%x", BadName),
            ("%#%x", BadRoom),
            ("%##ops%x", BadRoom),
            (f"%#{'a' * 33}%x", BadRoom),
            ("%bob%", EmptyText),
            ("%bob,dave%", EmptyText),
            ("%#ops%", EmptyText),
            ("%*%", EmptyText),
        ]:
            self.assertRaises(kind, self.parse, line)

    def test_targets_at_and_above_the_bound(self) -> None:
        for count in (1, 31, 32):
            targets = [b"n%d" % number for number in range(count)]
            self.assertEqual(self.parse(b"%" + b",".join(targets) + b"%x").targets, targets)
        line = b"%" + b",".join(b"n%d" % number for number in range(33)) + b"%x"
        self.assertRaises(TooManyTargets, self.parse, line)

    def test_a_repeated_target_counts_each_time(self) -> None:
        self.assertRaises(TooManyTargets, self.parse, b"%" + b",".join([b"bob"] * 33) + b"%x")

    def test_the_bound_is_an_option(self) -> None:
        self.assertEqual(self.parse(b"%a,b%x", 2).targets, [b"a", b"b"])
        self.assertRaises(TooManyTargets, self.parse, b"%a,b,c%x", 2)

    def test_too_many_is_found_before_the_names_are_read(self) -> None:
        self.assertRaises(TooManyTargets, self.parse, b"%" + b",".join([b"!"] * 33) + b"%x")

    @given(
        st.lists(
            st.from_regex(rb"[a-z0-9]{1,8}", fullmatch=True), min_size=1, max_size=MAX_TARGETS
        ),
        st.binary(min_size=1, max_size=40),
    )
    def test_the_text_is_relayed_byte_for_byte(self, targets: list[bytes], text: bytes) -> None:
        line = b"%" + b",".join(targets) + b"%" + text
        self.assertEqual(self.parse(line), Message(targets, text))

    @given(st.binary(max_size=40))
    def test_anything_is_a_message_or_refused(self, rest: bytes) -> None:
        try:
            message = self.parse(b"%" + rest)
        except Refusal:
            return
        self.assertEqual(b",".join(message.targets) + b"%" + message.text, rest)


class RoomTests(SynchronousTestCase):
    """A room is ``#`` and a name."""

    def test_rooms(self) -> None:
        for room in (b"#a", b"#" + b"a" * 32, "#日本".encode(), b"#server"):
            self.assertTrue(is_room(room))
            parse_room(room)

    def test_no_rooms(self) -> None:
        for room in (b"#", b"##a", b"# a", b"#" + b"a" * 33, b"#a b", b"#\xff"):
            self.assertRaises(BadRoom, parse_room, room)
        self.assertFalse(is_room(b"ops"))
        self.assertFalse(is_room(b""))


def tagged(length: int) -> bytes:
    """Tags of `length` bytes, the ``@`` included, the space not."""
    return b"@x=" + b"v" * (length - 3)


class TagTests(SynchronousTestCase):
    """``@key=value;key `` before a line."""

    def test_accepted(self) -> None:
        for line, tags, rest in [
            (b"%bob%hi", {}, b"%bob%hi"),
            (b"", {}, b""),
            (b" @ref=1 x", {}, b" @ref=1 x"),
            (b"@ref=42 %bob%hi", {b"ref": b"42"}, b"%bob%hi"),
            (b"@ref=42;time %bob%hi", {b"ref": b"42", b"time": b""}, b"%bob%hi"),
            (b"@a=1;b=2;c /who", {b"a": b"1", b"b": b"2", b"c": b""}, b"/who"),
            (b"@a= x", {b"a": b""}, b"x"),
            (b"@a=b=c x", {b"a": b"b=c"}, b"x"),
            (b"@ref=1;ref=2 x", {b"ref": b"2"}, b"x"),
            (b"@ref=1  x", {b"ref": b"1"}, b" x"),
            (b"@ref=1 @ref=2 x", {b"ref": b"1"}, b"@ref=2 x"),
            (b"@ref=1", {b"ref": b"1"}, b""),
            (b"@ref=%d%% x", {b"ref": b"%d%%"}, b"x"),
            (b"@ref=1 \xff", {b"ref": b"1"}, b"\xff"),
            ("@ключ=знач x".encode(), {"ключ".encode(): "знач".encode()}, b"x"),
            (b"@ref=" + b"r" * 64 + b" x", {b"ref": b"r" * 64}, b"x"),
        ]:
            self.assertEqual(parse_tags(line), (tags, rest), line)

    def test_refused(self) -> None:
        for line in [
            b"@",
            b"@ x",
            b"@=1 x",
            b"@a;;b x",
            b"@a; x",
            b"@;a x",
            b"@a=\t x",
            b"@a=\x1b x",
            b"@a=\x7f x",
            b"@a=\xc2\x85 x",
            "@a=\u2028 x".encode(),
            b"@a=\xff x",
            b"@ref x",
            b"@ref= x",
            b"@ref=1;ref= x",
            b"@ref=" + b"r" * 65 + b" x",
        ]:
            self.assertRaises(BadTags, parse_tags, line)

    def test_at_and_above_512_bytes(self) -> None:
        for length in (511, 512):
            self.assertEqual(len(tagged(length)), length)
            tags, rest = parse_tags(tagged(length) + b" x")
            self.assertEqual((len(tags[b"x"]), rest), (length - 3, b"x"))
        for line in (tagged(513) + b" x", tagged(513), tagged(8192)):
            self.assertRaises(BadTags, parse_tags, line)

    def test_a_ref_is_counted_in_bytes(self) -> None:
        self.assertEqual(parse_tags("@ref={} x".format("é" * 32).encode())[1], b"x")
        self.assertRaises(BadTags, parse_tags, "@ref={} x".format("é" * 33).encode())

    @given(
        st.dictionaries(
            st.from_regex(rb"[a-z]{1,9}", fullmatch=True),
            st.from_regex(rb"[!-:<-~]{1,30}", fullmatch=True),
            min_size=1,
            max_size=6,
        ),
        st.binary(max_size=20),
    )
    def test_what_is_written_is_read_back(self, tags: dict[bytes, bytes], rest: bytes) -> None:
        self.assertEqual(parse_tags(with_tags(tags, rest)), (tags, rest))

    @given(st.binary(max_size=40))
    def test_anything_is_read_or_refused(self, rest: bytes) -> None:
        try:
            tags, line = parse_tags(b"@" + rest)
        except BadTags:
            return
        self.assertTrue((b"@" + rest).endswith(line))
        self.assertNotIn(b"", tags)

    def test_no_tags_to_write(self) -> None:
        self.assertEqual(with_tags({}, b"!bye"), b"!bye")
        self.assertEqual(with_tags([], b"!bye"), b"!bye")


class CommandTests(SynchronousTestCase):
    """``/VERB [ARGUMENT…]``."""

    def test_commands(self) -> None:
        for line, verb, arguments in [
            (b"/help", b"help", []),
            (b"/HELP Who", b"help", [b"Who"]),
            (b"/who  bob  ", b"who", [b"bob"]),
            (b"/caps id time ping", b"caps", [b"id", b"time", b"ping"]),
            (b"/", b"", []),
            (b"/ help", b"", [b"help"]),
            (b"/ping %s", b"ping", [b"%s"]),
            (b"//x", b"/x", []),
        ]:
            self.assertEqual(parse_command(line), Command(verb, arguments))


class OtherProtocolTests(SynchronousTestCase):
    """No other protocol's request is a client."""

    def test_requests(self) -> None:
        for line in [
            b"GET / HTTP/1.1",
            b"POST /x HTTP/1.0",
            b"GET / HTTP/2",
            b"PRI * HTTP/2.0",
            b"anything at all HTTP/1.1",
            b"%bob%hi HTTP/1.1",
        ]:
            self.assertTrue(is_other_protocol(line), line)

    def test_clients(self) -> None:
        for line in [b"carol", b"HTTP", b"HTTP/1.1", b"GET / HTTP/1.1 x", b"GET / HTTP/", b""]:
            self.assertFalse(is_other_protocol(line), line)


class ErrorLineTests(SynchronousTestCase):
    """``!error CODE [CONTEXT…] :sentence``."""

    def test_lines(self) -> None:
        self.assertEqual(
            error_line(UnknownName(b"bob")), b"!error unknown-name bob :Nobody has this name now."
        )
        self.assertEqual(
            with_tags({b"ref": b"7"}, error_line(BadUtf8())),
            b"@ref=7 !error bad-utf8 :Lines are UTF-8.",
        )
