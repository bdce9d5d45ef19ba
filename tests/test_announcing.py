"""``%*%TEXT``: what operators say to everybody who is connected."""

from __future__ import annotations

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET
from tests.operators_harness import OperatorTestCase
from tests.relay_harness import what_is_left
from tests.store_harness import ManualThreadpool


class AnnouncementTests(OperatorTestCase):
    """Who gets it, and how."""

    def test_everybody_who_is_connected(self) -> None:
        bob = [self.world.owner(b"bob") for _ in range(2)]
        carol = self.join(b"carol", "192.0.2.3")
        self.world.add(b"dave")
        unnamed = self.world.connect()
        for client in bob:
            client.raw()
        self.assertEqual(self.alice.lines(b"%*%at noon: 100 % off"), [])
        for client in (*bob, carol):
            self.assertEqual(client.told(), [b"%*%alice%at noon: 100 % off"])
        self.assertEqual(unnamed.told(), [])
        self.assertEqual(self.world.log_in(b"dave " + SECRET).told(), [])
        self.assertEqual(carol.session.messages_out, 1)
        self.assertEqual(
            self.said(), ["operator alice at 192.0.2.1 port 40001: %*%at noon: 100 % off"]
        )

    def test_who_may_not(self) -> None:
        carol = self.join(b"carol", "192.0.2.3")
        self.assertEqual(carol.lines(b"%*%x"), [b"!error not-allowed"])
        self.assertEqual(carol.lines(b"@ref=1 %*%x"), [b"@ref=1 !error not-allowed"])
        self.assertEqual(self.alice.told(), [])
        self.assertEqual(self.said(), [])

    def test_a_ref(self) -> None:
        carol = self.join(b"carol", "192.0.2.3")
        for line, told in [
            (b"@ref=1 %*%x", b"@ref=1 !sent *"),
            (b"@ref=1 %*%x", b"@ref=1 !sent *"),
            (b"@ref=1 %*%y", b"@ref=1 !error ref-reused *"),
            (b"@ref=2 %*%", b"@ref=2 !error empty-text"),
            (b"@ref=3 %*,carol%x", b"@ref=3 !error bad-line"),
        ]:
            self.assertEqual(self.alice.lines(line), [told], line)
        self.assertEqual(carol.told(), [b"%*%alice%x"])

    def test_what_each_asked_to_have_added(self) -> None:
        clients = {
            caps: self.world.join(b"c%d" % number, caps=caps)
            for number, caps in enumerate((b"none", b"id", b"time", b"id time", b"time id"))
        }
        with_cr = self.world.connect()
        with_cr.send(b"old\r\n")
        with_cr.raw()
        self.alice.send(b"%*%x\n")
        (by_id,) = clients[b"id"].told()
        tag = by_id.split()[0]
        self.assertRegex(tag, rb"\A@id=[^;]+\Z")
        time = b"time=2026-09-21T14:13:20.000Z"
        for caps, told in [
            (b"none", b"%*%alice%x"),
            (b"time", b"@" + time + b" %*%alice%x"),
            (b"id time", tag + b";" + time + b" %*%alice%x"),
            (b"time id", tag + b";" + time + b" %*%alice%x"),
        ]:
            self.assertEqual(clients[caps].told(), [told], caps)
        self.assertEqual(with_cr.raw(), b"%*%alice%x\r\n")

    def test_its_sender_with_echo_only(self) -> None:
        phone = self.operator()
        for caps, expected in [(b"none", []), (b"echo", [b"%*%alice%x"])]:
            self.alice.lines(b"/caps " + caps)
            self.assertEqual(self.alice.lines(b"%*%x"), expected)
            self.assertEqual(phone.told(), [])
        self.alice.lines(b"/caps none")
        phone.lines(b"/caps echo")
        self.assertEqual(self.alice.lines(b"%*%y"), [])
        self.assertEqual(phone.told(), [b"%*%alice%y"])

    def test_in_the_order_in_which_it_was_sent(self) -> None:
        carol = self.join(b"carol", "192.0.2.3")
        self.alice.send(b"%carol%1\n%*%2\n%carol%3\n@ref=1 %*%4\n@ref=2 %carol%5\n")
        self.assertEqual(
            carol.told(),
            [b"%alice%1", b"%*%alice%2", b"%alice%3", b"%*%alice%4", b"%alice%5"],
        )

    def test_no_block_stops_it(self) -> None:
        bob = self.world.owner(b"bob")
        bob.lines(b"/block alice")
        self.alice.lines(b"%*%x")
        self.assertEqual(bob.told(), [b"%*%alice%x"])
        bob.lines(b"/caps ack")
        self.alice.lines(b"%*%y")
        (told,) = bob.told()
        self.assertTrue(told.endswith(b" %*%alice%y"))


