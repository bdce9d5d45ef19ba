"""What operators may do: docs/operations.rst."""

from __future__ import annotations

from itertools import product
from typing import Any

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import session as session_module
from chatrelay.addresses import door_of
from chatrelay.commands import VERBS
from chatrelay.limits import Limits
from tests.accounts_harness import SECRET
from tests.operators_harness import OperatorTestCase
from tests.relay_harness import World, what_is_left
from tests.store_harness import ManualThreadpool

FOR_OPERATORS = [b"/" + verb.word for verb in VERBS.values() if verb.for_operators]


class WhoMayTests(OperatorTestCase):
    """An operator is a name that the configuration lists and whose owner has shown that."""

    def test_who_may_what(self) -> None:
        self.world.add(b"bob")
        free = self.join(b"carol", "192.0.2.3")
        owner = self.world.owner(b"bob")
        unnamed = self.world.connect()
        self.assertEqual(len(FOR_OPERATORS), 5)
        for line in FOR_OPERATORS:
            self.assertNotIn(b"!error not-allowed", self.alice.lines(line), line)
            for client in (free, owner):
                self.assertEqual(client.lines(b"@ref=1 " + line), [b"@ref=1 !error not-allowed"])
        self.assertEqual(unnamed.lines(b"/stats"), [b"!error not-named"])

    def test_only_the_owner_of_an_operators_name_is_one(self) -> None:
        for first_line, word in [
            (b"alice", b"name-owned"),
            (b"ALICE", b"name-owned"),
            (b"alice wrong-secret", b"bad-secret"),
        ]:
            (told,) = self.world.connect().lines(first_line)
            self.assertIn(word, told)
        self.assertEqual(self.alice.lines(b"/stats")[-1][:10], b"!end stats")

    def test_who_had_the_name_before_it_was_an_operators_is_none(self) -> None:
        holder = self.join(b"dave", "192.0.2.9")
        self.world.relay.operators.add(b"dave")
        self.assertEqual(holder.lines(b"/stats"), [b"!error not-allowed"])

    def test_who_is_an_operator_no_more(self) -> None:
        self.world.relay.operators.discard(b"alice")
        self.assertEqual(self.alice.lines(b"/stats"), [b"!error not-allowed"])

    def test_another_name_is_no_operator(self) -> None:
        self.assertIn(b"!welcome zoe", self.alice.lines(b"/name zoe")[0])
        self.assertEqual(self.alice.lines(b"/stats"), [b"!error not-allowed"])
        self.assertIn(b"!welcome alice", self.alice.lines(b"/name alice " + SECRET)[0])
        self.assertNotEqual(self.alice.lines(b"/stats"), [b"!error not-allowed"])

    def test_help_shows_them_to_operators(self) -> None:
        carol = self.join(b"carol", "192.0.2.3")
        for client, is_shown in [(self.alice, True), (carol, False)]:
            told = client.lines(b"/help")
            for line in FOR_OPERATORS:
                shown = any(one.startswith(b"!help " + line) for one in told)
                self.assertIs(shown, is_shown, line)
            self.assertEqual(client.lines(b"/help stats"), [b"!help /stats", b"!end help"])

    def test_without_accounts_there_are_none(self) -> None:
        world = World(operators=[b"alice"])
        self.assertEqual(world.connect().lines(b"alice"), [b"!error name-reserved alice"])


