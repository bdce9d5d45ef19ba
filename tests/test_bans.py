"""Who is kept out: what is matched, for how long, and what is kept."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import bans as module
from chatrelay.bans import Ban, Bans, banned, includes, is_loopback, read_target, shown
from chatrelay.errors import BadLine, BadName, NotAllowed, Refusal
from chatrelay.names import Name, parse_name
from chatrelay.store.accounts import Accounts
from tests.store_harness import NOW_S, open_database, temporary_directory


def ban(written: bytes, until_s: float | None = None, made_s: float = 0.0) -> Ban:
    return Ban(read_target(written), made_s, until_s, b"alice", b"spam")


class TargetTests(SynchronousTestCase):
    """What an operator writes."""

    def test_networks_and_addresses(self) -> None:
        for written, network, again in [
            (b"203.0.113.7", "203.0.113.7/32", b"203.0.113.7"),
            (b"203.0.113.7/32", "203.0.113.7/32", b"203.0.113.7"),
            (b"203.0.113.7/24", "203.0.113.0/24", b"203.0.113.0/24"),
            (b"203.0.113.0/255.255.255.0", "203.0.113.0/24", b"203.0.113.0/24"),
            (b"0.0.0.0/0", "0.0.0.0/0", b"0.0.0.0/0"),
            (b"2001:DB8::1", "2001:db8::1/128", b"2001:db8::1"),
            (b"2001:db8::1/32", "2001:db8::/32", b"2001:db8::/32"),
            (b"fe80::1%eth0", "fe80::1/128", b"fe80::1"),
            (b"fe80::1%eth0/64", "fe80::/64", b"fe80::/64"),
            (b"::ffff:203.0.113.7", "203.0.113.7/32", b"203.0.113.7"),
            (b"::ffff:203.0.113.7/120", "203.0.113.0/24", b"203.0.113.0/24"),
            (b"::ffff:0:0/96", "0.0.0.0/0", b"0.0.0.0/0"),
            (b"::ffff:0:0/95", "::fffe:0:0/95", b"::fffe:0:0/95"),
        ]:
            target = read_target(written)
            self.assertEqual(target, ipaddress.ip_network(network), written)
            self.assertEqual(shown(target), again)
            self.assertEqual(read_target(again), target)

    def test_names(self) -> None:
        for written, name, again in [
            (b"Mallory", b"Mallory", b"Mallory"),
            (b"name=Mallory", b"Mallory", b"Mallory"),
            (b"name=10.0.0.1", b"10.0.0.1", b"name=10.0.0.1"),
            (b"10.0.0.256", b"10.0.0.256", b"10.0.0.256"),
            (b"10", b"10", b"10"),
            ("Йордан".encode(), "Йордан".encode(), "Йордан".encode()),
        ]:
            self.assertEqual(read_target(written), parse_name(name), written)
            self.assertEqual(shown(read_target(written)), again)

    def test_neither(self) -> None:
        for written, refusal in [
            (b"203.0.113.0/33", BadLine),
            (b"203.0.113.0/x", BadLine),
            (b"/24", BadLine),
            (b"::g", BadLine),
            (b"1:2", BadLine),
            (b"#ops", BadName),
            (b"-", BadName),
            (b"*", BadName),
            (b"name=", BadName),
            (b"name=203.0.113.0/24", BadName),
            (b"\xff", BadName),
        ]:
            self.assertRaises(refusal, read_target, written)

    def test_loopback(self) -> None:
        for written, expected in [
            (b"127.0.0.1", True),
            (b"127.9.9.9", True),
            (b"0.0.0.0/0", True),
            (b"126.0.0.0/7", True),
            (b"128.0.0.0/1", False),
            (b"::1", True),
            (b"::/0", True),
            (b"::/127", True),
            (b"::2/127", False),
            (b"::ffff:127.0.0.1", True),
            (b"2001:db8::/32", False),
        ]:
            self.assertIs(is_loopback(read_target(written)), expected, written)


OCTETS = st.integers(0, 3)
HOSTS = st.one_of(
    st.builds("10.{}.{}.{}".format, OCTETS, OCTETS, OCTETS),
    st.builds("::ffff:10.{}.{}.{}".format, OCTETS, OCTETS, OCTETS),
    st.builds("2001:db8:{:x}:{:x}::{:x}".format, OCTETS, OCTETS, OCTETS),
    st.sampled_from(["a Unix socket", "", "fe80::1%eth0", "127.0.0.1", "::1"]),
)
TIMES_S = st.one_of(st.none(), st.integers(0, 20).map(float))


@st.composite
def targets(draw: st.DrawFn) -> module.Target:
    if draw(st.booleans()):
        return parse_name(draw(st.sampled_from([b"carol", b"CAROL", b"dave", b"10.0.0.1"])))
    host = draw(HOSTS.filter(lambda host: module.read_address(host) is not None))
    address = host.partition("%")[0]
    bits = ipaddress.ip_address(address).max_prefixlen
    # The short ones match more.
    length = bits - draw(st.integers(0, min(bits, 40)))
    return read_target(f"{address}/{length}".encode())


class NaiveBans:
    """Looks at every ban, and asks `ipaddress` itself."""

    def __init__(self) -> None:
        self.bans: dict[object, Ban] = {}

    @staticmethod
    def key(target: module.Target) -> object:
        return target.key if isinstance(target, Name) else target

    def ends(self, host: str, now_s: float) -> list[float]:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return []
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return [
            float("inf") if one.until_s is None else one.until_s
            for target, one in self.bans.items()
            if not isinstance(target, bytes) and address in target and self.is_on(one, now_s)
        ]

    @staticmethod
    def is_on(one: Ban, now_s: float) -> bool:
        return one.until_s is None or now_s < one.until_s


class MatchingTests(SynchronousTestCase):
    """The same as a model that looks at every ban."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), targets(), TIMES_S),
                st.tuples(st.just("remove"), targets(), st.none()),
                st.tuples(st.just("pass"), st.none(), st.integers(1, 5).map(float)),
            ),
            max_size=30,
        ),
        st.lists(HOSTS, min_size=1, max_size=10),
    )
    def test_as_a_naive_model(self, steps: list[Any], hosts: list[str]) -> None:
        now_s = 0.0
        bans, model = Bans(lambda: now_s), NaiveBans()
        for what, target, number in steps:
            if what == "pass":
                now_s += number
            elif what == "remove":
                bans.remove(target, lambda _: None)
                model.bans.pop(model.key(target), None)
            else:
                one = Ban(target, now_s, number, b"alice", b"")
                bans.add(one, lambda _: None)
                model.bans[model.key(target)] = one
            for host in hosts:
                found, ends = bans.of_host(host), model.ends(host, now_s)
                self.assertEqual(found is not None, bool(ends), (host, model.bans))
                if found is not None:
                    end = float("inf") if found.until_s is None else found.until_s
                    self.assertEqual(end, max(ends))
            for name in (b"carol", b"dave", b"10.0.0.1", b"erin"):
                expected = model.bans.get(name)
                if expected is not None and not model.is_on(expected, now_s):
                    expected = None
                self.assertEqual(bans.of_name(name), expected)
            valid = {one for one in model.bans.values() if model.is_on(one, now_s)}
            self.assertEqual(set(bans), valid)
            for one in model.bans.values():
                self.assertEqual(bans.has(one.target), model.is_on(one, now_s))
        self.assertLessEqual(len(bans), len(model.bans))

    def test_a_host_in_a_network(self) -> None:
        network = read_target(b"203.0.113.0/24")
        assert not isinstance(network, Name)
        for host, expected in [
            ("203.0.113.255", True),
            ("::ffff:203.0.113.255", True),
            ("203.0.112.255", False),
            ("2001:db8::1", False),
            ("a Unix socket", False),
        ]:
            self.assertIs(includes(network, host), expected, host)

    def test_all_of_a_network(self) -> None:
        bans = Bans(lambda: 0.0)
        bans.add(ban(b"203.0.113.0/25"), lambda _: None)
        for written, expected in [
            (b"203.0.113.0/24", False),
            (b"203.0.113.0/25", True),
            (b"203.0.113.0/26", True),
            (b"203.0.113.128/26", False),
        ]:
            self.assertIs(bans.of_network(read_target(written)) is not None, expected, written)

    def test_a_look_does_not_look_at_every_ban(self) -> None:
        bans = Bans(lambda: 0.0)
        for number in range(3000):
            network = ipaddress.ip_network((10 << 24 | number << 8, 24))
            bans._put(Ban(network, 0.0, None, b"alice", b""))
        self.assertEqual((len(bans), len(bans._networks)), (3000, 1))
        self.assertIsNotNone(bans.of_host("10.0.5.9"))
        self.assertIsNone(bans.of_host("11.0.5.9"))


