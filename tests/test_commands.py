"""Commands and their answers: docs/protocol.rst, *Commands*."""

from __future__ import annotations

from unittest import mock

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.commands import VERBS
from chatrelay.commands.connection import CAPS
from chatrelay.limits import Limits
from tests.relay_harness import Client, World, what_is_left

SINCE = b"since=2026-09-21T14:13:20.000Z"


class CommandTests(SynchronousTestCase):
    """Every line that begins with ``/``."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")

    def test_what_is_not_built_yet_is_an_unknown_command(self) -> None:
        for verb in (*("", "nosuch", "/", "Who!", "wh\N{CYRILLIC SMALL LETTER O}"),):
            line = f"/{verb} hunter2 %bob%x".encode()
            self.assertEqual(self.alice.lines(line), [b"!error unknown-command"], verb)
            self.assertEqual(
                self.alice.lines(b"@ref=1 " + line), [b"@ref=1 !error unknown-command"]
            )

    def test_neither_log_nor_error_repeats_the_arguments(self) -> None:
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        unnamed = self.world.connect()
        for client in (self.alice, unnamed):
            client.send(
                b"/regster hunter2hunter2\n/help hunter2hunter2\n/regster\thunter2hunter2\n"
            )
            self.assertNotIn(b"hunter2", client.raw())
            self.assertNotIn(b"regster", client.raw())
        self.alice.send(b"/name bob hunter2hunter2\n/name a b hunter2hunter2\n/who a hunter2\n")
        self.assertNotIn(b"hunter2", self.alice.raw())
        self.world.pass_time(2)
        self.assertNotIn("hunter2", repr(events))

    def test_verbs_are_the_same_in_any_case_and_words_may_be_apart(self) -> None:
        told = self.alice.lines(b"/PING x", b"/Ping  y ", b"/ping")
        self.assertEqual(told, [b"!pong x", b"!pong y", b"!pong"])

    def test_help_names_every_command_with_its_form(self) -> None:
        for client in (self.alice, self.world.connect()):
            told = client.lines(b"@ref=1 /help")
            self.assertEqual(told[-1], b"@ref=1 !end help")
            forms = [line.removeprefix(b"@ref=1 !help ").split(b" ")[0] for line in told[:-1]]
            everybodys = [verb.word for verb in VERBS.values() if not verb.for_operators]
            self.assertEqual(forms[1:], [b"/" + word for word in everybodys])

    def test_help_of_one(self) -> None:
        for line in (b"/help who", b"/help /who", b"/help WHO"):
            self.assertEqual(self.alice.lines(line), [b"!help /who [NAME or #ROOM]", b"!end help"])
        self.assertEqual(self.alice.lines(b"/help nosuch"), [b"!error unknown-command"])

    def test_ping_and_pong(self) -> None:
        self.assertEqual(
            self.alice.lines(b"/ping a b", b"/pong a", b"@ref=1 /pong"), [b"!pong a b"]
        )
        self.assertEqual(self.alice.lines(b"@ref=1 /ping"), [b"@ref=1 !pong"])

    def test_quit_says_bye_and_frees_the_name(self) -> None:
        bob = self.world.join(b"bob")
        bob.lines(b"/watch alice")
        told = self.alice.lines(b"%bob%1", b"@ref=9 /quit", b"%bob%2", b"/ping 3")
        self.assertEqual(told, [b"@ref=9 !bye"])
        self.assertEqual(bob.told(), [b"%alice%1", b"!offline alice"])
        self.assertFalse(self.alice.is_connected)

    def test_before_naming(self) -> None:
        for line, answer in [
            (b"/ping 1", [b"!pong 1"]),
            (b"/pong 1", []),
            (b"/caps", [b"!caps-available id time echo ping ack receipts"]),
            (b"/caps id", [b"!caps id"]),
            (b"/quit", [b"!bye"]),
            (b"/help ping", [b"!help /ping [TOKEN]", b"!end help"]),
        ]:
            self.assertEqual(self.world.connect().lines(line), answer)


class CapsTests(SynchronousTestCase):
    """``/caps A B`` sets exactly these."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")

    def test_exactly_what_is_asked_for(self) -> None:
        for asked, given in [
            (b"id", b"id"),
            (b"time id", b"id time"),
            (b"id time ping", b"id time ping"),
            (b"id id", b"id"),
            (b"nosuch", b"none"),
            (b"nosuch time echo receipts", b"time echo receipts"),
            # What is to be acked has an id.
            (b"ack", b"id ack"),
            (b"receipts ack", b"id ack receipts"),
            (b"none", b"none"),
            (b"none id", b"id"),
        ]:
            self.assertEqual(self.alice.lines(b"/caps " + asked), [b"!caps " + given], asked)
            expected = set(given.split()) - {b"none"}
            self.assertEqual(self.alice.session.caps, expected, asked)
            (line,) = self.alice.lines(b"%alice%x")
            tags = {
                tag.split(b"=")[0] for tag in line.split(b" ")[0].removeprefix(b"@").split(b";")
            }
            self.assertEqual(tags & set(CAPS), expected & {b"id", b"time"}, asked)

    def test_alone_it_tells_what_there_is_and_changes_nothing(self) -> None:
        self.alice.lines(b"/caps id")
        self.assertEqual(
            self.alice.lines(b"/caps"), [b"!caps-available id time echo ping ack receipts"]
        )
        self.assertEqual(self.alice.session.caps, {b"id"})

    def test_set_before_naming_they_govern_the_first_delivery(self) -> None:
        bob = self.world.connect()
        bob.write(b"/caps time\nbob\n%bob%first\n")
        self.world.settle()
        self.assertEqual(
            bob.told(),
            [
                b"!caps time",
                b"!welcome bob version=1 max-line=8192",
                b"@time=2026-09-21T14:13:20.000Z %bob%first",
            ],
        )

    def test_they_change_between_two_messages_of_one_run(self) -> None:
        bob = self.world.join(b"bob")
        bob.lines(b"%bob%1", b"%BOB%1")
        told = bob.lines(b"%bob%1", b"/caps time", b"%bob%2", b"%BOB%3", b"/caps none", b"%bob%4")
        stamp = b"@time=2026-09-21T14:13:20.000Z "
        self.assertEqual(
            told,
            [
                *(b"%bob%1", b"!caps time", stamp + b"%bob%2", stamp + b"%bob%3"),
                *(b"!caps none", b"%bob%4"),
            ],
        )

    def test_they_stay_with_another_name(self) -> None:
        self.alice.lines(b"/caps time", b"/name ann")
        (line,) = self.alice.lines(b"%ann%x")
        self.assertTrue(line.startswith(b"@time="))


