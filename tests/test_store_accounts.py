"""Accounts as they are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.store import accounts as module
from chatrelay.store.accounts import MAX_NETWORKS, MAX_TOKENS, Account, Accounts, Found, TokenUse
from chatrelay.store.database import Database
from tests.store_harness import (
    HASH,
    NOW_S,
    Cleanups,
    name,
    open_database,
    temporary_directory,
)

DAY_S = 86_400


class AccountsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = open_database(self, temporary_directory(self))
        self.accounts = Accounts(self.database.connection)

    def write(self, method: Callable[..., Any], *arguments: Any) -> Any:
        with self.database.transaction():
            return method(*arguments)

    def made(self, written: str, now_s: float = NOW_S) -> Account:
        self.assertTrue(self.write(self.accounts.add, name(written), HASH, now_s))
        account = self.accounts.find(name(written).key)
        assert account is not None
        return account

    def rows(self, table: str) -> int:
        [(count,)] = self.database.connection.execute(f"SELECT count(*) FROM {table}")
        return int(count)


class AccountTests(AccountsTestCase):
    """Made, found, changed, removed."""

    def test_what_is_kept(self) -> None:
        carol = self.made("Carol")
        self.assertEqual(
            carol, Account(carol.number, b"carol", b"Carol", HASH, False, NOW_S, NOW_S, None)
        )
        self.assertIs(type(carol.is_disabled), bool)

    def test_nobody(self) -> None:
        self.assertIsNone(self.accounts.find(b"carol"))
        self.assertEqual((self.accounts.count(), list(self.accounts)), (0, []))
        self.assertEqual(self.accounts.last_revocation(), 0)

    def test_another_writing_is_the_same_name(self) -> None:
        carol = self.made("Carol")
        before = self.accounts.last_revocation()
        self.assertFalse(self.write(self.accounts.add, name("cAROL"), "another", NOW_S + 1))
        self.assertEqual(self.accounts.find(name("CAROL").key), carol)
        self.assertEqual(self.accounts.last_revocation(), before)

    def test_all_of_them_by_key(self) -> None:
        for written in ("dave", "Bob", "алиса", "Alice"):
            self.made(written)
        shown = [account.shown.decode() for account in self.accounts]
        self.assertEqual(shown, ["Alice", "Bob", "dave", "алиса"])
        self.assertEqual(self.accounts.count(), 4)

    def test_another_secret(self) -> None:
        carol = self.made("carol")
        self.write(self.accounts.set_secret, carol.number, "another", NOW_S + 5)
        self.assertEqual(
            self.accounts.find(b"carol"), carol._replace(secret_hash="another", changed_s=NOW_S + 5)
        )

    def test_disabled_and_enabled(self) -> None:
        carol = self.made("carol")
        self.write(self.accounts.add_token, carol.number, b"t", NOW_S)
        for is_disabled, then_s in [(True, NOW_S + 1), (False, NOW_S + 2)]:
            self.write(self.accounts.set_disabled, carol.number, is_disabled, then_s)
            self.assertEqual(
                self.accounts.find(b"carol"),
                carol._replace(is_disabled=is_disabled, changed_s=then_s),
            )
        self.assertIs(token_use(self.accounts, b"carol", b"t", NOW_S), TokenUse.GOOD)

    def test_a_number_is_never_given_again(self) -> None:
        first = self.made("carol")
        self.write(self.accounts.add_token, first.number, b"t", NOW_S)
        self.write(self.accounts.note_success, first.number, "192.0.2.0/24", NOW_S)
        self.write(self.accounts.remove, first.number, NOW_S)
        self.assertIsNone(self.accounts.find(b"carol"))
        self.assertEqual((self.rows("token"), self.rows("login")), (0, 0))
        self.assertGreater(self.made("carol").number, first.number)

    def test_on_an_account_that_is_gone_nothing_happens(self) -> None:
        gone = self.made("carol").number
        self.write(self.accounts.remove, gone, NOW_S)
        before = self.accounts.last_revocation()
        self.write(self.accounts.set_secret, gone, HASH, NOW_S)
        self.write(self.accounts.set_disabled, gone, True, NOW_S)
        self.write(self.accounts.remove, gone, NOW_S)
        self.write(self.accounts.add_token, gone, b"t", NOW_S)
        self.write(self.accounts.note_token_use, gone, b"t", NOW_S)
        self.write(self.accounts.note_success, gone, "192.0.2.0/24", NOW_S)
        self.assertEqual(self.accounts.last_revocation(), before)
        self.assertEqual([self.rows(t) for t in ("account", "token", "login")], [0, 0, 0])


def token_use(accounts: Accounts, key: bytes, token_hash: bytes, now_s: float) -> TokenUse:
    """What a token is good for."""
    return accounts.look_up(key, "", token_hash, now_s).token_use


def is_known(accounts: Accounts, key: bytes, network: str, now_s: float) -> bool:
    """Whether a name was opened from a network lately."""
    return accounts.look_up(key, network, None, now_s).is_known


class LookUpTests(AccountsTestCase):
    """Everything that a claim is decided by, in one query."""

    def test_a_name_that_nobody_owns(self) -> None:
        self.assertEqual(
            self.accounts.look_up(b"carol", "net", b"t", NOW_S),
            Found(None, 0, is_known=False, token_use=TokenUse.UNKNOWN),
        )

    def test_an_account_with_everything(self) -> None:
        carol = self.made("carol")
        self.write(self.accounts.add_token, carol.number, b"t", NOW_S)
        self.write(self.accounts.note_success, carol.number, "net", NOW_S)
        expected = Found(
            carol._replace(last_login_s=NOW_S),
            self.accounts.last_revocation(),
            is_known=True,
            token_use=TokenUse.GOOD,
        )
        self.assertEqual(self.accounts.look_up(b"carol", "net", b"t", NOW_S), expected)
        self.assertEqual(
            self.accounts.look_up(b"carol", "elsewhere", None, NOW_S),
            expected._replace(is_known=False, token_use=TokenUse.UNKNOWN),
        )

    def test_which_of_many_are_owned(self) -> None:
        for written in ("a", "m", "z"):
            self.made(written)
        for count in (0, 1, 255, 256, 257, 1000):
            keys = [b"n%d" % index for index in range(count)]
            self.assertEqual(self.accounts.owned(keys), set())
            self.assertEqual(self.accounts.owned([b"a", *keys, b"z", b"a"]), {b"a", b"z"}, count)


class TokenTests(AccountsTestCase):
    """30 days from last use, 256 an account."""

    def setUp(self) -> None:
        super().setUp()
        self.number = self.made("carol").number

    def use(self, token: bytes, then_s: float) -> TokenUse:
        return token_use(self.accounts, b"carol", token, then_s)

    def test_how_long(self) -> None:
        self.write(self.accounts.add_token, self.number, b"t", NOW_S)
        for then_s, expected in [
            (-1, TokenUse.GOOD_TO_NOTE),
            (0, TokenUse.GOOD),
            (DAY_S, TokenUse.GOOD),
            (DAY_S + 1, TokenUse.GOOD_TO_NOTE),
            (30 * DAY_S, TokenUse.GOOD_TO_NOTE),
            (30 * DAY_S + 1, TokenUse.UNKNOWN),
        ]:
            self.assertIs(self.use(b"t", NOW_S + then_s), expected, then_s)

    def test_from_its_last_use(self) -> None:
        self.write(self.accounts.add_token, self.number, b"t", NOW_S)
        used_s = NOW_S + 29 * DAY_S
        self.write(self.accounts.note_token_use, self.number, b"t", used_s)
        self.assertIs(self.use(b"t", used_s), TokenUse.GOOD)
        self.assertIs(self.use(b"t", used_s + 30 * DAY_S), TokenUse.GOOD_TO_NOTE)
        carol = self.accounts.find(b"carol")
        assert carol is not None
        self.assertEqual(carol.last_login_s, used_s)

    def test_of_its_account_only(self) -> None:
        self.made("dave")
        self.write(self.accounts.add_token, self.number, b"t", NOW_S)
        self.assertIs(token_use(self.accounts, b"dave", b"t", NOW_S), TokenUse.UNKNOWN)
        self.assertIs(self.use(b"u", NOW_S), TokenUse.UNKNOWN)

    def test_another_secret_drops_all_of_its_account(self) -> None:
        dave = self.made("dave").number
        for number in (self.number, dave):
            self.write(self.accounts.add_token, number, b"t", NOW_S)
        self.write(self.accounts.set_secret, self.number, HASH, NOW_S)
        self.assertIs(self.use(b"t", NOW_S), TokenUse.UNKNOWN)
        self.assertIs(token_use(self.accounts, b"dave", b"t", NOW_S), TokenUse.GOOD)

    def test_the_longest_unused_goes(self) -> None:
        for index in range(MAX_TOKENS):
            self.write(self.accounts.add_token, self.number, b"%d" % index, NOW_S + index)
        self.write(self.accounts.note_token_use, self.number, b"0", NOW_S + 1000)
        # Newer than all, though a clock that was set back says otherwise.
        self.write(self.accounts.add_token, self.number, b"new", NOW_S - 10)
        self.assertEqual(self.rows("token"), MAX_TOKENS)
        self.assertIs(self.use(b"1", NOW_S + 1000), TokenUse.UNKNOWN)
        for kept in (b"0", b"2", b"255", b"new"):
            self.assertIsNot(self.use(kept, NOW_S + 1000), TokenUse.UNKNOWN, kept)


class LoginTests(AccountsTestCase):
    """30 days, 64 networks an account."""

    def test_how_long(self) -> None:
        carol = self.made("carol").number
        self.write(self.accounts.note_success, carol, "192.0.2.0/24", NOW_S)
        for network, then_s, expected in [
            ("192.0.2.0/24", 0, True),
            ("192.0.2.0/24", 30 * DAY_S, True),
            ("192.0.2.0/24", 30 * DAY_S + 1, False),
            ("192.0.3.0/24", 0, False),
        ]:
            found = is_known(self.accounts, b"carol", network, NOW_S + then_s)
            self.assertIs(found, expected, (network, then_s))
        self.made("dave")
        self.assertIs(is_known(self.accounts, b"dave", "192.0.2.0/24", NOW_S), False)

    def test_the_last_login(self) -> None:
        carol = self.made("carol")
        for then_s in (NOW_S + 1, NOW_S + 2):
            self.write(self.accounts.note_success, carol.number, "192.0.2.0/24", then_s)
            self.assertEqual(self.accounts.find(b"carol"), carol._replace(last_login_s=then_s))
        self.assertEqual(self.rows("login"), 1)

    def test_the_oldest_network_goes(self) -> None:
        carol = self.made("carol").number
        for index in range(MAX_NETWORKS):
            self.write(self.accounts.note_success, carol, f"net {index}", NOW_S + index)
        # One that is there already takes nobody's place.
        self.write(self.accounts.note_success, carol, "net 1", NOW_S + 100)
        self.assertTrue(is_known(self.accounts, b"carol", "net 0", NOW_S))
        self.write(self.accounts.note_success, carol, "new", NOW_S - 10)
        self.assertEqual(self.rows("login"), MAX_NETWORKS)
        for network in ("net 1", "net 2", "new"):
            self.assertTrue(is_known(self.accounts, b"carol", network, NOW_S), network)
        self.assertFalse(is_known(self.accounts, b"carol", "net 0", NOW_S))


class RevocationTests(AccountsTestCase):
    """Whoever was granted a name before, holds it no longer."""

    def test_what_makes_one(self) -> None:
        carol = self.made("carol").number
        for method, arguments, revokes in [
            (self.accounts.set_secret, (carol, HASH), True),
            (self.accounts.set_disabled, (carol, True), True),
            (self.accounts.set_disabled, (carol, False), False),
            (self.accounts.add_token, (carol, b"t"), False),
            (self.accounts.note_token_use, (carol, b"t"), False),
            (self.accounts.note_success, (carol, "net"), False),
            (self.accounts.prune, (), False),
            (self.accounts.add, (name("carol"), HASH), False),
            (self.accounts.remove, (carol,), True),
            (self.accounts.add, (name("carol"), HASH), True),
        ]:
            before = self.accounts.last_revocation()
            self.write(method, *arguments, NOW_S)
            made = self.accounts.revocations_after(before)
            self.assertEqual([made_one.key for made_one in made], [b"carol"] * revokes, method)
            self.assertEqual(self.accounts.last_revocation(), before + revokes)

    def test_in_their_order(self) -> None:
        for written in ("carol", "alice", "bob"):
            self.made(written)
        found = self.accounts.revocations_after(0)
        self.assertEqual([made.key for made in found], [b"carol", b"alice", b"bob"])
        self.assertEqual(self.accounts.revocations_after(found[1].sequence), found[2:])
        self.assertEqual(self.accounts.revocations_after(self.accounts.last_revocation()), [])

    def test_the_last_one_outlives_all(self) -> None:
        self.made("carol")
        last = self.accounts.last_revocation()
        self.write(self.accounts.prune, NOW_S + DAY_S)
        self.assertEqual(len(self.accounts.revocations_after(0)), 1)
        self.write(self.accounts.prune, NOW_S + DAY_S + 1)
        self.assertEqual(self.accounts.revocations_after(0), [])
        self.assertEqual(self.accounts.last_revocation(), last)
        self.made("dave")
        self.assertEqual(self.accounts.last_revocation(), last + 1)


class PruneTests(AccountsTestCase):
    """What is too old to be asked for goes; accounts stay."""

    def test_tokens_and_logins(self) -> None:
        carol = self.made("carol").number
        for then_s in (NOW_S, NOW_S + 10):
            self.write(self.accounts.add_token, carol, b"%d" % then_s, then_s)
            self.write(self.accounts.note_success, carol, f"net {then_s}", then_s)
        for then_s, kept in [(0, 2), (1, 1), (10, 1), (11, 0)]:
            self.write(self.accounts.prune, NOW_S + 30 * DAY_S + then_s)
            self.assertEqual((self.rows("token"), self.rows("login")), (kept, kept), then_s)
        self.assertEqual(self.accounts.count(), 1)


class QueryTests(AccountsTestCase):
    """Each question is answered from an index: none gets slower with the number of accounts."""

    def test_nothing_is_scanned(self) -> None:
        carol = self.made("carol").number
        asked: list[str] = []
        self.database.connection.set_trace_callback(asked.append)
        self.accounts.find(b"carol")
        self.accounts.look_up(b"carol", "net", b"t", NOW_S)
        self.accounts.owned([b"carol", b"dave"])
        self.accounts.revocations_after(0)
        self.write(self.accounts.set_secret, carol, HASH, NOW_S)
        self.write(self.accounts.add_token, carol, b"t", NOW_S)
        self.write(self.accounts.note_token_use, carol, b"t", NOW_S)
        self.write(self.accounts.note_success, carol, "net", NOW_S)
        self.write(self.accounts.prune, NOW_S)
        self.write(self.accounts.remove, carol, NOW_S)
        self.database.connection.set_trace_callback(None)
        looked_at = 0
        for query in asked:
            if query.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                plan = self.database.connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
                for *_, step in plan:
                    # That table has a row for each other table.
                    is_scan = step.startswith("SCAN") and step != "SCAN sqlite_sequence"
                    self.assertFalse(is_scan, (query, step))
                    looked_at += 1
        self.assertGreater(looked_at, 10)


SETTINGS = settings(max_examples=30, stateful_step_count=25, deadline=None)
NAMES = [name(written) for written in ("alice", "Bob", "carol")]


class AccountsMachine(RuleBasedStateMachine):
    """What is kept is what dictionaries would hold."""

    @initialize()
    def begin(self) -> None:
        self.cleanups = Cleanups()
        self.database: Database = open_database(self.cleanups, temporary_directory(self.cleanups))
        self.accounts = Accounts(self.database.connection)
        self.model: dict[bytes, Account] = {}
        self.tokens: dict[tuple[int, bytes], float] = {}
        self.revoked: list[bytes] = []
        self.now_s = NOW_S

    def teardown(self) -> None:
        self.cleanups.close()

    def account(self, key: bytes) -> Account:
        # The number of one that is gone, too: what is late must not hit another account.
        return self.model.get(key) or Account(99, key, key, "", False, 0, 0, None)

    @rule(seconds=st.sampled_from([1, DAY_S, 20 * DAY_S]))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(owned=st.sampled_from(NAMES), secret=st.sampled_from(["one", "two"]))
    def add(self, owned: Any, secret: str) -> None:
        with self.database.transaction():
            added = self.accounts.add(owned, secret, self.now_s)
        assert added == (owned.key not in self.model)
        if added:
            found = self.accounts.find(owned.key)
            assert found is not None
            self.model[owned.key] = Account(
                found.number, owned.key, owned.shown, secret, False, self.now_s, self.now_s, None
            )
            self.revoked.append(owned.key)

    @rule(key=st.sampled_from([owned.key for owned in NAMES]))
    def set_secret(self, key: bytes) -> None:
        account = self.account(key)
        with self.database.transaction():
            self.accounts.set_secret(account.number, "three", self.now_s)
        if key in self.model:
            self.model[key] = account._replace(secret_hash="three", changed_s=self.now_s)
            self.drop_tokens(account.number)
            self.revoked.append(key)

    @rule(key=st.sampled_from([owned.key for owned in NAMES]), is_disabled=st.booleans())
    def set_disabled(self, key: bytes, is_disabled: bool) -> None:
        account = self.account(key)
        with self.database.transaction():
            self.accounts.set_disabled(account.number, is_disabled, self.now_s)
        if key in self.model:
            self.model[key] = account._replace(is_disabled=is_disabled, changed_s=self.now_s)
            self.revoked += [key] * is_disabled

    @rule(key=st.sampled_from([owned.key for owned in NAMES]))
    def remove(self, key: bytes) -> None:
        account = self.account(key)
        with self.database.transaction():
            self.accounts.remove(account.number, self.now_s)
        if self.model.pop(key, None):
            self.drop_tokens(account.number)
            self.revoked.append(key)

    @rule(key=st.sampled_from([owned.key for owned in NAMES]), token=st.sampled_from([b"t", b"u"]))
    def add_token(self, key: bytes, token: bytes) -> None:
        account = self.account(key)
        with self.database.transaction():
            self.accounts.add_token(account.number, token, self.now_s)
        if key in self.model:
            self.tokens[account.number, token] = self.now_s

    @rule(key=st.sampled_from([owned.key for owned in NAMES]), token=st.sampled_from([b"t", b"u"]))
    def use_token(self, key: bytes, token: bytes) -> None:
        account = self.account(key)
        use = token_use(self.accounts, key, token, self.now_s)
        age_s = self.now_s - self.tokens.get((account.number, token), 0)
        assert use is (
            TokenUse.UNKNOWN
            if age_s > 30 * DAY_S
            else (TokenUse.GOOD_TO_NOTE if age_s > DAY_S else TokenUse.GOOD)
        )
        if use is TokenUse.GOOD_TO_NOTE:
            with self.database.transaction():
                self.accounts.note_token_use(account.number, token, self.now_s)
            self.tokens[account.number, token] = self.now_s
            self.model[key] = account._replace(last_login_s=self.now_s)

    @rule()
    def prune(self) -> None:
        with self.database.transaction():
            self.accounts.prune(self.now_s)

    def drop_tokens(self, number: int) -> None:
        self.tokens = {token: used for token, used in self.tokens.items() if token[0] != number}

    @invariant()
    def agrees(self) -> None:
        assert list(self.accounts) == [self.model[key] for key in sorted(self.model)]
        assert self.accounts.last_revocation() == len(self.revoked)
        kept = self.accounts.revocations_after(0)
        assert [made.key for made in kept] == self.revoked[len(self.revoked) - len(kept) :]


class AnyOrderTests(SynchronousTestCase):
    """Any order of what may be done."""

    def test_a_model_agrees(self) -> None:
        run_state_machine_as_test(AccountsMachine, settings=SETTINGS)


class BoundTests(SynchronousTestCase):
    """The bounds that are documented."""

    def test_them(self) -> None:
        self.assertEqual((MAX_TOKENS, MAX_NETWORKS), (256, 64))
        self.assertEqual(module.TOKEN_LIFETIME_S, 30 * DAY_S)