class ListTests(SynchronousTestCase):
    """The bans themselves."""

    def test_their_order(self) -> None:
        bans = Bans(lambda: 0.0)
        for written in (b"2001:db8::1", b"10.0.0.0/8", b"dave", b"10.0.0.2", b"10.0.0.1", b"carol"):
            bans.add(ban(written), lambda _: None)
        self.assertEqual(
            [shown(one.target) for one in bans],
            [b"carol", b"dave", b"10.0.0.0/8", b"10.0.0.1", b"10.0.0.2", b"2001:db8::1"],
        )

    def test_as_many_as_there_may_be(self) -> None:
        self.patch(module, "MAX_BANS", 3)
        now_s = 0.0
        bans = Bans(lambda: now_s)
        outcomes: list[Refusal | None] = []
        for written, until_s in [(b"a", None), (b"10.0.0.0/8", 5.0), (b"::2", None)]:
            bans.add(ban(written, until_s), outcomes.append)
        self.assertEqual(outcomes, [None] * 3)
        bans.add(ban(b"carol"), outcomes.append)
        self.assertIsInstance(outcomes[-1], NotAllowed)
        self.assertIsNone(bans.of_name(b"carol"))
        # Another time for one that is there takes no room.
        bans.add(ban(b"10.9.9.9/8", 6.0), outcomes.append)
        self.assertIsNone(outcomes[-1])
        # One that is over takes none either.
        now_s = 6.0
        bans.add(ban(b"carol"), outcomes.append)
        self.assertIsNone(outcomes[-1])
        self.assertEqual(len(bans), 3)

    def test_what_who_is_banned_reads(self) -> None:
        for until_s, why, words in [
            (None, b"spam", "This name is banned for good: spam"),
            (None, b"", "This name is banned for good."),
            (NOW_S, b"", "This name is banned until 2026-09-21 14:13:20 UTC."),
            (
                NOW_S,
                "für alle".encode(),
                "This name is banned until 2026-09-21 14:13:20 UTC: für alle",
            ),
        ]:
            one = Ban(parse_name(b"carol"), 0.0, until_s, b"alice", why)
            self.assertEqual(banned(one).sentence, words)