class ClientsTests(OperatorTestCase):
    """``/clients``."""

    def test_all_that_is_told(self) -> None:
        self.world.pass_time(60)
        bob = self.join(b"Bob", "192.0.2.2")
        bob.lines(b"/caps time id", b"%Bob%hello")
        self.world.pass_time(5)
        in_bytes = len(b"Bob\n/caps time id\n%Bob%hello\n")
        out_bytes = len(bob.transport.taken)
        self.assertEqual(
            self.alice.lines(b"@ref=7 /clients bob"),
            [
                b"@ref=7 !client Bob address=192.0.2.2 port=40002 door=tcp:12345 tls=no"
                b" since=2026-09-21T14:14:20.000Z idle=5 backlog=0 messages-in=1 messages-out=1"
                b" bytes-in=%d bytes-out=%d caps=id,time" % (in_bytes, out_bytes),
                b"@ref=7 !end clients 1",
            ],
        )

    def test_who_has_no_name_and_who_has_no_address(self) -> None:
        self.world.connect("192.0.2.2")
        self.world.connect(UNIXAddress("/run/chatrelay"))
        self.world.connect(IPv6Address("TCP", "::ffff:192.0.2.4", 5))
        *lines, end = self.alice.lines(b"/clients")
        self.assertEqual(
            [b" ".join(line.split()[1:4]) for line in lines],
            [
                b"alice address=192.0.2.1 port=40001",
                b"- address=192.0.2.2 port=40002",
                b"- address=- port=0",
                b"- address=192.0.2.4 port=5",
            ],
        )
        self.assertEqual(end, b"!end clients 4")

    def test_who_is_asked_for(self) -> None:
        self.join(b"bob", "192.0.2.2")
        self.join(b"10.0.0.1", "198.51.100.3")
        self.world.connect(IPv6Address("TCP", "2001:db8::5", 5))
        for asked, count in [
            (b"", 4),
            (b"BOB", 1),
            (b"nobody", 0),
            (b"192.0.2.2", 1),
            (b"192.0.2.0/24", 2),
            (b"::ffff:192.0.2.2", 1),
            (b"2001:db8::/32", 1),
            (b"::/0", 1),
            (b"0.0.0.0/0", 3),
            (b"10.0.0.1", 0),
            (b"name=10.0.0.1", 1),
        ]:
            told = self.alice.lines(b"/clients " + asked)
            self.assertEqual(told[-1], b"!end clients %d" % count, asked)
            self.assertEqual(len(told), count + 1)
        for line, word in [
            (b"/clients a b", b"bad-line"),
            (b"/clients 10.0.0.0/99", b"bad-line"),
            (b"/clients #ops", b"bad-name"),
        ]:
            self.assertEqual(self.alice.lines(line), [b"!error " + word])

    def test_a_long_list_is_written_as_fast_as_it_is_read(self) -> None:
        self.patch(session_module, "_LINES_BETWEEN_CHECKS", 10)
        clients = [self.join(b"c%d" % number, "192.0.2.2") for number in range(60)]
        limits = Limits(high_water_bytes=2000, low_water_bytes=1000)
        self.world.relay.limits.change_to(limits)
        self.alice.stop_taking()
        self.alice.send(b"/clients\n%c1%behind it\n")
        self.assertLess(self.alice.session.outbox.unsent_bytes, 6000)
        self.assertEqual(clients[1].told(), [])
        for client in clients[30:]:
            client.reset()
        self.alice.take()
        told = self.alice.told()
        self.assertEqual(told[-1], b"!end clients 31")
        self.assertEqual(len(told), 32)
        self.assertEqual(clients[1].told(), [b"%alice%behind it"])


class KickTests(OperatorTestCase):
    """``/kick``."""

    def test_all_connections_of_a_name(self) -> None:
        bob = [self.world.owner(b"bob", host="192.0.2.2") for _ in range(2)]
        for client in bob:
            client.raw()
        self.assertEqual(
            self.alice.lines(b"@ref=1 /kick BOB too  loud"), [b"@ref=1 !kicked BOB connections=2"]
        )
        for client in bob:
            sentence = b":An operator has closed this connection: too loud\n"
            self.assertEqual(client.raw(), b"!error not-allowed bob " + sentence)
            self.assertFalse(client.is_connected)
        self.assertEqual(
            self.said(), ["operator alice at 192.0.2.1 port 40001: /kick BOB too loud"]
        )
        self.world.owner(b"bob")

    def test_the_others_of_ones_own(self) -> None:
        phone = self.operator()
        self.assertEqual(self.alice.lines(b"/kick alice"), [b"!kicked alice connections=1"])
        self.assertEqual((phone.is_connected, self.alice.is_connected), (False, True))
        self.assertEqual(self.alice.lines(b"/kick alice"), [b"!kicked alice connections=0"])

    def test_refused(self) -> None:
        self.join(b"bob", "192.0.2.2")
        for line, answer in [
            (b"/kick", b"bad-line"),
            (b"/kick nobody", b"unknown-name nobody"),
            (b"/kick #ops", b"bad-name"),
            (b"/kick bob " + b"x" * 257, b"bad-line"),
        ]:
            self.assertEqual(self.alice.lines(line), [b"!error " + answer], line)
        self.assertEqual(self.said(), [])
        self.assertEqual(
            self.alice.lines(b"/kick bob " + b"x" * 256), [b"!kicked bob connections=1"]
        )

    def test_what_is_logged_is_one_harmless_line(self) -> None:
        self.join(b"bob", "192.0.2.2")
        self.alice.lines("/kick bob \N{RIGHT-TO-LEFT OVERRIDE}x\ty".encode())
        self.assertEqual(
            self.said(), ["operator alice at 192.0.2.1 port 40001: /kick bob \\u202ex\\ty"]
        )


