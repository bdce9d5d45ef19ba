"""Owned names as a client sees them: docs/protocol.rst, *Owned names*."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts import secrets
from chatrelay.accounts.authentication import INameClaim, NameClaim
from chatrelay.bots.participant import BotParticipant
from chatrelay.claims import Claim, Grant
from chatrelay.limits import Limits
from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld, quick_hash
from tests.relay_harness import EPOCH_S, Client, World, what_is_left
from tests.store_harness import ManualThreadpool
from tests.test_naming import welcome


class AccountsInADayTests(SynchronousTestCase):
    """So many names are registered from one address in a day."""

    DAY_S = 86_400

    def setUp(self) -> None:
        self.world = OwnedWorld(self, Limits(accounts_per_day=2))

    def register(self, name: str, host: str, *words: bytes) -> bytes:
        client = self.world.connect(host)
        client.lines(name.encode())
        (told,) = client.lines(b" ".join([b"/register", *(words or [SECRET])]))
        client.end()
        return told

    def test_a_table(self) -> None:
        for name, host, after_days, code in [
            ("a1", "192.0.2.1", 0, ""),
            ("a2", "192.0.2.1", 0, ""),
            ("a3", "192.0.2.1", 0, "rate-limited"),
            ("a3", "192.0.2.1", 0.4, "rate-limited"),
            ("a3", "192.0.2.2", 0, ""),
            ("b1", "2001:db8::1", 0, ""),
            ("b2", "2001:db8::2", 0, ""),
            ("b3", "2001:db8::3", 0, "rate-limited"),
            ("b3", "2001:db8:0:1::3", 0, ""),
            ("a4", "192.0.2.1", 0.2, ""),
            ("a5", "192.0.2.1", 0, "rate-limited"),
            ("a5", "192.0.2.1", 2, ""),
        ]:
            self.world.clock.rightNow += after_days * self.DAY_S
            told = f"!error {code} {name}" if code else f"!registered {name}"
            self.assertEqual(self.register(name, host), told.encode(), (name, host))

    def test_loopback_has_any_number(self) -> None:
        for number in range(5):
            name = f"n{number}"
            self.assertEqual(self.register(name, "127.0.0.1"), b"!registered " + name.encode())

    def test_what_was_refused_does_not_count(self) -> None:
        for _ in range(5):
            self.assertEqual(
                self.register("carol", "192.0.2.1", b"short"), b"!error bad-secret carol"
            )
        for name in ("a1", "a2"):
            self.assertEqual(self.register(name, "192.0.2.1"), b"!registered " + name.encode())

    def test_another_secret_is_no_other_account(self) -> None:
        self.register("carol", "192.0.2.1")
        self.register("a1", "192.0.2.1")
        client = self.world.connect("192.0.2.1")
        client.lines(b"carol " + SECRET)
        for _ in range(3):
            self.assertEqual(
                client.lines(b"/register " + SECRET + b" " + SECRET), [b"!registered carol"]
            )

    def test_behind_a_proxy_the_client_counts(self) -> None:
        for number, code in enumerate(["", "", "rate-limited"]):
            client = self.world.connect("127.0.0.1")
            client.transport.address = IPv4Address("TCP", "192.0.2.5", 99)
            client.lines(b"n%d" % number)
            (told,) = client.lines(b"/register " + SECRET)
            self.assertIn(code or "registered", told.decode())


class RegisterTests(SynchronousTestCase):
    """``/register`` makes a name one's own."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self)
        self.carol = self.world.join(b"carol")

    def test_it_is_owned_then(self) -> None:
        self.assertEqual(
            self.carol.lines(b"@ref=1 /register " + SECRET), [b"@ref=1 !registered carol"]
        )
        self.carol.end()
        for line, answer in [
            (b"carol", b"!error name-owned carol"),
            (b"CAROL", b"!error name-owned CAROL"),
            (b"carol wrong-secret", b"!error bad-secret carol"),
        ]:
            self.assertEqual(self.world.connect().lines(line), [answer])
        self.assertEqual(self.world.connect().lines(b"Carol " + SECRET), [welcome("Carol")])

    def test_what_is_no_secret(self) -> None:
        for secret in (b"short", b"x" * 129, b"crt_12345678"):
            self.assertEqual(
                self.carol.lines(b"/register " + secret), [b"!error bad-secret carol"], secret
            )
        for length in (8, 128):
            client = self.world.join(b"n%d" % length)
            (told,) = client.lines(b"/register " + b"x" * length)
            self.assertEqual(told, b"!registered n%d" % length)
        self.assertIsNone(self.world.account(b"carol"))

    def test_its_forms(self) -> None:
        for line in (b"/register", b"/register a b c", b"/token x"):
            self.assertEqual(self.carol.lines(line), [b"!error bad-line"], line)

    def test_a_name_that_nobody_registered_has_no_secret_to_change(self) -> None:
        line = b"/register " + SECRET + b" " + OTHER_SECRET
        self.assertEqual(self.carol.lines(line), [b"!error bad-secret carol"])
        self.assertIsNone(self.world.account(b"carol"))

    def test_changing_the_secret(self) -> None:
        self.carol.lines(b"/register " + SECRET)
        (told,) = self.carol.lines(b"/token")
        token = told.removeprefix(b"!token ")
        other = self.world.owner(b"carol")
        for line in (
            b"/register " + OTHER_SECRET,
            b"/register " + OTHER_SECRET + b" wrong-secret",
            b"/register " + OTHER_SECRET + b" " + token,
            b"/register short " + SECRET,
        ):
            self.assertEqual(self.carol.lines(line), [b"!error bad-secret carol"], line)
        self.assertEqual(
            self.carol.lines(b"/register " + OTHER_SECRET + b" " + SECRET), [b"!registered carol"]
        )
        # Whoever showed the old one has to show the new one.
        self.assertEqual(other.told(), [b"!error bad-secret carol"])
        self.assertFalse(other.is_connected)
        self.world.pass_time(2)
        self.assertTrue(self.carol.is_connected)
        for secret in (SECRET, token):
            client = self.world.connect()
            self.assertEqual(client.lines(b"carol " + secret), [b"!error bad-secret carol"])
        self.assertEqual(self.world.connect().lines(b"carol " + OTHER_SECRET), [welcome("carol")])

    def test_the_bound_of_accounts(self) -> None:
        world = OwnedWorld(self, Limits(max_accounts=1))
        self.assertEqual(world.join(b"a").lines(b"/register " + SECRET), [b"!registered a"])
        self.assertEqual(world.join(b"b").lines(b"/register " + SECRET), [b"!error not-allowed"])

    def test_it_needs_a_name(self) -> None:
        for line in (b"/register " + SECRET, b"/token"):
            self.assertEqual(self.world.connect().lines(line), [b"!error not-named"])

    def test_a_relay_that_keeps_no_accounts(self) -> None:
        carol = World().join(b"carol")
        self.assertEqual(carol.lines(b"/register " + SECRET), [b"!error not-allowed"])
        self.assertEqual(carol.lines(b"/token"), [b"!error not-allowed"])

    def test_what_comes_meanwhile_waits(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        carol = world.join(b"carol")
        carol.write(b"/ping 1\n/register " + SECRET + b"\n/ping 2\n%carol%3\n")
        world.settle()
        self.assertEqual(carol.told(), [b"!pong 1"])
        world.hashing.run_all()
        world.settle()
        self.assertEqual(carol.told(), [b"!registered carol", b"!pong 2", b"%carol%3"])

    def test_who_leaves_meanwhile_has_registered_nothing(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        carol = world.join(b"carol")
        carol.send(b"/register " + SECRET + b"\n")
        carol.reset()
        world.hashing.run_all()
        self.assertIsNone(world.account(b"carol"))
        world.join(b"carol").end()
        self.assertEqual(what_is_left(world), {})

    def test_who_leaves_while_it_is_written_keeps_the_name(self) -> None:
        world = OwnedWorld(self, storing=ManualThreadpool())
        carol = self.joined(world, b"carol")
        carol.send(b"/register " + SECRET + b"\n")
        world.storing.run()
        self.assertEqual(len(world.storing.pending), 1)  # the insertion
        carol.reset()
        # Whoever takes the name in this moment has it without proof,
        stranger = world.connect()
        stranger.send(b"carol\n")
        world.storing.run_all()
        world.settle()
        self.assertIsNotNone(world.account(b"carol"))
        # and not for long: it is told when that is seen.
        world.pass_time(1)
        world.storing.run_all()
        world.settle()
        self.assertFalse(any(device for device in world.relay.registry.devices(b"carol")))
        self.assertIn(b"!error bad-secret carol", stranger.told())

    def test_two_of_one_name_in_the_same_moment(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        carol = world.join(b"carol")
        carol.send(b"/register " + SECRET + b"\n")
        world.add(b"carol", OTHER_SECRET)
        world.hashing.run_all()
        world.settle()
        self.assertEqual(carol.told(), [b"!error name-owned carol"])
        world.pass_time(1)
        self.assertFalse(carol.is_connected)
        owner = world.connect()
        owner.send(b"carol " + OTHER_SECRET + b"\n")
        world.hashing.run_all()
        world.settle()
        self.assertEqual(owner.told(), [welcome("carol")])

    def joined(self, world: OwnedWorld, name: bytes) -> Client:
        client = world.connect()
        client.send(name + b"\n")
        assert isinstance(world.storing, ManualThreadpool)
        world.storing.run_all()
        world.settle()
        client.raw()
        return client


class ClaimTests(SynchronousTestCase):
    """Who may have a name that is owned, or is not."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self, reserved=[b"root"])

    def test_the_table_of_claims(self) -> None:
        self.world.owner(b"carol").end()
        self.world.owner(b"off").end()
        off = self.world.account(b"off")
        assert off is not None
        self.world.in_store(lambda accounts: accounts.set_disabled(off.number, True, 0.0))
        self.world.add(b"root")
        self.world.look()
        for number, (claim, code) in enumerate(
            [
                (b"ann", None),
                (b"ann " + SECRET, "bad-secret"),
                (b"Ann Lee", "bad-secret"),
                (b"carol", "name-owned"),
                (b"carol wrong-secret", "bad-secret"),
                (b"carol x", "bad-secret"),
                (b"carol crt_x", "bad-secret"),
                (b"carol " + SECRET + b" ", "bad-secret"),
                (b"carol " + SECRET, None),
                (b"off", "name-owned"),
                (b"off " + SECRET, "bad-secret"),
                (b"root", "name-owned"),
                (b"root " + SECRET, None),
                (b"server " + SECRET, "name-reserved"),
            ]
        ):
            (told,) = self.world.connect(f"192.0.2.{number}").lines(claim)
            expected = b"!welcome" if code is None else b"!error " + code.encode()
            self.assertTrue(told.startswith(expected + b" "), (claim, told))

    def test_a_reserved_name_without_an_account_is_for_nobody(self) -> None:
        for claim, code in [(b"root", b"name-reserved"), (b"root " + SECRET, b"bad-secret")]:
            (told,) = self.world.connect().lines(claim)
            self.assertEqual(told, b"!error " + code + b" root")

    def test_an_operator_without_an_account_is_reserved(self) -> None:
        world = OwnedWorld(self, operators=[b"Boss"])
        self.assertEqual(world.relay.operators, {b"boss"})
        for claim, code in [(b"boss", b"name-reserved"), (b"boss " + SECRET, b"bad-secret")]:
            self.assertEqual(world.connect().lines(claim), [b"!error " + code + b" boss"])
        world.add(b"boss")
        world.look()
        self.assertEqual(world.connect().lines(b"boss " + SECRET), [welcome("boss")])

    def test_who_had_a_name_before_it_was_reserved_can_not_register_it(self) -> None:
        client = self.world.join(b"dave")
        self.world.relay.registry._reserved.add(b"dave")
        self.assertEqual(client.lines(b"/register " + SECRET), [b"!error name-reserved dave"])
        self.assertIsNone(self.world.account(b"dave"))

    def test_the_name_command(self) -> None:
        self.world.owner(b"carol").end()
        client = self.world.join(b"dave")
        for line, answer in [
            (b"/name carol", b"!error name-owned carol"),
            (b"/name carol wrong-secret", b"!error bad-secret carol"),
            (b"/name carol " + SECRET, welcome("carol")),
            (b"/name CAROL", welcome("CAROL")),
            (b"/name dave", welcome("dave")),
            (b"/name carol", b"!error name-owned carol"),
            (b"/token", b"!error not-allowed"),
        ]:
            self.assertEqual(client.lines(line), [answer], line)

    def test_a_secret_that_can_be_none_is_not_hashed(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        world.add(b"carol")
        client = world.connect()
        client.lines(b"carol " + b"x" * 129, b"carol crt_" + b"x" * 43)
        self.assertEqual(len(world.hashing.pending), 0)

    def test_a_disabled_account_is_closed_to_who_is_being_checked(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        world.add(b"carol")
        for change in (
            lambda accounts, number: accounts.set_disabled(number, True, 0.0),
            lambda accounts, number: accounts.remove(number, 0.0),
        ):
            client = world.connect()
            client.send(b"carol " + SECRET + b"\n")
            number = world.account(b"carol").number
            world.in_store(lambda accounts, change=change, number=number: change(accounts, number))
            world.hashing.run_all()
            world.settle()
            self.assertEqual(client.told(), [b"!error bad-secret carol"])
            world.in_store(lambda accounts, number=number: accounts.set_disabled(number, False, 0))

    def test_a_claim_that_is_gone_is_not_hashed(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        world.add(b"carol")
        clients = [world.connect(f"192.0.2.{number}") for number in range(1, 5)]
        for client in clients:
            client.send(b"carol " + SECRET + b"\n")
        for client in clients:
            client.reset()
        self.assertEqual(len(world.hashing.pending), 2)
        world.hashing.run_all()
        world.settle()
        self.assertEqual(world.relay.registry.client_count, 0)
        self.assertEqual(what_is_left(world), {})


class TokenTests(SynchronousTestCase):
    """``/token``, which stands for the secret."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self)
        self.carol = self.world.owner(b"carol")

    def token(self) -> bytes:
        (told,) = self.carol.lines(b"@ref=1 /token")
        self.assertRegex(told, rb"\A@ref=1 !token crt_[A-Za-z0-9_-]{43}\Z")
        return told.removeprefix(b"@ref=1 !token ")

    def test_it_opens_the_name_and_hashes_nothing(self) -> None:
        token = self.token()
        self.patch(self.world.hashing, "callInThreadWithCallback", None)
        self.assertEqual(self.world.connect().lines(b"carol " + token), [welcome("carol")])
        dave = self.world.join(b"dave")
        self.assertEqual(dave.lines(b"/name carol " + token), [welcome("carol")])
        self.assertEqual(self.world.connect().lines(b"dave " + token), [b"!error bad-secret dave"])

    def test_two_are_two(self) -> None:
        first, second = self.token(), self.token()
        self.assertNotEqual(first, second)
        for token in (first, second):
            self.assertEqual(self.world.connect().lines(b"carol " + token), [welcome("carol")])

    def test_thirty_days_from_its_last_use(self) -> None:
        day_s = 86_400
        used, unused = self.token(), self.token()
        self.carol.end()
        for _ in range(3):
            self.world.clock.rightNow += 20 * day_s
            client = self.world.connect()
            self.assertEqual(client.lines(b"carol " + used), [welcome("carol")])
            client.end()
        client = self.world.connect()
        self.assertEqual(client.lines(b"carol " + unused), [b"!error bad-secret carol"])

    def test_once_a_day_it_says_where_the_owner_is(self) -> None:
        token = self.token()
        self.world.clock.rightNow += 86_401
        self.assertEqual(
            self.world.connect("192.0.2.7").lines(b"carol " + token), [welcome("carol")]
        )
        for number in range(20):
            self.world.connect(f"192.0.2.{100 + number}").lines(b"carol wrong-secret")
        for host, answer in [
            ("192.0.2.8", b"!error rate-limited carol"),
            ("192.0.2.7", welcome("carol")),
        ]:
            self.assertEqual(self.world.connect(host).lines(b"carol " + SECRET), [answer], host)

    def test_only_what_is_registered_has_one(self) -> None:
        self.assertEqual(self.world.join(b"dave").lines(b"/token"), [b"!error not-allowed"])

    def test_wrong_ones_slow_nobody(self) -> None:
        for _ in range(50):
            client = self.world.connect()
            self.assertEqual(client.lines(b"carol crt_wrong"), [b"!error bad-secret carol"])
        self.assertEqual(self.world.connect().lines(b"carol " + SECRET), [welcome("carol")])


class ConfidentialTests(SynchronousTestCase):
    """Secrets are taken only where nobody else can read them."""

    def test_in_clear_over_a_network(self) -> None:
        for allowed in (False, True):
            world = OwnedWorld(self, allows_insecure_secrets=allowed)
            world.add(b"carol")
            world.is_confidential = False
            for line in (b"carol " + SECRET, b"carol crt_x", b"Ann Lee"):
                (told,) = world.connect("192.0.2.1").lines(line)
                self.assertEqual(told == b"!error insecure", not allowed, line)
            free = world.connect("192.0.2.1")
            free.lines(b"dave")
            for line in (b"/name carol " + SECRET, b"/register " + SECRET, b"/token"):
                (told,) = free.lines(line)
                self.assertEqual(told == b"!error insecure", not allowed, line)

    def test_a_connection_that_is_no_socket_of_this_machine(self) -> None:
        # As behind haproxy, whose client may be anywhere, whatever address it has.
        self.patch(OwnedWorld, "is_confidential", None)
        for address in ("127.0.0.1", UNIXAddress(b"x")):
            client = OwnedWorld(self).connect(address)
            self.assertFalse(client.session.is_confidential)


class RevocationTests(SynchronousTestCase):
    """What the accounts tool does is true within seconds."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self)

    def test_who_holds_it_is_closed(self) -> None:
        def disable(accounts: Accounts, number: int) -> None:
            accounts.set_disabled(number, True, 0.0)

        def reset(accounts: Accounts, number: int) -> None:
            accounts.set_secret(number, "x", 0.0)

        def remove(accounts: Accounts, number: int) -> None:
            accounts.remove(number, 0.0)

        for change in (disable, reset, remove):
            first, second = self.world.owner(b"carol"), self.world.connect()
            (told,) = first.lines(b"/token")
            (told,) = second.lines(b"carol " + told.removeprefix(b"!token "))
            self.assertEqual(told, welcome("carol"))
            other = self.world.join(b"dave")
            number = self.world.account(b"carol").number
            self.world.in_store(
                lambda accounts, change=change, number=number: change(accounts, number)
            )
            self.world.pass_time(2)
            for client in (first, second):
                self.assertEqual(client.told()[-1:], [b"!error bad-secret carol"])
                self.assertFalse(client.is_connected)
            self.assertTrue(other.is_connected)
            other.end()
            if change is not remove:
                self.world.in_store(lambda accounts, number=number: accounts.remove(number, 0.0))

    def test_a_name_that_is_given_to_somebody_is_not_held_without_proof(self) -> None:
        carol = self.world.join(b"carol")
        self.world.add(b"carol")
        self.world.pass_time(2)
        self.assertFalse(carol.is_connected)

    def test_whoever_came_with_the_new_secret_stays(self) -> None:
        self.world.add(b"carol")
        number = self.world.account(b"carol").number
        self.world.in_store(lambda accounts: accounts.set_disabled(number, True, 0.0))
        self.world.in_store(lambda accounts: accounts.set_disabled(number, False, 0.0))
        carol = self.world.owner(b"carol")
        self.world.pass_time(5)
        self.assertTrue(carol.is_connected)

    def test_the_owner_takes_it_from_who_has_it_without_proof(self) -> None:
        watcher, stranger = self.world.join(b"watcher"), self.world.join(b"carol")
        watcher.lines(b"/watch carol")
        self.world.add(b"carol")
        owner = self.world.connect()
        self.assertEqual(owner.lines(b"carol " + SECRET), [welcome("carol")])
        self.assertEqual(stranger.told(), [b"!error name-owned carol"])
        self.assertFalse(stranger.is_connected)
        self.assertEqual(watcher.told(), [b"!offline carol", b"!online carol"])


class RevokedMeanwhileTests(SynchronousTestCase):
    """Until the relay sees what was revoked, who holds the name by it gets nothing new."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self, reserved=[b"root"])

    def changed(self, name: bytes, change: object) -> None:
        number = self.world.account(name).number
        self.world.in_store(lambda accounts: change(accounts, number))

    def test_no_token_of_the_next_secret(self) -> None:
        carol = self.world.owner(b"carol")
        self.changed(
            b"carol",
            lambda accounts, number: accounts.set_secret(number, quick_hash(OTHER_SECRET), 0.0),
        )
        self.assertEqual(carol.lines(b"/token"), [b"!error bad-secret carol"])

    def test_no_token_of_the_next_owner(self) -> None:
        carol = self.world.owner(b"carol")
        self.changed(b"carol", lambda accounts, number: accounts.remove(number, 0.0))
        self.world.add(b"carol", OTHER_SECRET)
        self.assertEqual(carol.lines(b"/token"), [b"!error bad-secret carol"])

    def test_a_disabled_account_gets_no_other_secret(self) -> None:
        world = self.world = OwnedWorld(self, hashing=ManualThreadpool())
        world.add(b"carol")
        carol = world.connect()
        carol.send(b"carol " + SECRET + b"\n")
        world.hashing.run_all()
        world.settle()
        carol.raw()
        for change in (
            lambda accounts, number: accounts.set_disabled(number, True, 0.0),
            lambda accounts, number: accounts.set_secret(number, "another", 0.0),
        ):
            carol.send(b"/register " + OTHER_SECRET + b" " + SECRET + b"\n")
            self.changed(b"carol", change)
            world.hashing.run_all()
            world.settle()
            self.assertEqual(carol.told(), [b"!error bad-secret carol"])
            self.changed(b"carol", lambda accounts, number: accounts.set_disabled(number, False, 0))
        self.assertEqual(world.account(b"carol").secret_hash, "another")
        world.pass_time(2)
        self.assertFalse(carol.is_connected)

    def test_a_removed_account_is_not_made_again(self) -> None:
        for name in (b"root", b"carol"):
            self.world.add(name)
            client = self.world.owner(name)
            self.changed(name, lambda accounts, number: accounts.remove(number, 0.0))
            self.assertEqual(client.lines(b"/register " + SECRET), [b"!error bad-secret " + name])
            self.assertIsNone(self.world.account(name))

    def test_a_free_name_is_registered_all_the_same(self) -> None:
        carol = self.world.join(b"carol")
        self.world.add(b"carol")
        self.changed(b"carol", lambda accounts, number: accounts.remove(number, 0.0))
        self.assertEqual(carol.lines(b"/register " + SECRET), [b"!registered carol"])
        self.world.pass_time(2)
        self.assertTrue(carol.is_connected)


class SlowChecker:
    """A checker that asks elsewhere."""

    credentialInterfaces = (INameClaim,)  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        self.asked: list[tuple[Grant, Deferred[Grant]]] = []

    def requestAvatarId(self, credentials: NameClaim) -> Deferred[Grant]:
        answer: Deferred[Grant] = Deferred()
        self.asked.append((Grant(is_proven=True, revision=credentials.found.revision), answer))
        return answer

    def answer(self) -> None:
        for grant, answer in self.asked:
            answer.callback(grant)


class AnotherCheckerTests(SynchronousTestCase):
    """A program's own checker may take longer than it takes to see what was revoked."""

    def test_what_is_revoked_while_it_asks(self) -> None:
        world = OwnedWorld(self)
        for name in (b"carol", b"dave"):
            world.add(name)
        checker = SlowChecker()
        world.relay.claims.portal.registerChecker(checker)
        carol, dave = world.connect(), world.connect("192.0.2.1")
        for client, name in ((carol, b"carol"), (dave, b"dave")):
            self.assertEqual(client.lines(name + b" ticket"), [])
        number = world.account(b"carol").number
        world.in_store(lambda accounts: accounts.set_disabled(number, True, EPOCH_S))
        world.pass_time(3)
        checker.answer()
        world.settle()
        self.assertEqual(carol.told(), [b"!error bad-secret carol"])
        self.assertEqual(dave.told(), [welcome("dave")])


class BusyRelayTests(SynchronousTestCase):
    """What waits for the store and for the hashing threads."""

    def test_claims_that_come_while_the_store_looks(self) -> None:
        world = OwnedWorld(self, storing=ManualThreadpool())
        world.storing.run_all()
        clients = [world.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(b"c%d\n" % number)
        world.storing.run_all()
        world.settle()
        for number, client in enumerate(clients):
            self.assertEqual(client.told(), [welcome(b"c%d" % number)])

    def test_one_claim_that_fails_leaves_the_others_of_its_turn(self) -> None:
        world = OwnedWorld(self)
        for name in (b"a", b"b", b"c"):
            world.add(name)
        told: list[str] = []

        def decided(label: str) -> None:
            told.append(label)
            if label == "a":
                raise ZeroDivisionError

        for label in "abc":
            claim = Claim(parse_name(label.encode()), SECRET, "127.0.0.1", lambda: True)
            world.relay.claims.decide(claim, lambda _grant, label=label: decided(label))
        world.settle()
        self.assertEqual(told, ["a", "b", "c"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_thread_that_ends_otherwise_has_seen_no_right_secret(self) -> None:
        class Panic(BaseException):
            pass

        def panics(_kept: str, _secret: bytes) -> bool:
            raise Panic

        world = OwnedWorld(self)
        world.add(b"carol")
        self.patch(secrets, "is_right", panics)
        (told,) = world.connect().lines(b"carol " + SECRET)
        self.assertTrue(told.startswith(b"!error store-failed"), told)
        self.assertEqual(len(self.flushLoggedErrors(Panic)), 1)

    def test_who_waits_is_bound_when_his_turn_comes(self) -> None:
        world = OwnedWorld(self, hashing=ManualThreadpool())
        world.add(b"carol")
        guessers = [world.connect("192.0.2.1") for _ in range(10)]
        for guesser in guessers:
            guesser.send(b"carol wrong-secret\n")
        world.hashing.run_all()
        world.settle()
        told = [guesser.told()[0] for guesser in guessers]
        self.assertEqual(told.count(b"!error bad-secret carol"), 5)
        self.assertEqual(told.count(b"!error rate-limited carol"), 5)

    def test_the_right_secret_ends_the_wait_where_the_name_is_known(self) -> None:
        world = OwnedWorld(self)
        owner = world.owner(b"carol")
        dave = world.join(b"dave")
        for _ in range(5):
            self.assertEqual(dave.lines(b"/name carol wrong-secret"), [b"!error bad-secret carol"])
        self.assertEqual(dave.lines(b"/name carol " + SECRET), [b"!error rate-limited carol"])
        world.pass_time(2)
        for _ in range(2):
            self.assertEqual(dave.lines(b"/name carol " + SECRET), [welcome("carol")])
            dave.lines(b"/name dave")
            dave.lines(*[b"/name carol wrong-secret"] * 4)
        self.assertTrue(owner.is_connected)

    def test_a_known_owner_takes_a_strangers_place(self) -> None:
        limits = Limits(max_waiting_hashes=2)
        world = OwnedWorld(self, limits, hashing=ManualThreadpool())
        world.add(b"carol")
        number = world.account(b"carol").number
        world.in_store(lambda accounts: accounts.note_success(number, "127.0.0.1", EPOCH_S))
        strangers = [world.connect(f"192.0.2.{number}") for number in range(1, 5)]
        for stranger in strangers:
            stranger.send(b"carol wrong-secret\n")
        owner = world.connect()
        owner.send(b"carol " + SECRET + b"\n")
        self.assertEqual(owner.told(), [])
        self.assertIn([b"!error busy"], [stranger.told() for stranger in strangers])
        world.hashing.run_all()
        world.settle()
        self.assertEqual(owner.told(), [welcome("carol")])

    def test_what_is_old_is_forgotten(self) -> None:
        world = OwnedWorld(self)
        world.owner(b"carol").end()
        world.clock.rightNow += 40 * 86_400
        world.pass_time(2)
        number = world.account(b"carol").number
        kept = world.in_store(
            lambda accounts: accounts._rows("SELECT 1 FROM login WHERE account = ?", number)
        )
        self.assertEqual(kept, [])


class DeviceTests(SynchronousTestCase):
    """Several connections hold one owned name."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self)
        self.phone, self.laptop = self.world.owner(b"carol"), self.world.owner(b"Carol")
        self.bob = self.world.join(b"bob")

    def test_each_gets_every_message(self) -> None:
        lines = [b"%%carol%%%d" % number for number in range(300)]
        expected = [line.replace(b"carol", b"bob") for line in lines]
        self.assertEqual(self.bob.lines(*lines[:1], b"@ref=1 %CAROL%x"), [b"@ref=1 !sent CAROL"])
        self.bob.lines(*lines[1:])
        for device in (self.phone, self.laptop):
            self.assertEqual(device.told(), [expected[0], b"%bob%x", *expected[1:]])

    def test_what_they_send_has_their_writing(self) -> None:
        self.phone.lines(b"%bob%1")
        self.laptop.lines(b"%bob%2")
        self.assertEqual(self.bob.told(), [b"%carol%1", b"%Carol%2"])

    def test_one_message_has_one_id(self) -> None:
        self.phone.lines(b"/caps id time")
        self.laptop.lines(b"/caps id")
        self.bob.lines(b"%carol%1", b"%carol%2")
        phone, laptop = self.phone.told(), self.laptop.told()
        self.assertEqual(len(set(phone)), 2)
        ids = [line.split(b";")[0].removeprefix(b"@") for line in phone]
        self.assertEqual(laptop, [b"@%b %%bob%%1" % ids[0], b"@%b %%bob%%2" % ids[1]])

    def test_the_last_to_leave_is_gone(self) -> None:
        self.bob.lines(b"/watch carol")
        self.phone.end()
        self.assertEqual(self.bob.told(), [])
        self.assertEqual(self.bob.lines(b"%carol%x", b"%Carol%y"), [])
        self.assertEqual(self.laptop.told(), [b"%bob%x", b"%bob%y"])
        self.laptop.lines(b"/name dave")
        self.assertEqual(self.bob.told(), [b"!offline carol"])
        (told,) = self.bob.lines(b"%carol%x")
        self.assertRegex(told, rb"\A!stored carol id=[0-9a-f]+\Z")

    def test_they_are_one_line_of_who(self) -> None:
        who = self.bob.lines(b"/who carol")
        self.assertEqual(len(who), 2)
        self.assertTrue(who[0].startswith(b"!who carol "), who)
        self.assertEqual(who[1], b"!end who 1")

    def test_each_counts_as_a_client(self) -> None:
        self.assertEqual(self.world.relay.registry.client_count, 3)
        self.phone.end()
        self.assertEqual(self.world.relay.registry.client_count, 2)

    def test_caps_of_one_are_not_the_others(self) -> None:
        self.phone.lines(b"/caps time")
        self.bob.lines(b"%carol%1")
        self.assertEqual(self.laptop.told(), [b"%bob%1"])
        self.assertRegex(self.phone.told()[0], rb"\A@time=\S+ %bob%1\Z")
        self.phone.lines(b"/caps none")
        self.bob.lines(b"%carol%2", b"%carol%3")
        self.assertEqual(self.phone.told(), [b"%bob%2", b"%bob%3"])

    def test_a_message_to_oneself_goes_to_all(self) -> None:
        self.phone.lines(b"/caps echo")
        self.laptop.lines(b"/caps echo")
        self.assertEqual(self.phone.lines(b"%carol%note"), [b"%carol%note"])
        self.assertEqual(self.laptop.told(), [b"%carol%note"])

    def test_echo(self) -> None:
        self.phone.lines(b"/caps echo")
        self.laptop.lines(b"%bob%1", b"%BOB,nobody%2", b"@ref=7 %bob%3")
        self.assertEqual(
            self.phone.told(),
            [b"@to=bob %Carol%1", b"@to=BOB %Carol%2", b"@to=bob %Carol%3"],
        )
        self.assertEqual(self.bob.told(), [b"%Carol%1", b"%Carol%2", b"%Carol%3"])
        self.phone.lines(b"%bob%4")
        self.laptop.told()
        self.assertEqual(self.phone.told(), [])
        self.assertEqual(self.bob.told(), [b"%carol%4"])
        self.phone.lines(b"/caps none")
        self.laptop.lines(b"%bob%5")
        self.assertEqual(self.phone.told(), [])

    def test_an_echo_has_the_id_of_its_message(self) -> None:
        self.phone.lines(b"/caps echo id")
        self.bob.lines(b"/caps id")
        self.laptop.lines(b"%bob%1")
        (came,), (shown,) = self.bob.told(), self.phone.told()
        self.assertEqual(shown, came.replace(b" ", b";to=bob "))

    def test_echo_to_nobody_else(self) -> None:
        self.bob.lines(b"/caps echo")
        self.assertEqual(self.bob.lines(b"%carol%x"), [])
        self.laptop.lines(b"%carol%y")
        self.assertEqual(self.bob.told(), [])

    def test_a_bot_answers_all(self) -> None:
        relay = self.world.relay
        relay.registry.add_bot(
            BotParticipant(
                reverse, relay.registry.find, relay.wall_clock, lambda *_: None, relay.limits
            )
        )
        self.laptop.lines(b"/caps echo")
        self.assertEqual(self.phone.lines(b"%reverse%abc"), [b"%reverse%cba"])
        self.assertEqual(self.laptop.told(), [b"@to=reverse %carol%abc", b"%reverse%cba"])

    def test_what_a_bot_answers_holds_who_asked(self) -> None:
        world = OwnedWorld(self, Limits(high_water_bytes=1000, low_water_bytes=500))
        relay = world.relay
        relay.registry.add_bot(
            BotParticipant(
                reverse, relay.registry.find, relay.wall_clock, lambda *_: None, relay.limits
            )
        )
        phone, laptop = world.owner(b"carol"), world.owner(b"carol")
        laptop.stop_taking()
        phone.send(b"%reverse%" + b"x" * 2000 + b"\n")
        self.assertTrue(phone.session.gate.held)
        laptop.take()
        self.assertFalse(phone.session.gate.held)

    def test_one_that_does_not_read_holds_the_sender_and_is_cut_off(self) -> None:
        world = OwnedWorld(self, Limits(high_water_bytes=1000, low_water_bytes=500))
        phone, laptop, bob = world.owner(b"carol"), world.owner(b"carol"), world.join(b"bob")
        phone.stop_taking()
        bob.send(b"%carol%" + b"x" * 2000 + b"\n")
        bob.send(b"%carol%behind\n")
        self.assertTrue(bob.session.gate.held)
        world.pass_time(12)
        self.assertFalse(phone.is_connected)
        self.assertEqual(laptop.told()[-1], b"%bob%behind")

    def test_there_may_be_only_so_many(self) -> None:
        world = OwnedWorld(self, Limits(max_devices=3))
        devices = [world.owner(b"carol") for _ in range(3)]
        one_more = world.connect()
        self.assertEqual(one_more.lines(b"carol " + SECRET), [b"!error too-many-clients"])
        self.assertFalse(one_more.is_connected)
        other = world.join(b"dave")
        self.assertEqual(other.lines(b"/name carol " + SECRET), [b"!error too-many-clients"])
        self.assertEqual(other.lines(b"%dave%still"), [b"%dave%still"])
        self.assertEqual(devices[0].lines(b"/name CAROL"), [welcome("CAROL")])
        devices[1].end()
        self.assertEqual(other.lines(b"/name carol " + SECRET), [welcome("carol")])

    def test_nothing_is_left(self) -> None:
        for client in (self.phone, self.laptop, self.bob):
            client.end()
        self.assertEqual(what_is_left(self.world), {})
        self.assertEqual(self.world.relay.registry.client_count, 0)
