"""
One relay: what all its sessions share, and what happens to all of them at once.

Everything here is given time as an argument or as a clock, and knows no reactor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from twisted.logger import Logger

from chatrelay.acquaintances import Acquaintances
from chatrelay.admission import Admission, NotAdmitted
from chatrelay.bans import CHANGED, Bans
from chatrelay.claims import Claims, FreeNames
from chatrelay.console import Console, Peer
from chatrelay.flow import Flow
from chatrelay.idle import Idle
from chatrelay.ids import Ids
from chatrelay.interfaces import Connected, Recipient
from chatrelay.limits import Limits
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.seams import Mailboxes
from chatrelay.names import Name, parse_name
from chatrelay.registry import Registry
from chatrelay.rooms.directory import Rooms
from chatrelay.rooms.everyone import Everyone
from chatrelay.statistics import Statistics

_log = Logger(namespace="chatrelay")


class Relay:
    """
    What the sessions of one relay share.

    :ivar limits: the bounds, all of them.
    :ivar registry: the names and who holds them.
    :ivar rooms: the rooms and who is in them.
    :ivar acquaintances: who has exchanged messages with whom, on a public relay.
    :ivar everyone: everybody who is connected with a name.
    :ivar flow: back-pressure and the memory of all outboxes.
    :ivar console: what the operator reads.
    :ivar claims: who decides on names.
    :ivar ids: the ids of messages.
    :ivar mailboxes: the logs of owned names; ``None`` where nothing is kept.
    :ivar admission: the counts of connections.
    :ivar bans: who is kept out.
    :ivar statistics: what has been done since the start.
    :ivar allows_insecure_secrets: whether secrets are taken on any connection.
    :ivar is_public: whether strangers are expected: who is here is then told only to those who
        share a room or have exchanged messages.
    :ivar operators: the keys of the names whose owners may do what an operator may; holding
        one without an account is nothing, as nobody can.
    :ivar sessions: everybody who is connected, with a name or without.
    :ivar pinging: those of them that want to be asked when they are silent.
    """

    def __init__(  # noqa: PLR0913 - all but one by name, all with a default
        self,
        limits: Limits | None = None,
        *,
        seconds: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        reserved: Iterable[Name] = (),
        operators: Iterable[Name] = (),
        claims: Claims | None = None,
        allows_insecure_secrets: bool = False,
        is_public: bool = False,
        verbose: bool = False,
    ) -> None:
        """
        Begin with nobody connected.

        :param seconds: a clock that never jumps.
        :param wall_clock: seconds since the epoch, for what people and programs are shown.
        :param reserved: names that no client may claim without an account.
        :param operators: names of operators, which are reserved, too.
        :param claims: who decides on names; `FreeNames` if not given.
        :param allows_insecure_secrets: whether secrets are taken where others could read them.
        :param is_public: whether strangers are expected.
        :param verbose: whether the console shows every relayed message.
        """
        self.limits = limits or Limits()
        self.seconds = seconds
        self.wall_clock = wall_clock
        operators = [*operators]
        self.operators = {name.key for name in operators}
        self.registry = Registry([*reserved, *operators], self.limits)
        self.flow = Flow(self.limits, seconds)
        self.console = Console(self.limits, verbose=verbose)
        self.claims: Claims = claims or FreeNames()
        self.allows_insecure_secrets = allows_insecure_secrets
        self.is_public = is_public
        self.bans = Bans(wall_clock)
        self.admission = Admission(self.limits, seconds, self.bans)
        self.statistics = Statistics(seconds())
        self.sessions: dict[Connected, None] = {}
        self.pinging: dict[Connected, None] = {}
        self._idle = Idle()
        self.ids = Ids()
        self.rooms = Rooms(self)
        self.acquaintances = Acquaintances()
        self.registry.follower = self
        self.everyone = Everyone(self)
        self.mailboxes: Mailboxes | None = None
        self._ticked_s = seconds()

    def keep(self, mailboxes: Mailboxes, ids: Ids) -> None:
        """From now on there are logs of owned names."""
        self.mailboxes, self.ids = mailboxes, ids
        self.registry.mailbox_of = mailboxes.find

    def reserve(self, reserved: Iterable[Name], operators: Iterable[Name]) -> None:
        """
        Keep back these names from now on, and no others; the parameters are as at the beginning.

        Who holds one of them without having shown that it is his is closed.
        """
        operators = [*operators]
        self.operators = {name.key for name in operators}
        for device in self.registry.reserve([*reserved, *operators]):
            self.guard(device, device.give_up_reserved)

    def find(self, key: bytes) -> Recipient | None:
        """Who takes what is sent to the name with this key."""
        if self.mailboxes is None or self.registry.is_bot(key):
            # A bot's name may have an account from before there was the bot.
            return self.registry.find(key)
        return self.mailboxes.find(key) or self.registry.find(key)

    def renew_route(self, key: bytes, log: tuple[bytes, Mailbox | None]) -> None:
        """
        Let the quick path find an owned name, or not, as it is now.

        :param log: how the name is written, and the log if what is sent to it goes there.
        """
        self.registry.renew_routes(key)
        written, mailbox = log
        if mailbox is not None:
            self.registry.logs[written] = mailbox
        else:
            self.registry.logs.pop(written, None)

    def may_see(self, viewer_key: bytes, key: bytes) -> bool:
        """Whether one name may learn that another one is here; each is the key of a name."""
        return (
            not self.is_public
            or viewer_key == key
            or viewer_key in self.operators
            or self.registry.is_bot(key)
            or self.rooms.do_share(viewer_key, key)
            or self.acquaintances.do_know(viewer_key, key)
        )

    def have_met(self, sender_key: bytes, recipient_key: bytes) -> None:
        """Something that one name sent reached another one, or its log."""
        if self.is_public:
            self.acquaintances.note(sender_key, recipient_key)

    def gone(self, name: Name) -> None:
        """Nobody has a name any more."""
        self.rooms.gone(name)
        if self.mailboxes is None or not self.mailboxes.is_owned(name.key):
            # It may be somebody else's next.
            self.acquaintances.forget(name.key)

    def renewed(self, key: bytes) -> None:
        """The connections of a name, its account, or what they are written, have changed."""
        self.rooms.renewed(key)

    def account_gone(self, account: int, key: bytes) -> None:
        """There is no account of this number any more, which the name with this key had."""
        for device in self.registry.devices(key):
            if device.account == account:
                # Its next owner may be here before it would be revoked, and is not it.
                self.guard(device, device.account_gone)
        self.rooms.account_gone(account, key)
        self.acquaintances.forget(key)

    def tell_acked(self, sender: bytes, recipient: Name, ref: bytes, message_id: int) -> None:
        """Tell a sender whose name nobody owns that a message was acked."""
        for device in self.registry.devices(parse_name(sender).key):
            device.message_acked(recipient, ref, message_id)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.wall_clock() * 1000)

    @staticmethod
    def timestamp(milliseconds_since_epoch: int) -> bytes:
        """Write a time as protocol and people read it: UTC, milliseconds."""
        moment = datetime.fromtimestamp(milliseconds_since_epoch / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode("ascii")

    def tick(self) -> None:
        """Do what is due once a second: slow clients, silent ones, lines that were summed up."""
        now_s = self.seconds()
        elapsed_s, self._ticked_s = now_s - self._ticked_s, now_s
        self.flow.tick()
        self.admission.told.tick()
        for session in list(self.pinging):
            self.guard(session, partial(session.tick, elapsed_s))
        timeout_s = self.limits.idle_timeout_s
        for session in self._idle.tick(self.sessions, timeout_s, now_s, elapsed_s):
            self.guard(session, session.end_idle)
        self.claims.tick(self._account_changed)
        if self.mailboxes is not None:
            self.mailboxes.tick()
        self.bans.tick()
        self.console.tick()

    def revoke(self, key: bytes, revision: int) -> None:
        """Close the connections that were granted a name before its account changed."""
        for device in self.registry.devices(key):
            self.guard(device, partial(device.revoke, revision))

    def turned_away(self, peer: Peer, refused: NotAdmitted) -> bool:
        """Count and log a connection that may not stay; returns whether it may be told why."""
        self.console.turned_away(peer, refused.why)
        if not self.admission.told.refuse(peer.host):
            return False
        self.statistics.refusals[refused.refusal.code] += 1
        return True

    def _account_changed(self, key: bytes, revision: int) -> None:
        if key == CHANGED:
            self.bans.read_again()
            return
        self.revoke(key, revision)
        if self.mailboxes is not None:
            self.mailboxes.refresh(key)

    def shut_down(self) -> None:
        """Tell every client that the relay stops, and let each go once it has read that."""
        for session in list(self.sessions):
            self.guard(session, session.shut_down)
        self.console.shut_down()

    @staticmethod
    def guard(session: Connected, call: Callable[[], None]) -> None:
        """Do something for one session; what it raises is logged, and closes that one."""
        try:
            call()
        except Exception:
            # It ends this client at most; the others have their turn too.
            _log.failure("serving {peer} failed; its connection is closed", peer=session.peer)
            session.failed()