class StoreTests(SynchronousTestCase):
    """They are kept as they are."""

    def setUp(self) -> None:
        self.database = open_database(self, temporary_directory(self))
        self.bans = Accounts(self.database.connection).bans

    def write(self, method: Any, *arguments: Any) -> Any:
        with self.database.transaction():
            return method(*arguments)

    def test_all_of_it(self) -> None:
        kept = [
            ban(b"Carol"),
            ban(b"name=10.0.0.1", 9.5),
            ban(b"10.0.0.1", 8.0),
            ban(b"10.0.0.0/8", 7.0),
            ban(b"2001:db8::/32", 6.0),
        ]
        for one in kept:
            self.write(self.bans.add, one)
        self.assertEqual(set(self.bans.all()), set(kept))

    def test_of_one_target_there_is_one(self) -> None:
        for one in (ban(b"Carol", 5.0), ban(b"CAROL", 6.0)):
            self.write(self.bans.add, one)
        self.assertEqual(self.bans.all(), [ban(b"CAROL", 6.0)])
        self.assertTrue(self.write(self.bans.remove, read_target(b"carol")))
        self.assertFalse(self.write(self.bans.remove, read_target(b"carol")))
        self.assertEqual(self.bans.all(), [])

    def test_those_that_have_ended_go_with_the_next_one(self) -> None:
        self.write(self.bans.add, ban(b"carol", 5.0))
        self.write(self.bans.add, ban(b"dave"))
        self.write(self.bans.add, ban(b"erin", made_s=4.9))
        self.assertEqual(len(self.bans.all()), 3)
        self.write(self.bans.add, ban(b"erin", made_s=5.0))
        self.assertEqual(self.bans.all(), [ban(b"dave"), ban(b"erin", made_s=5.0)])
