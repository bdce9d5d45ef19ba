"""
Claims, registrations, renames, disconnects and the accounts tool, in any order.

Threads run when the machine says so, so that every decision falls between any two events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts.secrets import make_token, token_hash
from chatrelay.devices import Devices
from chatrelay.limits import Limits
from chatrelay.names import parse_name
from chatrelay.session import State
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld, quick_hash
from tests.relay_harness import Client, what_is_left
from tests.rooms_model import check_rooms
from tests.store_harness import Cleanups, ManualThreadpool

LIMITS = Limits(max_clients=5, max_unnamed=4, free_wrong_secrets=1000)
NAMES = st.sampled_from([b"a", b"A", b"b", b"server", b"kept"])
SECRETS = st.sampled_from([SECRET, OTHER_SECRET, b"never-chosen"])
# Two rooms that may be kept, and what changes who is written what there.
IN_ROOMS = st.sampled_from(
    [
        *(b"/join #r", b"/join #r", b"/join #R", b"/join #s", b"/leave #r", b"/leave #s"),
        *(b"%#r%x", b"%#R%x\n%#r%y", b"@ref=r %#r%z", b"%a%x\n%#r%y\n%b%z", b"%#s%x"),
        *(b"/keep #r", b"/keep #r", b"/keep #r members-only", b"/unkeep #r", b"/remove #r b"),
        *(
            b"/invite #r b",
            b"/caps ack",
            b"/caps echo id",
            b"/caps none",
            b"/block b",
            b"/unblock b",
        ),
    ]
)
ANSWER = re.compile(rb"@ref=(\d+) (!welcome|!registered|!token) (\S+)")


class Owners(RuleBasedStateMachine):
    """A relay, its clients and its operator."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.cleanups = Cleanups()
        self.storing, self.hashing = ManualThreadpool(), ManualThreadpool()
        self.world = OwnedWorld(
            self.cleanups, LIMITS, reserved=[b"kept"], storing=self.storing, hashing=self.hashing
        )
        self.run_all()
        # As the accounts tool has it: beside the relay, and not in its turns.
        self.beside = Database.open(self.world.directory, exclusive=False)
        self.cleanups.callback(self.beside.close)
        self.accounts = Accounts(self.beside.connection)
        self.clients: list[Client] = []
        # What each token stands for: the secret that was shown by whom it was given to.
        self.tokens: dict[bytes, bytes | None] = {b"crt_never-given": None}
        self.asked: dict[bytes, bytes | None] = {}
        self.shown: dict[Client, bytes | None] = {}
        self.held: dict[Client, bytes] = {}

    def any_of(self, number: int) -> Client | None:
        here = [client for client in self.clients if client.is_connected]
        return here[number % len(here)] if here else None

    def run_all(self) -> None:
        self.world.settle()
        while self.storing.pending or self.hashing.pending:
            self.storing.run_all()
            self.hashing.run_all()
            self.world.settle()

    def ask(self, client: Client, line: bytes, shows: bytes | None) -> None:
        """Send a line; if it is granted, the client holds its name by what it `shows`."""
        ref = b"%d" % (len(self.asked) + 1)
        self.asked[ref] = shows
        client.send(b"@ref=" + ref + b" " + line + b"\n")

    def secret_behind(self, shown: bytes | None) -> bytes | None:
        """The secret that was shown, by itself or by a token for it."""
        return self.tokens.get(shown, shown) if shown is not None else None

    @initialize(register=st.booleans())
    def begin(self, register: bool) -> None:
        """Somebody is there, and perhaps has registered his name."""
        for name in (b"a", b"b"):
            self.clients.append(self.world.connect())
            self.ask(self.clients[-1], name, None)
        self.run_all()
        self.see()
        if register:
            self.ask(self.clients[0], b"/register " + SECRET, SECRET)
            self.run_all()
            self.see()

    def see(self) -> None:
        self.world.settle()
        for client in self.clients:
            for ref, word, value in ANSWER.findall(client.raw()):
                if word == b"!token":
                    self.tokens[value] = self.secret_behind(self.shown[client])
                    continue
                key, shown = parse_name(value).key, self.asked[ref]
                # Another writing of one's own name is held by what was shown before.
                if shown is not None or self.held.get(client) != key:
                    self.shown[client] = shown
                self.held[client] = key
                self.counted[word.decode()] += 1

    @precondition(lambda self: sum(client.is_connected for client in self.clients) < 6)
    @rule(address=st.sampled_from(["127.0.0.1", "192.0.2.1", "192.0.2.2"]))
    def connect(self, address: str) -> None:
        self.clients.append(self.world.connect(address))

    @rule(
        who=st.integers(0, 5),
        name=NAMES,
        proof=st.one_of(st.none(), SECRETS, st.integers(0, 1)),
    )
    def claim(self, who: int, name: bytes, proof: bytes | int | None) -> None:
        client = self.any_of(who)
        if client is None or client.session is None:
            return
        if isinstance(proof, int):
            proof = list(self.tokens)[-1 - proof % len(self.tokens)]
        line = name if proof is None else name + b" " + proof
        is_named = client.session.is_named
        self.ask(client, b"/name " + line if is_named else line, proof)
        self.see()

    @rule(who=st.integers(0, 5), new=SECRETS, old=st.one_of(st.none(), SECRETS))
    def register(self, who: int, new: bytes, old: bytes | None) -> None:
        client = self.any_of(who)
        if client is not None and client.session is not None and client.session.is_named:
            self.ask(client, b"/register " + (new if old is None else new + b" " + old), new)
            self.see()

    @rule(who=st.integers(0, 5))
    def token(self, who: int) -> None:
        client = self.any_of(who)
        # Each refusal before a name counts towards the third, which closes.
        if client is not None and client.session is not None and client.session.is_named:
            self.ask(client, b"/token", None)
            self.see()

    @rule(who=st.integers(0, 5), line=IN_ROOMS)
    def be_in_rooms(self, who: int, line: bytes) -> None:
        client = self.any_of(who)
        if client is not None and client.session is not None and client.session.is_named:
            client.send(line + b"\n")
            self.see()

    @rule(
        who=st.integers(0, 5),
        how=st.sampled_from([Client.end, Client.reset, lambda client: client.send(b"/quit\n")]),
    )
    def leave(self, who: int, how: Callable[[Client], None]) -> None:
        client = self.any_of(who)
        if client is not None:
            how(client)
            self.see()

    @rule(which=st.sampled_from(["storing", "hashing", "both", "both"]))
    def run_thread(self, which: str) -> None:
        if which == "both":
            self.run_all()
        else:
            threadpool: ManualThreadpool = getattr(self, which)
            if threadpool.pending:
                threadpool.run()
        self.see()

    @rule(
        name=st.sampled_from([b"a", b"b", b"kept"]),
        what=st.sampled_from(["add", "disable", "enable", "reset", "remove"]),
        secret=SECRETS,
    )
    def operate(self, name: bytes, what: str, secret: bytes) -> None:
        now_s = self.world.relay.wall_clock()
        accounts = self.accounts
        with self.beside.transaction():
            account = accounts.find(name)
            if what == "add":
                accounts.add(parse_name(name), quick_hash(secret), now_s)
                account = accounts.find(name)
                assert account is not None
                if account.secret_hash == quick_hash(secret):
                    token = make_token()
                    self.tokens[token] = secret
                    accounts.add_token(account.number, token_hash(token), now_s)
            elif account is None:
                return
            elif what == "reset":
                accounts.set_secret(account.number, quick_hash(secret), now_s)
            elif what == "remove":
                accounts.remove(account.number, now_s)
            else:
                accounts.set_disabled(account.number, what == "disable", now_s)

    @rule()
    def come_to_rest(self) -> None:
        """Everything is decided, and two seconds pass: nobody holds what is not his."""
        for _ in range(2):
            self.run_all()
            self.world.pass_time(1)
        self.run_all()
        self.see()
        registry = self.world.relay.registry
        for client in self.clients:
            session = client.session
            if session is None or session.state is not State.NAMED:
                continue
            assert not session.gate.held
            account = self.accounts.find(session.name.key)
            shown = self.shown[client]
            if account is None:
                assert registry.find(session.name.key) is session
                assert session.name.key != b"kept"
            else:
                assert not account.is_disabled
                # By what the clients have shown, whatever the relay keeps of it.
                secret = self.secret_behind(shown)
                assert secret is not None, "held without proof"
                assert account.secret_hash == quick_hash(secret), "held by another secret"
                self.counted["proven"] += 1

    @invariant()
    def rooms_are_what_they_have_to_be(self) -> None:
        check_rooms(self.world.relay)

    @invariant()
    def only_owners_share_a_name(self) -> None:
        registry = self.world.relay.registry
        named = [
            client.session
            for client in self.clients
            if client.session is not None and client.session.state is State.NAMED
        ]
        assert registry.client_count == len(named) <= LIMITS.max_clients
        for holder in registry:
            assert isinstance(holder, Devices) == (len(registry.devices(holder.name.key)) > 1)
            devices = registry.devices(holder.name.key)
            assert len(devices) == 1 or all(device.grant.is_proven for device in devices)
        assert sum(len(registry.devices(holder.name.key)) for holder in registry) == len(named)
        for written, recipient in registry.routes.items():
            if written.startswith(b"#"):
                continue  # `check_rooms` looks at those.
            key = parse_name(written).key
            # Its log, where that has to see what comes.
            assert recipient in (registry.find(key), self.world.relay.find(key))
        for written, mailbox in registry.logs.items():
            assert self.world.relay.find(parse_name(written).key) is mailbox
            assert not mailbox.reading.is_live

    def teardown(self) -> None:
        for client in self.clients:
            if client.is_connected:
                client.end()
        self.run_all()
        self.world.pass_time(11)
        self.run_all()
        check_rooms(self.world.relay)
        for room in self.world.relay.rooms:
            self.world.relay.rooms.keeping.unkeep(room, lambda: None, lambda _: None)
        self.run_all()
        assert what_is_left(self.world) == {}
        self.cleanups.close()


class AnyOrder(SynchronousTestCase):
    """The same under both runners: trial does not find a machine's own test case."""

    def test_owners_in_any_order(self) -> None:
        run_state_machine_as_test(
            Owners, settings=settings(max_examples=100, stateful_step_count=50, deadline=None)
        )
        # It has to reach what it is about.
        for what in ("proven", "!registered", "!welcome"):
            self.assertGreater(Owners.counted[what], 20, Owners.counted)