class WhoTests(SynchronousTestCase):
    """``/who``: who is here, since when, for how long silent."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")

    def test_everybody_in_the_order_of_arrival(self) -> None:
        self.world.pass_time(5)
        self.world.join(b"Bob")
        self.world.pass_time(2)
        self.alice.session.heard_s = self.world.relay.seconds()
        self.assertEqual(
            self.alice.lines(b"@ref=1 /who"),
            [
                b"@ref=1 !who alice " + SINCE + b" idle=0 rooms=",
                b"@ref=1 !who Bob since=2026-09-21T14:13:25.000Z idle=2 rooms=",
                b"@ref=1 !end who 2",
            ],
        )

    def test_one_name(self) -> None:
        self.world.join(b"Bob")
        for writing in (b"bob", b"BOB"):
            self.assertEqual(
                self.alice.lines(b"/who " + writing),
                [b"!who Bob " + SINCE + b" idle=0 rooms=", b"!end who 1"],
            )

    def test_nobody(self) -> None:
        self.assertEqual(self.alice.lines(b"/who nobody"), [b"!end who 0"])

    def test_who_is_not_named_is_not_here(self) -> None:
        self.world.connect()
        self.assertEqual(self.alice.lines(b"/who")[-1], b"!end who 1")

    def test_refused(self) -> None:
        for line, answer in [
            (b"/who #ops", b"!error unknown-room #ops"),
            (b"/who #a,b", b"!error bad-room"),
            (b"/who a,b", b"!error bad-name"),
            (b"/who a b", b"!error bad-line"),
        ]:
            self.assertEqual(self.alice.lines(line), [answer], line)


class WatchTests(SynchronousTestCase):
    """``/watch``: online or offline, at once and at every change."""

    def setUp(self) -> None:
        self.world = World(Limits(max_watches=4))
        self.alice = self.world.join(b"alice")

    def test_one_that_comes_and_goes(self) -> None:
        self.assertEqual(self.alice.lines(b"/watch bob"), [b"!offline bob"])
        for leave in (Client.end, Client.reset, lambda client: client.send(b"/quit\n")):
            bob = self.world.join(b"bob")
            self.assertEqual(self.alice.told(), [b"!online bob"])
            leave(bob)
            self.assertEqual(self.alice.told(), [b"!offline bob"])

    def test_one_that_is_here(self) -> None:
        bob = self.world.join(b"bob")
        self.assertEqual(
            self.alice.lines(b"@ref=1 /watch bob nobody alice"),
            [b"@ref=1 !online bob", b"@ref=1 !offline nobody", b"@ref=1 !online alice"],
        )
        bob.end()
        self.assertEqual(self.alice.told(), [b"!offline bob"])

    def test_one_that_is_never_seen(self) -> None:
        self.alice.lines(b"/watch nobody")
        self.world.join(b"bob").end()
        self.assertEqual(self.alice.told(), [])

    def test_one_that_takes_another_name(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"/watch bob rob")
        bob.lines(b"/name rob")
        self.assertEqual(self.alice.told(), [b"!offline bob", b"!online rob"])

    def test_another_writing_of_ones_own_name_is_no_change(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"/watch bob")
        bob.lines(b"/name BOB", b"/name Bob")
        self.assertEqual(self.alice.told(), [])

    def test_a_refused_name_is_no_change(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"/watch bob server")
        bob.lines(b"/name alice", b"/name server", b"/name a,b")
        self.assertEqual(self.alice.told(), [])

    def test_it_is_told_as_the_watcher_wrote_it(self) -> None:
        self.assertEqual(self.alice.lines(b"/watch BOB"), [b"!offline BOB"])
        bob = self.world.join(b"bob")
        self.assertEqual(self.alice.told(), [b"!online BOB"])
        self.assertEqual(self.alice.lines(b"/watch Bob"), [b"!online Bob"])
        bob.end()
        self.assertEqual(self.alice.told(), [b"!offline Bob"])

    def test_watching_twice_is_watching_once(self) -> None:
        self.alice.lines(b"/watch bob bob", b"/watch BOB")
        self.world.join(b"bob")
        self.assertEqual(self.alice.told(), [b"!online BOB"])
        self.alice.lines(b"/unwatch bob")
        self.assertEqual(what_is_watched(self.world), {})

    def test_unwatch(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"/watch bob carol")
        told = self.alice.lines(b"@ref=1 /unwatch BOB nobody")
        self.assertEqual(told, [b"@ref=1 !unwatched BOB", b"@ref=1 !unwatched nobody"])
        bob.end()
        self.world.join(b"carol")
        self.assertEqual(self.alice.told(), [b"!online carol"])

    def test_up_to_the_bound(self) -> None:
        self.assertEqual(len(self.alice.lines(b"/watch a b c d")), 4)
        self.assertEqual(self.alice.lines(b"/watch e"), [b"!error too-many-watches"])
        self.assertEqual(self.alice.lines(b"/watch A"), [b"!offline A"])
        self.assertEqual(
            self.alice.lines(b"/unwatch a", b"/watch e"), [b"!unwatched a", b"!offline e"]
        )

    def test_beyond_the_bound_in_one_line(self) -> None:
        for command in (b"/watch", b"/unwatch"):
            self.assertEqual(
                self.alice.lines(command + b" a b c d e"), [b"!error too-many-watches"], command
            )
        self.assertEqual(self.alice.lines(b"/watch a b"), [b"!offline a", b"!offline b"])
        self.assertEqual(
            self.alice.lines(b"/watch c d e"),
            [b"!offline c", b"!offline d", b"!error too-many-watches"],
        )

    def test_refused(self) -> None:
        for line, answer in [
            (b"/watch", b"!error bad-line"),
            (b"/unwatch", b"!error bad-line"),
            (b"/watch bob a,b", b"!error bad-name"),
            (b"/unwatch a,b", b"!error bad-name"),
        ]:
            self.assertEqual(self.alice.lines(line), [answer])
        self.assertEqual(what_is_watched(self.world), {})

    def test_it_ends_with_the_watcher(self) -> None:
        self.alice.lines(b"/watch bob carol")
        self.alice.end()
        self.assertEqual(what_is_watched(self.world), {})
        self.world.join(b"bob")

    def test_two_that_watch_each_other_leave(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"/watch bob alice")
        bob.lines(b"/watch alice bob")
        bob.end()
        self.assertEqual(self.alice.told(), [b"!offline bob"])
        self.alice.end()
        self.assertEqual(bob.told(), [])
        self.assertEqual(what_is_left(self.world), {})

    def test_a_named_watcher_may_watch_a_name_nobody_can_have(self) -> None:
        self.assertEqual(self.alice.lines(b"/watch server"), [b"!offline server"])


class PingCapTests(SynchronousTestCase):
    """The cap ``ping``: asked after 60 s of silence, closed 30 s later."""

    def setUp(self) -> None:
        self.world = World()
        self.bob = self.world.join(b"bob")
        self.alice = self.world.join(b"alice", caps=b"ping")

    def test_asked_after_60_seconds_and_closed_after_30_more(self) -> None:
        self.bob.lines(b"/watch alice")
        self.world.pass_time(58)
        self.assertEqual(self.alice.told(), [])
        self.world.pass_time(4)
        (asked,) = self.alice.told()
        self.assertRegex(asked, rb"\A!ping [^ ]+\Z")
        self.world.pass_time(26)
        self.assertEqual(self.alice.told(), [])
        self.assertTrue(self.alice.is_connected)
        self.world.pass_time(4)
        self.assertEqual(self.alice.told(), [b"!error timeout"])
        self.assertFalse(self.alice.is_connected)
        self.assertEqual(self.bob.told(), [b"!offline alice"])

    def test_whatever_it_says_is_an_answer(self) -> None:
        for said in (b"/pong x\n", b"%bob%x\n", b"\n", b"half a li", b"ne\n"):
            self.alice.send(said)
            self.alice.raw()
            self.world.pass_time(62)
            (asked,) = self.alice.told()
            self.assertTrue(asked.startswith(b"!ping "), said)
            self.world.pass_time(20)
            self.assertTrue(self.alice.is_connected)

    def test_each_time_with_another_token(self) -> None:
        asked = set()
        for _ in range(5):
            self.world.pass_time(62)
            (line,) = self.alice.told()
            asked.add(line)
            self.alice.lines(line.replace(b"!ping", b"/pong"))
        self.assertEqual(len(asked), 5)

    def test_without_the_cap_nobody_is_asked(self) -> None:
        self.alice.lines(b"/caps none")
        self.world.pass_time(200)
        self.assertEqual((self.alice.told(), self.bob.told()), ([], []))
        self.assertTrue(self.alice.is_connected)

    def test_asking_for_the_cap_again_does_not_put_it_off(self) -> None:
        """Any line does, being one; but not what the relay does by itself."""
        self.world.pass_time(62)
        self.alice.told()
        self.alice.lines(b"/caps ping id")
        self.world.pass_time(62)
        (asked,) = self.alice.told()
        self.assertTrue(asked.startswith(b"!ping "))

    def test_one_that_fails_does_not_keep_others_from_being_asked(self) -> None:
        other = self.world.join(b"other", caps=b"ping")
        with mock.patch.object(self.alice.session, "_silence") as silence:
            silence.tick.side_effect = ZeroDivisionError
            self.world.pass_time(62)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.alice.is_connected)
        self.assertTrue(other.told()[-1].startswith(b"!ping "))

    def test_time_while_it_is_held_does_not_count(self) -> None:
        slow = self.world.join(b"slow")
        slow.stop_taking()
        self.alice.send((b"%slow%" + b"x" * 1000 + b"\n") * 2000)
        self.assertFalse(self.alice.transport.reading)
        for _ in range(40):
            # Fast enough to stay, not enough to let the sender go on.
            slow.take(12_000)
            self.world.pass_time(1 / 16)
        self.assertFalse(self.alice.transport.reading)
        held_s = 90
        self.world.relay.flow._accounted_s.clear()  # nobody is slow here
        for _ in range(held_s):
            self.world.pass_time(1)
        self.assertEqual(self.alice.told(), [])
        slow.take()
        self.world.pass_time(50)
        self.assertEqual(self.alice.told(), [])
        self.world.pass_time(15)
        self.assertTrue(self.alice.told()[0].startswith(b"!ping "))

    def test_time_in_which_the_relay_did_not_run_does_not_count(self) -> None:
        self.world.pass_time(40)
        self.world.clock.advance(600)
        self.world.settle()
        self.assertEqual(self.alice.told(), [])
        self.world.pass_time(20)
        self.assertEqual(len(self.alice.told()), 1)
        self.world.clock.advance(600)
        self.world.settle()
        self.assertTrue(self.alice.is_connected)


def what_is_watched(world: World) -> dict[object, object]:
    registry = world.relay.registry
    return {**registry._watchers, **registry._watched}