class StatsTests(OperatorTestCase):
    """``/stats``."""

    def stats(self) -> dict[str, int]:
        *lines, end = self.alice.lines(b"/stats")
        self.assertEqual(end, b"!end stats %d" % len(lines))
        pairs = [line.decode().removeprefix("!stat ").split() for line in lines]
        return {key: int(value) for key, value in pairs}

    def test_what_there_is(self) -> None:
        bob = [self.world.owner(b"bob") for _ in range(2)]
        bob[0].lines(b"/join #ops")
        self.world.connect()
        self.alice.lines(b"/ban mallory")
        self.world.pass_time(7)
        stats = self.stats()
        for key, value in [
            *(("uptime-s", 7), ("clients", 3), ("names", 2), ("unnamed", 1), ("held", 0)),
            *(("bans", 1), ("rooms", 1), ("connections", 4), ("accounts", 2)),
            ("refused-bad-secret", 1),
        ]:
            self.assertEqual(stats[key], value, key)

    def test_what_was_sent_counts_after_its_sender_has_left(self) -> None:
        carol, dave = self.join(b"carol", "192.0.2.3"), self.join(b"dave", "192.0.2.4")
        before = self.stats()
        carol.lines(*[b"%dave%hello"] * 10, b"%dave,nobody%x", b"%nobody%x")
        told = len(carol.raw()) + len(dave.raw())
        heard = len(self.alice.transport.taken)
        during = self.stats()
        self.assertEqual(during["messages-in"] - before["messages-in"], 12)
        self.assertEqual(during["messages-out"] - before["messages-out"], 11)
        self.assertEqual(during["refused-unknown-name"], 2)
        self.assertGreaterEqual(during["bytes-out"] - before["bytes-out"], told)
        carol.reset()
        dave.end()
        after = self.stats()
        for key in ("messages-in", "messages-out", "refused-unknown-name", "connections"):
            self.assertEqual(after[key], during[key], key)
        self.assertEqual(after["bytes-in"] - during["bytes-in"], len(b"/stats\n"))
        written = len(self.alice.transport.taken)
        self.assertLess(after["bytes-out"] - during["bytes-out"], written - heard)
        self.assertGreater(after["bytes-out"], during["bytes-out"])
        self.assertEqual((after["clients"], after["names"]), (1, 1))

    def test_who_is_held(self) -> None:
        carol, dave = self.join(b"carol", "192.0.2.3"), self.join(b"dave", "192.0.2.4")
        dave.stop_taking()
        carol.lines(*[b"%dave%" + b"x" * 8000] * 200)
        stats = self.stats()
        self.assertEqual(stats["held"], 1)
        self.assertGreater(stats["unsent-bytes"], 1024 * 1024)
        dave.take()
        self.assertEqual(self.stats()["held"], 0)

    def test_every_refusal_counts(self) -> None:
        bob = self.world.owner(b"bob")
        bob.lines(b"/block carol")
        carol = self.join(b"carol", "192.0.2.3")
        carol.lines(b"%bob%1\n%bob%2\n@ref=1 %bob%3", b"%bob%4", b"/nosuch", b"%nobody,bob%x")
        self.alice.lines(b"/kick carol")
        self.world.connect()
        self.world.pass_time(31)
        stats = self.stats()
        self.assertEqual(
            {key: value for key, value in stats.items() if key.startswith("refused-")},
            {
                "refused-bad-secret": 1,
                "refused-blocked": 5,
                "refused-not-allowed": 1,
                "refused-timeout": 1,
                "refused-unknown-command": 1,
                "refused-unknown-name": 1,
            },
        )

    def test_it_takes_no_words(self) -> None:
        self.assertEqual(self.alice.lines(b"/stats x"), [b"!error bad-line"])


