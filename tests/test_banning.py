"""``/ban`` and ``/unban``: docs/operations.rst."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv6Address

from chatrelay.names import parse_name
from tests.accounts_harness import SECRET
from tests.operators_harness import OperatorTestCase
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool


class BanTests(OperatorTestCase):
    """What is banned, and what who is banned reads."""

    def connect(self, host: str) -> Client:
        return self.world.connect(IPv6Address("TCP", host, 5) if ":" in host else host)

    def test_a_name(self) -> None:
        bob = [self.world.owner(b"bob", host="192.0.2.2") for _ in range(2)]
        for client in bob:
            client.raw()
        self.assertEqual(
            self.alice.lines(b"@ref=1 /ban Bob 2h too loud"),
            [b"@ref=1 !banned Bob until=2026-09-21T16:13:20.000Z connections=2"],
        )
        sentence = b":This name is banned until 2026-09-21 16:13:20 UTC: too loud\n"
        for client in bob:
            self.assertEqual(client.raw(), b"!error not-allowed Bob " + sentence)
            self.assertFalse(client.is_connected)
        for line in (b"bob", b"BOB", b"bob " + SECRET, b"bob wrong-secret"):
            client = self.world.connect()
            client.send(line + b"\n")
            shown = line.split()[0]
            self.assertEqual(client.raw(), b"!error not-allowed " + shown + b" " + sentence)
        carol = self.join(b"carol", "192.0.2.3")
        self.assertEqual(carol.lines(b"/name bob"), [b"!error not-allowed bob"])
        self.world.pass_time(7200)
        self.world.owner(b"bob")
        self.assertEqual(
            self.said(), ["operator alice at 192.0.2.1 port 40001: /ban Bob 2h too loud"]
        )

    def test_a_name_that_nobody_has_registered(self) -> None:
        bob = self.join(b"bob", "192.0.2.2")
        self.assertEqual(self.alice.lines(b"/ban bob"), [b"!banned bob until=never connections=1"])
        self.assertFalse(bob.is_connected)
        self.assertEqual(self.world.connect().lines(b"bob"), [b"!error not-allowed bob"])
        self.assertEqual(self.alice.lines(b"/unban BOB"), [b"!unbanned BOB"])
        self.join(b"bob", "192.0.2.2")

    def test_what_is_sent_to_a_banned_name_waits(self) -> None:
        self.world.owner(b"bob")
        self.alice.lines(b"/ban bob")
        (told,) = self.alice.lines(b"%bob%read this when you are back")
        self.assertTrue(told.startswith(b"!stored bob"))

    def test_addresses(self) -> None:
        hosts = [
            *("198.51.100.7", "::ffff:198.51.100.7", "198.51.100.8"),
            *("2001:db8::7", "127.0.0.1"),
        ]
        clients = {host: self.connect(host) for host in hosts}
        named = self.join(b"bob", "198.51.100.7")
        for line, count, still in [
            (b"/ban 198.51.100.7", 3, hosts[2:]),
            (b"/ban ::ffff:198.51.100.8", 1, hosts[3:]),
            (b"/ban 2001:db8::/32", 1, hosts[4:]),
        ]:
            (told,) = self.alice.lines(line)
            self.assertEqual(told.split()[-1], b"connections=%d" % count, line)
            connected = [host for host, client in clients.items() if client.is_connected]
            self.assertEqual(connected, still)
        self.assertFalse(named.is_connected)
        for host in ("198.51.100.7", "::ffff:198.51.100.8", "2001:db8:ffff::1"):
            client = self.connect(host)
            sentence = b":Your address is banned for good.\r\n"
            self.assertEqual(client.raw(), b"!error not-allowed " + sentence)
            self.assertFalse(client.is_connected)
        # Before there was a session, and nothing counts it.
        self.assertEqual(self.world.relay.statistics.connections, 7)
        self.assertEqual(self.world.relay.admission._connections.keys(), {"192.0.2.1"})
        self.assertTrue(self.connect("198.51.100.9").is_connected)

    def test_who_may_not_be_banned(self) -> None:
        phone = self.operator("203.0.113.9")
        for line, answer in [
            (b"/ban alice", b"not-allowed"),
            (b"/ban ALICE 1s", b"not-allowed"),
            (b"/ban server", b"not-allowed"),
            (b"/ban 127.0.0.1", b"not-allowed"),
            (b"/ban 0.0.0.0/0", b"not-allowed"),
            (b"/ban ::/0 1s", b"not-allowed"),
            (b"/ban ::ffff:127.0.0.1", b"not-allowed"),
            (b"/ban 192.0.2.1", b"not-allowed"),
            (b"/ban 192.0.2.0/24 1s", b"not-allowed"),
            (b"/ban ::ffff:192.0.2.0/120", b"not-allowed"),
            # Another of her connections comes from there.
            (b"/ban 203.0.113.0/24", b"not-allowed"),
            (b"/ban 203.0.113.0/99", b"bad-line"),
            (b"/ban #ops", b"bad-name"),
            (b"/ban bob 36501d", b"bad-line"),
            (b"/ban bob " + b"x" * 257, b"bad-line"),
            (b"/unban bob", b"unknown-name bob"),
            (b"/unban", b"bad-line"),
            (b"/unban a b", b"bad-line"),
        ]:
            self.assertEqual(self.alice.lines(line), [b"!error " + answer], line)
        self.assertTrue(phone.is_connected)
        self.assertEqual(len(self.world.relay.bans), 0)
        self.assertEqual(self.said(), [])

    def test_times(self) -> None:
        for written, until in [
            (b"30s", b"2026-09-21T14:13:50.000Z"),
            (b"10m", b"2026-09-21T14:23:20.000Z"),
            (b"2h", b"2026-09-21T16:13:20.000Z"),
            (b"7d", b"2026-09-28T14:13:20.000Z"),
            (b"36500d", b"2126-08-28T14:13:20.000Z"),
            # All else is what is said about it.
            (b"", b"never"),
            (b"for 2h", b"never"),
            (b"2nd-time!", b"never"),
        ]:
            (told,) = self.alice.lines(b"/ban mallory " + written)
            self.assertEqual(told.split()[2], b"until=" + until, written)

    def test_what_only_looks_like_a_time_bans_nobody(self) -> None:
        for written in (b"0s", b"2H", b"90min", b"1w", b"2 hours", b"36501d", b"1234567890s"):
            (told,) = self.alice.lines(b"/ban mallory " + written)
            self.assertEqual(told, b"!error bad-line", written)
        self.assertEqual(len(self.world.relay.bans), 0)

    def test_the_list(self) -> None:
        self.alice.lines(
            *(b"/ban mallory 10s first", b"/ban name=10.0.0.1", b"/ban 10.0.0.1 2h"),
            b"/ban 10.0.0.0/8 10s it is nobody's",
        )
        since = b" since=2026-09-21T14:13:20.000Z by=alice"
        self.alice.send(b"/ban\n")
        self.assertEqual(
            self.alice.raw().splitlines(),
            [
                b"!ban name=10.0.0.1 until=never" + since,
                b"!ban mallory until=2026-09-21T14:13:30.000Z" + since + b" :first",
                b"!ban 10.0.0.0/8 until=2026-09-21T14:13:30.000Z" + since + b" :it is nobody's",
                b"!ban 10.0.0.1 until=2026-09-21T16:13:20.000Z" + since,
                b"!end ban 4",
            ],
        )
        self.assertIn(b"!stat bans 4", self.alice.lines(b"/stats"))
        self.world.pass_time(10)
        self.assertEqual(len(self.alice.lines(b"/ban")), 3)
        self.assertIn(b"!stat bans 2", self.alice.lines(b"/stats"))

    def test_what_is_banned_with_more(self) -> None:
        self.alice.lines(b"/ban 10.0.0.0/8", b"/ban 10.1.0.0/16")
        for line, words in [
            (b"/unban 10.2.0.1", b"Not this is banned, but 10.0.0.0/8: /unban that."),
            (b"/unban 10.0.0.0/7", b"There is no ban of this; /ban lists them."),
        ]:
            self.alice.send(line + b"\n")
            self.assertIn(words, self.alice.raw())
        self.assertEqual(self.alice.lines(b"/unban 10.9.9.9/8"), [b"!unbanned 10.0.0.0/8"])
        self.assertEqual(self.connect("10.1.0.1").told(), [b"!error not-allowed"])
        self.assertEqual(self.connect("10.2.0.1").told(), [])

    def test_an_operator_may_ban_another(self) -> None:
        self.world.relay.operators.add(b"bob")
        bob = self.world.owner(b"bob")
        self.alice.lines(b"/ban bob")
        self.assertFalse(bob.is_connected)


class KeptBanTests(OperatorTestCase):
    """They outlive the relay, and can be taken back beside it."""

    def test_a_restart(self) -> None:
        self.alice.lines(b"/ban bob 2h", b"/ban 10.0.0.0/8", b"/ban carol", b"/ban dave 1s")
        self.alice.lines(b"/unban carol")
        for is_killed in (False, True):
            self.world.pass_time(1)
            self.world = self.world.restarted(is_killed=is_killed)
            for name, answer in [
                (b"bob", b"!error"),
                (b"carol", b"!welcome"),
                (b"dave", b"!welcome"),
            ]:
                (line,) = self.world.connect().lines(name)
                self.assertEqual(line.split()[0], answer, name)
            self.assertEqual(self.world.connect("10.1.2.3").told(), [b"!error not-allowed"])
        self.alice = self.operator()
        self.assertEqual(len(self.alice.lines(b"/ban")), 3)

    def unban_beside_it(self) -> None:
        def unban(accounts: Any) -> None:
            accounts.bans.remove(parse_name(b"bob"))
            accounts.bans.note_change(0.0)

        self.world.in_store(unban)

    def test_what_another_process_takes_back(self) -> None:
        self.alice.lines(b"/ban bob", b"/ban 10.0.0.0/8")
        self.unban_beside_it()
        self.assertEqual(self.world.connect().lines(b"bob"), [b"!error not-allowed bob"])
        self.world.look()
        self.join(b"bob", "192.0.2.2")
        self.assertEqual(len(self.world.relay.bans), 1)

    def test_that_is_seen_later_if_it_can_not_be_read(self) -> None:
        self.alice.lines(b"/ban bob")
        self.unban_beside_it()
        journal: Any = self.world.relay.bans._journal
        with_failure = self.patch(journal, "read", lambda then: then(None))
        self.world.look()
        self.assertEqual(len(self.world.relay.bans), 1)
        with_failure.restore()
        self.world.look()
        self.assertEqual(len(self.world.relay.bans), 0)

    def test_nothing_is_banned_before_that_is_kept(self) -> None:
        self.world = self.new_world(storing=ManualThreadpool())
        self.alice = self.operator()
        bob = self.join(b"bob", "192.0.2.2")
        self.assertEqual(self.alice.lines(b"/ban bob", b"/ping"), [])
        self.assertTrue(bob.is_connected)
        # Who has asked for it may leave meanwhile.
        self.alice.reset()
        self.world.settle_all()
        self.assertFalse(bob.is_connected)
        self.assertEqual(self.world.connect().lines(b"bob"), [b"!error not-allowed bob"])
        self.assertEqual(self.said(), ["operator alice at 192.0.2.1 port 40001: /ban bob"])

    def test_answers_keep_their_order(self) -> None:
        self.world = self.new_world(storing=ManualThreadpool())
        self.alice = self.operator()
        self.alice.send(b"@ref=1 /ban bob\n@ref=2 /unban bob\n@ref=3 /ping\n")
        self.world.settle_all()
        self.assertEqual(
            self.alice.told(),
            [
                b"@ref=1 !banned bob until=never connections=0",
                b"@ref=2 !unbanned bob",
                b"@ref=3 !pong",
            ],
        )

    def test_a_claim_that_is_being_decided(self) -> None:
        hashing = ManualThreadpool()
        self.world = self.new_world(hashing=hashing)
        self.world.add(b"bob")
        self.world.add(b"alice")
        alice, bob = self.world.connect("192.0.2.1"), self.world.connect("192.0.2.2")
        alice.send(b"alice " + SECRET + b"\n")
        hashing.run_all()
        self.world.settle()
        bob.send(b"bob " + SECRET + b"\n")
        alice.lines(b"/ban bob")
        hashing.run_all()
        self.world.settle()
        self.assertEqual(bob.told(), [b"!error not-allowed bob"])

    def test_a_store_that_fails(self) -> None:
        bob = self.join(b"bob", "192.0.2.2")
        database = self.world.store._database
        assert database is not None
        path, away = database.path, database.path.with_suffix(".away")
        path.rename(away)
        told = self.alice.lines(b"/ban bob", b"@ref=2 /ban 10.0.0.0/8")
        away.rename(path)
        self.assertEqual(told, [b"!error store-failed", b"@ref=2 !error store-failed"])
        self.assertEqual((len(self.world.relay.bans), bob.is_connected), (0, True))
        self.assertEqual(self.said(), [])
        self.assertEqual(self.alice.lines(b"/ban bob"), [b"!banned bob until=never connections=1"])
