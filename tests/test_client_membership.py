"""Which rooms a client is in, and is in again on its next connection."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.core import Reply, parse_line
from chatrelay.client.membership import MAX_ROOMS, Membership, as_untagged, is_joined_again


class MembershipTests(SynchronousTestCase):
    """What the relay tells, and what is asked of the next one."""

    def setUp(self) -> None:
        self.membership = Membership()

    def hear(self, *lines: str) -> None:
        for line in lines:
            self.membership.take(parse_line(line.encode()), "carol")

    def ask(self) -> dict[str, str]:
        """The requests on a new connection: the refs by room."""
        requests = [line.decode().split() for line in self.membership.requests()]
        for _, verb, _ in requests:
            self.assertEqual(verb, "/join")
        return {room: ref for ref, _, room in requests}

    def test_told(self) -> None:
        """Only what is told of oneself counts, in whatever writing."""
        for lines, rooms in [
            (["!joined #ops carol"], ("#ops",)),
            (["!joined #ops bob"], ()),
            (["!joined #ops Carol", "!joined #dev carol"], ("#ops", "#dev")),
            (["!joined #ops carol", "!joined #OPS carol"], ("#ops",)),
            (["!joined #ops carol", "!left #Ops carol"], ()),
            (["!joined #ops carol", "!removed #ops carol"], ()),
            (["!joined #ops carol", "!left #ops bob"], ("#ops",)),
            (["!joined #ops", "!joined"], ()),
            (["!error not-allowed #ops :No."], ()),
        ]:
            self.membership = Membership()
            self.hear(*lines)
            self.assertEqual(self.membership.rooms, rooms, lines)

    def test_again(self) -> None:
        """Each is asked for on each connection; one that is refused for good is dropped."""
        self.hear(*(f"!joined #{name} carol" for name in ("ops", "dev", "full", "shut")))
        refs = self.ask()
        self.assertEqual(list(refs), ["#ops", "#dev", "#full", "#shut"])
        self.assertEqual(len(set(refs.values())), 4)
        self.hear(
            f"{refs['#ops']} !joined #ops carol",
            f"{refs['#dev']} !error busy :Later.",
            f"{refs['#full']} !error too-many-rooms :Full.",
            f"{refs['#shut']} !error not-allowed #shut :Members only.",
        )
        self.assertEqual(self.membership.rooms, ("#ops", "#dev"))
        self.assertEqual(list(self.ask()), ["#ops", "#dev"])

    def test_may_be_told_in(self) -> None:
        """Nothing that changes the rooms is overlooked."""
        self.hear("!joined #ops carol")
        ref = self.ask()["#ops"]
        for line, may_be in [
            ("!joined #dev carol", True),
            ("!left #ops carol", True),
            ("@time=x !removed #ops carol", True),
            (f"{ref} !error not-allowed #ops :No.", True),
            ("%#ops%bob%hello", False),
            ("!online bob", False),
        ]:
            self.assertEqual(self.membership.may_be_told_in(line.encode() + b"\n"), may_be, line)

    def test_whose_answer(self) -> None:
        """The answers are known by their refs; whoever reads lines does not see these."""
        self.membership.enter("#ops")
        ref = self.ask()["#ops"]
        line = f"{ref} !joined #ops carol".encode()
        self.assertTrue(is_joined_again(parse_line(line)))
        self.assertEqual(as_untagged(line), b"!joined #ops carol")
        for other in (b"!joined #ops carol", b"@ref=1 !joined #ops carol", b"%bob%@ref=again-"):
            self.assertEqual(as_untagged(other), other)
        self.assertFalse(is_joined_again(Reply("joined", ("#ops", "carol"), tags={"ref": "1"})))

    def test_bound(self) -> None:
        """A relay that says that one is everywhere is not believed without end."""
        for number in range(MAX_ROOMS + 1):
            self.hear(f"!joined #{number} carol")
        self.assertEqual(len(self.membership.rooms), MAX_ROOMS)
        self.membership = Membership()
        self.hear(f"!joined #{'x' * 200} carol")
        self.assertEqual(self.membership.rooms, ())

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["joined", "left", "removed"]),
                st.sampled_from("ab"),
                st.sampled_from(["carol", "bob"]),
            )
        )
    )
    def test_as_a_set(self, told: list[tuple[str, str, str]]) -> None:
        """It is the set that the lines describe."""
        membership, rooms = Membership(), set()
        for word, room, member in told:
            membership.take(Reply(word, (f"#{room}", member)), "carol")
            if member == "carol":
                (rooms.add if word == "joined" else rooms.discard)(f"#{room}")
        self.assertEqual(set(membership.rooms), rooms)
