"""Naming as a client sees it: docs/protocol.rst, *Names*."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.claims import Claim, Decided, FreeNames, Grant
from chatrelay.errors import BadSecret, Busy, Refusal
from chatrelay.limits import Limits
from chatrelay.wire import error_line
from tests.relay_harness import Client, SlowClaims, World, what_is_left, without_sentence

NAMES = [
    *("a", "7", "A", "a" * 32, "a.b-c_d", "1.", "carol"),
    *("Анна", "Ж" * 32, "日本", "ß", "été", "e\u0301te\u0301", "a\u0327" * 16),
    *("नमस्ते", "𐒀" * 32, "日本carol"),
]
NOT_NAMES = [
    *("", " ", "-a", ".a", "_a", "a" * 33, "Ж" * 33, "𐒀" * 33, "\u0301a"),
    *("a:b", "a,b", "#a", "*", "a/b", "a@b", "a%", "a=b", "a;b", "€", "👍", "a\u200d"),
    *("Аnna", "Ann\u0430", "αbc", "αж"),
]


def welcome(name: str | bytes) -> bytes:
    shown = name.encode() if isinstance(name, str) else name
    return b"!welcome " + shown + b" version=1 max-line=8192"


class FirstLineTests(SynchronousTestCase):
    """The first line is a name."""

    def setUp(self) -> None:
        self.world = World()

    def test_names_at_1_and_32_code_points_in_any_script(self) -> None:
        for name in NAMES:
            client = self.world.connect()
            (told,) = client.lines(name.encode())
            self.assertTrue(told.startswith(b"!welcome "), name)
            client.end()

    def test_what_is_no_name(self) -> None:
        for name in NOT_NAMES:
            if name:
                self.assertEqual(
                    self.world.connect().lines(b"@ref=1 " + name.encode()),
                    [b"@ref=1 !error bad-name"],
                    name,
                )

    def test_the_welcome_is_as_it_is_written_down(self) -> None:
        client = self.world.connect()
        client.send(b"carol\n")
        self.assertRegex(client.raw(), rb"\A!welcome carol version=1 max-line=8192 :[^\n]+\n\Z")

    def test_a_name_is_shown_as_given_after_nfc(self) -> None:
        for given, shown in [("CaRol", "CaRol"), ("e\u0301ve", "éve"), ("Ａｄａ", "Ａｄａ")]:
            self.assertEqual(self.world.connect().lines(given.encode()), [welcome(shown)], given)

    def test_the_first_line_may_carry_tags(self) -> None:
        for line, answer in [
            (b"@ref=1 carol", b"@ref=1 " + welcome("carol")),
            (b"@a=b;c dave", welcome("dave")),
            (b"@ref=2 car ol", b"@ref=2 !error bad-secret ol"),
        ]:
            (told,) = self.world.connect().lines(line)
            self.assertEqual(told.split(b" ")[:3], answer.split(b" ")[:3])

    def test_what_is_sent_in_the_same_piece_is_served(self) -> None:
        carol = self.world.connect()
        told = carol.lines(b"carol", b"%carol%1", b"%carol%2", b"/ping 3")
        self.assertEqual(told, [welcome("carol"), b"%carol%1", b"%carol%2", b"!pong 3"])

    def test_a_message_before_naming_is_not_named(self) -> None:
        for line in (b"%bob%hi", b"%", b"%bob%", b"/who", b"/watch a", b"/unwatch a", b"/name a"):
            client = self.world.connect()
            self.assertEqual(client.lines(b"@ref=1 " + line), [b"@ref=1 !error not-named"])
            self.assertEqual(client.lines(b"carol"), [welcome("carol")])
            client.end()

    def test_a_second_line_is_no_name_any_more(self) -> None:
        carol = self.world.join(b"carol")
        self.assertEqual(carol.lines(b"dave", b"hello there"), [b"!error bad-line"] * 2)
        self.assertEqual(self.world.relay.registry.client_count, 1)


class RefusedFirstLineTests(SynchronousTestCase):
    """The third refused first line closes; `name-in-use` and `busy` do not count."""

    def setUp(self) -> None:
        self.world = World(reserved=[b"root"])
        self.world.join(b"taken")

    def test_every_refusal_counts(self) -> None:
        for line, code in [
            (b"%bob%hi", b"not-named"),
            (b"/who", b"not-named"),
            (b"/nosuch", b"unknown-command"),
            (b"/help nosuch", b"unknown-command"),
            (b"no,name", b"bad-name"),
            (b"a\xff", b"bad-utf8"),
            (b"a\x07", b"bad-text"),
            (b"@ref= a", b"bad-tags"),
            (b"@" + b"k" * 600 + b" a", b"bad-tags"),
            (b"server", b"name-reserved"),
            (b"root", b"name-reserved"),
            (b"x" * 9000, b"line-too-long"),
            (b"carol ", b"bad-name"),
            (b"carol secret", b"bad-secret"),
        ]:
            client = self.world.connect()
            codes = [told.split(b" ")[1] for told in client.lines(*[line] * 4, b"carol")]
            self.assertEqual(codes, [code] * 3, line)
            self.assertFalse(client.is_connected)
        self.assertEqual(self.world.relay.registry.client_count, 1)

    def test_the_third_refusal_has_been_written_when_it_closes(self) -> None:
        client = self.world.connect()
        client.lines(b"/ping 1", b"-", b"/ping 2", b"-")
        self.assertTrue(client.is_connected)
        self.assertEqual(client.lines(b"-"), [b"!error bad-name"])
        self.assertFalse(client.is_connected)
        self.assertFalse(client.transport.aborted)

    def test_name_in_use_does_not_count(self) -> None:
        client = self.world.connect()
        told = client.lines(*[b"taken"] * 9, b"-", b"-", b"Taken", b"carol")
        self.assertEqual(told.count(b"!error name-in-use taken"), 9)
        self.assertEqual(told[-1], welcome("carol"))

    def test_busy_does_not_count(self) -> None:
        class BusyClaims(FreeNames):
            def decide(self, _claim: Claim, decided: Decided[Grant]) -> None:
                decided(Busy())

        client = World(claims=BusyClaims()).connect()
        self.assertEqual(client.lines(*[b"carol"] * 9), [b"!error busy"] * 9)
        self.assertTrue(client.is_connected)

    def test_a_named_client_may_be_refused_as_often_as_it_likes(self) -> None:
        client = self.world.join(b"carol")
        client.lines(*[b"nonsense"] * 50)
        self.assertEqual(client.lines(b"/ping"), [b"!pong"])


class HolderTests(SynchronousTestCase):
    """A free name belongs to its connection, and is free again when that closes."""

    def setUp(self) -> None:
        self.world = World(reserved=[b"root", "Анна".encode()])

    def test_two_claims_of_one_name(self) -> None:
        first, second = self.world.join(b"carol"), self.world.connect()
        self.assertEqual(second.lines(b"carol"), [b"!error name-in-use carol"])
        self.assertEqual(first.lines(b"%carol%still me"), [b"%carol%still me"])
        self.assertEqual(second.lines(b"carol2"), [welcome("carol2")])
        self.assertEqual(first.told(), [])

    def test_names_that_differ_only_in_case_are_one(self) -> None:
        for first, second in [
            ("carol", "CAROL"),
            ("ANNa", "annA"),
            ("жанна", "ЖАННА"),
            ("éve", "ÉVE"),
            ("éva", "e\u0301va"),
            ("ada", "Ａｄａ"),
        ]:
            self.world.join(first.encode())
            other = self.world.connect()
            (told,) = other.lines(second.encode())
            self.assertTrue(told.startswith(b"!error name-in-use "), (first, second))
            other.end()

    def test_the_name_is_free_when_its_connection_is_gone(self) -> None:
        for leave in (Client.end, Client.reset, lambda client: client.send(b"/quit\n")):
            leave(self.world.join(b"carol"))
            self.world.join(b"Carol").end()

    def test_a_name_of_the_server_is_reserved(self) -> None:
        for name in ("server", "SERVER", "root", "Root", "Анна", "АННА"):
            client = self.world.connect()
            (told,) = client.lines(name.encode())
            self.assertTrue(told.startswith(b"!error name-reserved "), name)

    def test_a_reserved_name_reaches_nobody(self) -> None:
        carol = self.world.join(b"carol")
        self.assertEqual(carol.lines(b"%server%x"), [b"!error unknown-name server"])

    def test_a_secret_opens_no_free_name(self) -> None:
        client = self.world.connect()
        (told,) = client.lines(b"carol hunter2hunter2")
        self.assertEqual(told, b"!error bad-secret carol")
        client.send(b"carol a b\n")
        self.assertNotIn(b" a b", client.raw())
        self.assertEqual(client.lines(b"carol"), [welcome("carol")])

    def test_a_trailing_space_without_a_secret_is_bad_name(self) -> None:
        self.assertEqual(self.world.connect().lines(b"carol "), [b"!error bad-name"])
        self.assertEqual(self.world.connect().lines(b" carol"), [b"!error bad-name"])


class NamesInAMinuteTests(SynchronousTestCase):
    """One connection asks for so many other names in a minute."""

    def setUp(self) -> None:
        self.world = World(Limits(names_per_min=3))
        self.carol = self.world.join(b"carol")

    def test_the_next_one_is_refused_and_nothing_changes(self) -> None:
        for name in (b"c1", b"c2", b"C2"):
            self.assertEqual(self.carol.lines(b"/name " + name), [welcome(name.decode())], name)
        self.assertEqual(self.carol.lines(b"@ref=1 /name c3"), [b"@ref=1 !error rate-limited c3"])
        self.assertEqual(self.carol.lines(b"%c2%hi"), [b"%C2%hi"])
        self.world.pass_time(20)
        self.assertEqual(self.carol.lines(b"/name c3"), [welcome("c3")])
        self.assertEqual(self.carol.lines(b"/name c4"), [b"!error rate-limited c4"])

    def test_refused_ones_count_too(self) -> None:
        self.world.join(b"bob")
        told = self.carol.lines(*[b"/name bob"] * 4)
        self.assertEqual(told, [b"!error name-in-use bob"] * 3 + [b"!error rate-limited bob"])

    def test_the_first_name_and_others_connections_are_not_counted(self) -> None:
        self.carol.lines(b"/name c1", b"/name c2", b"/name c3")
        for number in range(5):
            self.assertEqual(len(self.world.join(b"n%d" % number).lines(b"/name m%d" % number)), 1)

    def test_any_number(self) -> None:
        self.world.relay.limits.change_to(Limits(names_per_min=0))
        told = self.carol.lines(*[b"/name c%d" % number for number in range(500)])
        self.assertEqual(told[-1], welcome("c499"))

    def test_the_defaults(self) -> None:
        world = World()
        told = world.join(b"carol").lines(*[b"/name c%d" % number for number in range(61)])
        self.assertEqual(told[59:], [welcome("c59"), b"!error rate-limited c60"])


class NameCommandTests(SynchronousTestCase):
    """``/name NEW``: granted, it leaves the old name; otherwise nothing changes."""

    def setUp(self) -> None:
        self.world = World(reserved=[b"root"])
        self.carol = self.world.join(b"carol")
        self.bob = self.world.join(b"bob")

    def test_granted(self) -> None:
        self.assertEqual(self.carol.lines(b"@ref=1 /name Ann"), [b"@ref=1 " + welcome("Ann")])
        self.assertEqual(
            self.bob.lines(b"%carol%1", b"%Ann%2", b"%ann%3"), [b"!error unknown-name carol"]
        )
        self.assertEqual(self.carol.told(), [b"%bob%2", b"%bob%3"])
        self.assertEqual(self.carol.lines(b"%bob%hi"), [])
        self.assertEqual(self.bob.told(), [b"%Ann%hi"])
        self.world.join(b"carol")

    def test_refused(self) -> None:
        for line, answer in [
            (b"/name bob", b"!error name-in-use bob"),
            (b"/name BOB", b"!error name-in-use BOB"),
            (b"/name server", b"!error name-reserved server"),
            (b"/name root", b"!error name-reserved root"),
            (b"/name a,b", b"!error bad-name"),
            (b"/name " + b"a" * 33, b"!error bad-name"),
            (b"/name ann hunter2hunter2", b"!error bad-secret ann"),
            (b"/name", b"!error bad-line"),
            (b"/name a b c", b"!error bad-line"),
        ]:
            self.assertEqual(self.carol.lines(line), [answer], line)
            self.assertEqual(self.bob.lines(b"%carol%x"), [], line)
            self.assertEqual(self.carol.told(), [b"%bob%x"])
        self.assertEqual(self.world.relay.registry.client_count, 2)

    def test_another_writing_of_ones_own_is_always_granted(self) -> None:
        self.bob.lines(b"/watch carol")
        for writing in (b"CAROL", b"Carol", b"Carol", b"carol"):
            self.assertEqual(self.carol.lines(b"/name " + writing), [welcome(writing)])
            self.bob.lines(b"%carol%x", b"%CAROL%y")
            self.assertEqual(self.carol.told(), [b"%bob%x", b"%bob%y"])
            self.carol.lines(b"%bob%z")
            self.assertEqual(self.bob.told(), [b"%" + writing + b"%z"])

    def test_nothing_is_left_of_many_names(self) -> None:
        for turn in range(20):
            self.carol.lines(b"/name n%d" % turn, b"%%n%d%%x" % turn, b"%%N%d%%y" % turn)
        self.carol.end()
        self.bob.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_it_works_with_as_many_clients_as_there_may_be(self) -> None:
        world = World(Limits(max_clients=1))
        carol = world.join(b"carol")
        self.assertEqual(carol.lines(b"/name ann"), [welcome("ann")])


class PendingClaimTests(SynchronousTestCase):
    """While a claim is being decided nothing more is read from that connection."""

    def setUp(self) -> None:
        self.claims = SlowClaims()
        self.world = World(Limits(max_unnamed=2), claims=self.claims)

    def decide(self, refusal: Refusal | None = None) -> None:
        self.claims.decide_next(refusal)
        self.world.settle()

    def join(self, name: bytes) -> Client:
        client = self.world.connect()
        client.send(name + b"\n")
        self.decide()
        client.raw()
        return client

    def test_nothing_more_is_read_and_answers_keep_their_order(self) -> None:
        client = self.world.connect()
        client.write(b"/ping 1\n@ref=2 carol\n/ping 3\n%carol%4\n")
        client.write(b"/ping 5\n")
        self.world.settle()
        self.assertEqual(client.told(), [b"!pong 1"])
        self.assertFalse(client.transport.reading)
        self.assertEqual(len(client.transport.incoming), 1)
        self.decide()
        self.assertEqual(
            client.told(), [b"@ref=2 " + welcome("carol"), b"!pong 3", b"%carol%4", b"!pong 5"]
        )
        self.assertTrue(client.transport.reading)

    def test_it_is_handed_the_name_and_the_secret(self) -> None:
        self.world.connect().send(b"Carol open sesame\n")
        ((claim, _),) = self.claims.pending
        self.assertEqual((claim.name.shown, claim.name.key), (b"Carol", b"carol"))
        self.assertEqual((claim.secret, claim.host), (b"open sesame", "127.0.0.1"))
        self.assertTrue(claim.is_wanted())
        self.assertNotIn("sesame", repr(claim))

    def test_a_refusal_is_a_refused_first_line(self) -> None:
        client = self.world.connect()
        for _ in range(3):
            client.send(b"carol secret\n")
            self.decide(BadSecret(b"carol"))
        self.assertEqual(client.told(), [b"!error bad-secret carol"] * 3)
        self.assertFalse(client.is_connected)

    def test_after_a_refusal_the_next_line_may_be_a_name(self) -> None:
        client = self.world.connect()
        client.write(b"carol secret\ndave\n")
        self.world.settle()
        self.decide(BadSecret(b"carol"))
        self.decide()
        self.assertEqual(client.told(), [b"!error bad-secret carol", welcome("dave")])

    def test_the_connection_closes_while_it_is_pending(self) -> None:
        for leave in (Client.reset, lambda client: client.session.close("by a test")):
            client = self.world.connect()
            client.send(b"carol\n")
            leave(client)
            self.world.settle()
            self.assertFalse(self.claims.pending[0][0].is_wanted())
            self.decide()
            self.assertIsNone(self.world.relay.registry.find(b"carol"))
            self.assertNotIn(b"!welcome carol version=1 max-line=8192", client.told())
        self.join(b"carol").end()
        self.assertEqual(what_is_left(self.world), {})

    def test_the_input_ends_while_it_is_pending(self) -> None:
        client = self.world.connect()
        client.write(b"carol\n%carol%x\n")
        client.end()
        self.assertTrue(client.is_connected)
        self.decide()
        self.assertEqual(client.told(), [welcome("carol"), b"%carol%x"])
        self.assertFalse(client.is_connected)
        self.assertEqual(what_is_left(self.world), {})

    def test_two_pending_claims_of_one_name(self) -> None:
        first, second = self.world.connect(), self.world.connect()
        first.send(b"carol\n")
        second.send(b"Carol\n")
        self.claims.pending.reverse()
        self.decide()
        self.decide()
        self.assertEqual(second.told(), [welcome("Carol")])
        self.assertEqual(first.told(), [b"!error name-in-use carol"])

    def test_a_pending_claim_of_another_name(self) -> None:
        carol, bob = self.join(b"carol"), self.join(b"bob")
        bob.lines(b"/watch carol ann")
        carol.write(b"/name ann\n%bob%as whom\n")
        self.world.settle()
        # Until it is decided carol is carol, and hears what is sent to carol.
        bob.lines(b"%carol%x")
        self.assertEqual(carol.told(), [b"%bob%x"])
        self.assertEqual(bob.told(), [])
        self.decide()
        self.assertEqual(carol.told(), [welcome("ann")])
        self.assertEqual(bob.told(), [b"!offline carol", b"!online ann", b"%ann%as whom"])

    def test_a_refused_claim_of_another_name_changes_nothing(self) -> None:
        carol = self.join(b"carol")
        carol.write(b"/name ann x\n%carol%still\n")
        self.world.settle()
        self.decide(BadSecret(b"ann"))
        self.assertEqual(carol.told(), [b"!error bad-secret ann", b"%carol%still"])

    def test_a_name_taken_meanwhile_is_in_use(self) -> None:
        carol = self.join(b"carol")
        carol.send(b"/name ann\n")
        other = self.world.connect()
        other.send(b"ann\n")
        self.claims.pending.reverse()
        self.decide()
        self.decide()
        self.assertEqual(carol.told(), [b"!error name-in-use ann"])
        self.assertIs(self.world.relay.registry.find(b"carol"), carol.session)

    def test_a_pending_claim_is_not_the_one_to_give_way(self) -> None:
        claiming = self.world.connect()
        claiming.send(b"carol\n")
        unnamed = [self.world.connect() for _ in range(3)]
        self.assertEqual(
            [client.is_connected for client in (claiming, *unnamed)], [True, False, True, True]
        )
        self.decide(BadSecret(b"carol"))
        # It is unnamed again, and counts as such.
        self.assertEqual(len(self.world.clients), 2)

    def test_nothing_times_out_while_it_is_pending(self) -> None:
        client = self.world.connect()
        client.send(b"carol\n")
        self.world.pass_time(31)
        self.assertEqual(client.told(), [])
        self.decide(BadSecret(b"carol"))
        self.assertEqual(client.told(), [b"!error bad-secret carol"])
        self.world.pass_time(30)
        self.assertEqual(client.told(), [b"!error timeout"])
        self.assertFalse(client.is_connected)

    def test_the_oldest_unnamed_is_the_oldest_after_a_refused_claim_too(self) -> None:
        claiming, younger = self.world.connect(), self.world.connect()
        claiming.send(b"carol\n")
        self.decide(BadSecret(b"carol"))
        self.world.connect()
        self.assertFalse(claiming.is_connected)
        self.assertTrue(younger.is_connected)

    def test_a_pending_claim_counts_as_a_client(self) -> None:
        world = World(Limits(max_clients=1), claims=SlowClaims())
        first, second = world.connect(), world.connect()
        first.send(b"a\n")
        self.assertEqual(second.lines(b"b"), [b"!error too-many-clients"])
        self.assertFalse(second.is_connected)
        world.relay.claims.decide_next(BadSecret(b"a"))
        third = world.connect()
        third.send(b"c\n")
        world.relay.claims.decide_next()
        world.settle()
        self.assertEqual(third.told(), [welcome("c")])
        self.assertEqual(first.lines(b"a"), [b"!error bad-secret a", b"!error too-many-clients"])
        self.assertEqual(world.relay.registry.client_count, 1)

    def test_what_fails_when_it_is_decided_closes_that_client(self) -> None:
        client, other = self.world.connect(), self.join(b"dave")
        client.send(b"carol\n")
        self.patch(self.world.relay.registry, "claim", None)
        self.decide()
        self.assertFalse(client.is_connected)
        self.assertTrue(other.is_connected)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_a_refusal_of_a_claim_is_written_as_any(self) -> None:
        client = self.world.connect()
        client.send(b"@ref=9 carol\n")
        refusal = BadSecret(b"carol")
        self.decide(refusal)
        self.assertEqual(client.told(), [b"@ref=9 " + without_sentence(error_line(refusal))])