class BehindTests(OperatorTestCase):
    """Whose log it goes through, because what came before it is not written yet."""

    def test_with_the_cap_ack(self) -> None:
        self.world.add(b"lamp")
        lamp = self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        other = self.world.log_in(b"lamp " + SECRET)
        self.alice.lines(b"%lamp%1", b"@ref=7 %*%2", b"%lamp%3")
        told = lamp.told()
        self.assertEqual(
            [line.split(b" ", 1)[1] for line in told],
            [b"%alice%1", b"%*%alice%2", b"%alice%3"],
        )
        self.assertEqual(other.told(), [b"%alice%1", b"%*%alice%2", b"%alice%3"])
        lamp.lines(b"/ack " + told[0].split()[0].removeprefix(b"@id="))
        for client in (lamp, other):
            client.reset()
        again = self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        self.assertEqual(
            [line.split(b" ", 1)[1] for line in again.told()], [b"%*%alice%2", b"%alice%3"]
        )

    def test_it_comes_over_a_restart(self) -> None:
        self.world.add(b"lamp")
        self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        self.alice.lines(b"%*%2")
        self.world = self.world.restarted()
        lamp = self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        (told,) = lamp.told()
        self.assertTrue(told.endswith(b";again %*%alice%2"), told)
        lamp.lines(b"/caps id time", b"/history")

    def test_it_overtakes_nothing_that_is_on_its_way_to_the_disk(self) -> None:
        storing = ManualThreadpool()
        self.world = self.new_world(storing=storing)
        self.alice = self.operator()
        self.world.add(b"bob")
        self.world.look()
        self.alice.send(b"%bob%1\n%bob%2\n")
        self.world.settle_all()
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        self.alice.send(b"%*%3\n")
        while storing.pending:
            storing.run_all()
            self.alice.send(b"%*%4\n")
        self.world.settle_all()
        told = bob.told()
        self.assertTrue(told[0].startswith(b"!welcome"))
        self.assertEqual(told[1:3], [b"%alice%1", b"%alice%2"])
        self.assertEqual(set(told[3:]), {b"%*%alice%4"})

    def test_whose_log_is_full(self) -> None:
        self.world.relay.limits.change_to(Limits(max_mailbox_entries=40))
        self.world.add(b"lamp")
        lamp = self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        carol = self.join(b"carol", "192.0.2.3")
        self.assertEqual(
            self.alice.lines(*[b"@ref=%d %%*%%x" % number for number in range(50)]),
            [b"@ref=%d !sent *" % number for number in range(50)],
        )
        self.assertEqual(len(carol.told()), 50)
        # A quarter of it is one sender's.
        self.assertEqual(len(lamp.told()), 10)

    def test_what_it_looks_like_in_a_history(self) -> None:
        self.world.add(b"lamp")
        lamp = self.world.log_in(b"lamp " + SECRET, caps=b"ack")
        self.alice.lines(b"%*%2")
        lamp.raw()
        told = lamp.lines(b"/history", b"/history alice")
        self.assertEqual([line.split(b" ")[-1] for line in told if b"%" in line], [b"%*%alice%2"])


class SlowTests(OperatorTestCase):
    """One slow reader does not hold an operator; most of all do."""

    limits = Limits(high_water_bytes=100_000, low_water_bytes=50_000)

    def test_one(self) -> None:
        clients = [self.join(b"c%d" % number, "192.0.2.3") for number in range(4)]
        clients[0].stop_taking()
        self.alice.send(b"%*%" + b"x" * 8000 + b"\n")
        for _ in range(30):
            self.alice.send(b"%*%" + b"x" * 8000 + b"\n")
        self.assertFalse(self.alice.session.gate.held)
        self.assertEqual(len(clients[1].told()), 31)
        # It is ended as anybody who takes too little.
        self.world.pass_time(11)
        self.assertFalse(clients[0].is_connected)

    def test_most(self) -> None:
        clients = [self.join(b"c%d" % number, "192.0.2.3") for number in range(4)]
        for client in clients[:3]:
            client.stop_taking()
        self.alice.send((b"%*%" + b"x" * 8000 + b"\n") * 30)
        self.assertTrue(self.alice.session.gate.held)
        clients[0].take()
        self.assertFalse(self.alice.session.gate.held)
        self.assertEqual(len(clients[3].told()), 30)
        for client in (*clients, self.alice):
            client.reset()
        self.assertEqual(what_is_left(self.world), {})
        self.assertEqual(self.world.relay.everyone._gate._over, set())

    def test_who_leaves_holds_nobody(self) -> None:
        clients = [self.join(b"c%d" % number, "192.0.2.3") for number in range(4)]
        for client in clients[:3]:
            client.stop_taking()
        self.alice.send((b"%*%" + b"x" * 8000 + b"\n") * 30)
        self.assertTrue(self.alice.session.gate.held)
        for client in clients[:2]:
            client.reset()
        self.assertFalse(self.alice.session.gate.held)
