"""The quick path: docs/protocol.rst, *Messages*."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import Refusal
from chatrelay.runs import Cut, Run
from chatrelay.wire import parse_message

MAX_TARGETS = 32
# Two writings of one name lead to one recipient, and two of one room to that.
ROUTES = {
    b"bob": "bob",
    b"BOB": "bob",
    b"dave": "dave",
    b"#ops": "#ops",
    b"#OPS": "#ops",
    b"#b": "#b",
}
PREFIX = b"%alice%"


def run_of(lines: list[bytes]) -> Run:
    return Run(b"".join(line + b"\n" for line in lines))


def plain(line: bytes) -> bytes | None:
    """The target of a line that the quick path serves."""
    try:
        message = parse_message(line, MAX_TARGETS)
    except Refusal:
        return None
    return (
        message.targets[0] if len(message.targets) == 1 and message.targets[0] in ROUTES else None
    )


def expected_cut(lines: list[bytes]) -> tuple[Cut[str], int]:
    """The same, line by line: what the first plain lines are cut into, and how many they are."""
    texts: dict[str, list[bytes]] = {}
    taken = 0
    for line in lines:
        target = plain(line)
        if target is None:
            break
        together = {*texts, ROUTES[target]}
        if len(together) > 1 and any(to.startswith("#") for to in together):
            break
        texts.setdefault(ROUTES[target], []).append(parse_message(line, MAX_TARGETS).text)
        taken += 1
    return [
        (to, b"".join(PREFIX + text + b"\n" for text in of_one), len(of_one))
        for to, of_one in texts.items()
    ], taken


LINES = st.lists(
    st.one_of(
        st.from_regex(
            rb"%(bob|BOB|dave|eve|bob,dave|#ops|#OPS|#b|#|##|)(%[a%]{0,3})?", fullmatch=True
        ),
        st.sampled_from([b"%bob%hi", b"%BOB%hey", b"%dave%x", b"%#ops%hi", b"%#OPS%x"]),
    ),
    min_size=1,
)


class RunTests(SynchronousTestCase):
    """A run goes to its recipients, and stops at the first odd line."""

    @given(LINES)
    @example([b"%bob%a"])
    @example([b"%bob%a", b"%bob%b"])
    @example([b"%bob%a", b"%dave%b", b"%bob%c"])
    @example([b"%bob%a", b"%eve%b", b"%bob%c"])
    @example([b"%bob%1", b"%BOB%2", b"%bob%3"])
    @example([b"%bob%1", b"%BOB%2", b"%bob%3", b"%eve%4"])
    @example([b"%eve%b", b"%eve%c"])
    @example([b"%bob%", b"%bob%a"])
    @example([b"%bob%a", b"%bob%"])
    # Lines with one and with three "%" that together have two each.
    @example([b"%bob", b"%bob%a%b"])
    @example([b"%bob%a%b", b"%bob"])
    @example([b"%bob%hello %dave%x", b"%", b"%"])
    @example([b"%bob%%", b"%bob%a%b"])
    @example([b"%", b"%bob%dave%bob"])
    @example([b"%bob%1", b"%#ops%2", b"%#OPS%3", b"%#b%4", b"%dave%5"])
    def test_it_agrees_with_the_grammar(self, lines: list[bytes]) -> None:
        run = run_of(lines)
        rest = lines
        while rest:
            expected, taken = expected_cut(rest)
            self.assertEqual(run.cut(PREFIX, ROUTES), expected)
            rest = rest[taken:]
            if rest:
                self.assertFalse(run.is_empty)
                self.assertEqual(run.take_line(), rest[0])
                rest = rest[1:]
        self.assertTrue(run.is_empty)

    def test_names_are_routes_as_written(self) -> None:
        self.assertEqual(run_of([b"%Bob%a"]).cut(PREFIX, ROUTES), [])

    def test_who_is_here_is_asked_at_each_cut(self) -> None:
        run = run_of([b"%bob%a", b"%eve%b", b"%bob%c"])
        run.cut(PREFIX, ROUTES)
        run.take_line()
        self.assertEqual(run.cut(PREFIX, {}), [])
        self.assertEqual(run.take_line(), b"%bob%c")