class FullTests(OperatorTestCase):
    """An operator comes in where ``--max-clients`` are; nobody else does."""

    limits = Limits(max_clients=2, max_unnamed=3)

    def test_who_comes_in(self) -> None:
        self.world.owner(b"bob")
        for line, word in [
            (b"dave", b"too-many-clients"),
            (b"bob " + SECRET, b"too-many-clients"),
            (b"alice", b"too-many-clients"),
            (b"alice wrong-secret", b"bad-secret"),
        ]:
            self.assertEqual(self.world.connect().lines(line)[0].split()[1], word, line)
        again = self.operator()
        self.assertEqual(self.world.relay.registry.client_count, 3)
        self.assertEqual(again.lines(b"/kick bob"), [b"!kicked bob connections=1"])
        self.assertEqual(self.world.connect().lines(b"dave"), [b"!error too-many-clients"])

    def test_who_tries_an_operators_name_takes_nobodys_place(self) -> None:
        hashing = ManualThreadpool()
        self.world = self.new_world(hashing=hashing)
        self.world.add(b"alice")
        first, second = self.join(b"first", "192.0.2.2"), self.join(b"second", "192.0.2.3")
        guessers = [self.world.connect(f"198.51.100.{number}") for number in range(6)]
        for guesser in guessers:
            guesser.send(b"alice wrong-secret\n")
        # Those without a name are no more than there may be, whatever they claim.
        self.assertEqual([guesser.is_connected for guesser in guessers], [False] * 3 + [True] * 3)
        first.reset()
        third = self.join(b"third", "192.0.2.4")
        hashing.run_all()
        self.world.settle()
        self.assertEqual(self.world.relay.registry.client_count, 2)
        for client in (second, third, *guessers):
            client.reset()
        self.assertEqual(what_is_left(self.world), {})

    def test_strangers_who_come_meanwhile_do_not_push_an_operator_out(self) -> None:
        hashing = ManualThreadpool()
        self.world = self.new_world(hashing=hashing)
        self.world.add(b"alice")
        self.join(b"first", "192.0.2.2"), self.join(b"second", "192.0.2.3")
        alice = self.world.connect("192.0.2.1")
        alice.send(b"alice " + SECRET + b"\n")
        strangers = [self.world.connect(f"198.51.100.{number}") for number in range(9)]
        connected = [stranger.is_connected for stranger in strangers]
        self.assertEqual(connected, [False] * 7 + [True] * 2)
        hashing.run_all()
        self.world.settle()
        self.assertTrue(alice.told_first().startswith(b"!welcome"))
        for client in list(self.world.clients):
            client.reset()
        self.assertEqual(what_is_left(self.world), {})

    def test_who_is_granted_the_name_without_proof_does_not(self) -> None:
        """Another checker than ours may do so."""
        self.world.owner(b"bob")
        claims: Any = self.world.relay.claims

        def decide(_claim: Any, decided: Any) -> None:
            decided(claims._granted_free(0))

        self.patch(claims, "decide", decide)
        self.assertEqual(
            self.world.connect().lines(b"alice xxxxxxxx"), [b"!error too-many-clients"]
        )


class WhatIsLeftTests(OperatorTestCase):
    def test_nothing_is_left_of_who_was_kicked_or_banned(self) -> None:
        for number, how in product(range(3), (b"/kick bob", b"/ban bob", b"/ban 192.0.2.2")):
            bob = self.join(b"bob", "192.0.2.2")
            bob.lines(b"/watch a b", b"/caps ping", b"/join #ops")
            if how.startswith(b"/ban"):
                self.alice.lines(how, b"/un" + how[1:])
            else:
                self.alice.lines(how)
            self.assertFalse(bob.is_connected, number)
        self.alice.reset()
        self.assertEqual(what_is_left(self.world), {})


class DoorTests(SynchronousTestCase):
    """Tried with real ports in tests/integration/test_operators.py."""

    def test_a_transport_whose_socket_is_gone(self) -> None:
        self.assertEqual(door_of(object()), ("closed", False))
