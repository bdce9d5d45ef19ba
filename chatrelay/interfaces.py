"""The few seams of the relay that have more than one implementer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from zope.interface import Attribute, Interface

from chatrelay.console import Peer
from chatrelay.flow import Backlog, Gate, Readable
from chatrelay.names import Name

if TYPE_CHECKING:
    from chatrelay.stamps import Stamp


class Recipient(Protocol):
    """
    Whoever holds a name: a client's session, several of them, or a bot.

    :ivar name: the name it holds.
    :ivar connected_s: since when, in seconds since the epoch.
    """

    @property
    def name(self) -> Name:
        """The name it holds."""

    @property
    def connected_s(self) -> float:
        """Since when it is here, in seconds since the epoch."""

    def idle_s(self) -> float:
        """For how long nothing came from it, in seconds."""

    def includes(self, other: Recipient) -> bool:
        """Whether it is another one, or has it among its connections."""

    @property
    def account(self) -> int:
        """The number of the account that owns its name, as `chatrelay.mailbox.shares` has it."""

    def deliver(
        self,
        sender: Recipient,
        text: bytes,
        stamp: Stamp | None = None,
        asker: Recipient | None = None,
    ) -> None:
        """
        Hand over one message.

        :param sender: who wrote it, and whom an answer goes to.
        :param text: clean text, not empty, as long as a line at most.
        :param stamp: the message's, if somebody else gets the same one.
        :param asker: who is held if the recipient takes too little; the sender if not given.
        :raises Refusal: it does not take it.
        """


class RunRecipient(Recipient, Protocol):
    """A recipient that takes what one sender wrote to it in one run at once."""

    @property
    def takes_runs(self) -> bool:
        """Whether it does so now."""

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> int:
        """
        Hand over messages in their order, as `deliver` would one after the other.

        :param lines: ``%SENDER%TEXT`` each, LF after each.
        :param count: how many.
        :returns: the id of the first one, or 0 if they were given none.
        :raises Refusal: it takes none of them.
        """


class Connected(Protocol):
    """
    A session, as far as all of them are spoken to at once.

    :ivar peer: where its client comes from.
    """

    peer: Peer

    def tick(self, elapsed_s: float) -> None:
        """A second has passed."""

    def is_idle(self, since_s: float) -> bool:
        """Whether its client could have sent something all the time since then, and did not."""

    def end_idle(self) -> None:
        """Its client was idle for too long."""

    def shut_down(self) -> None:
        """The relay stops."""

    def failed(self) -> None:
        """Serving it raised an exception."""


class Listener(Protocol):
    """
    A connection, as far as a room writes to it.

    :ivar outbox: what is to be sent to it.
    :ivar gate: whether it is read.
    :ivar eol: how lines to it end.
    :ivar caps: what it asked to have added.
    :ivar messages_out: messages delivered to it.
    """

    outbox: Backlog
    gate: Gate
    eol: bytes
    caps: frozenset[bytes]
    messages_out: int

    @property
    def wants_echo(self) -> bool:
        """Whether it is to be shown what its own name says."""

    def answer(self, line: bytes, ref: bytes) -> None:
        """Write a line of the relay's own."""


class Device(RunRecipient, Connected, Listener, Protocol):
    """
    One connection of a name that may have several.

    :ivar is_echoed: whether another one is shown what this one sends.
    """

    is_echoed: bool

    def new_stamp(self) -> Stamp:
        """Make the stamp of one message."""

    def deliver_copy(
        self, sender: Recipient, text: bytes, stamp: Stamp, asker: Recipient | None
    ) -> None:
        """Hand over what another device was handed too, with the same stamp."""

    def echo(self, sender: Recipient, target: bytes, text: bytes, stamp: Stamp) -> None:
        """
        Show what another device sent.

        :param target: whom it was sent to, as it was written.
        """

    def message_acked(self, recipient: Name, ref: bytes, message_id: int) -> None:
        """Somebody acked a message, that this one has sent if it knows its ref."""

    def give_up_reserved(self) -> None:
        """Leave, if the name was given without proof: it is reserved now."""

    def give_up_unproven(self) -> None:
        """Leave, if the name was given without proof: its owner is here."""

    def account_gone(self) -> None:
        """Leave: there is no account of its name any more."""

    def revoke(self, revision: int) -> None:
        """Leave, if the name was granted on what was revoked with `revision`."""


class Door(NamedTuple):
    """
    Where a client came in.

    :ivar name: the kind of port and its number, as ``tls:12346``, or ``unix``.
    :ivar is_tls: whether the relay itself speaks TLS with the client.
    """

    name: str
    is_tls: bool


class Connection(Readable, Protocol):
    """
    What a session asks of the door that its client came through.

    :ivar is_waiting: whether it waits for its turn, and is not read.
    :ivar counted_network: what counts as its address where addresses are counted; ``None`` if it
        is not counted.
    """

    is_waiting: bool
    counted_network: str | None

    @property
    def door(self) -> Door:
        """Which one that is."""

    def named(self) -> None:
        """The client has a name; nothing more has to time out."""

    def wait_for_turn(self) -> None:
        """Take nothing more from the peer in this turn."""

    def close(self, grace_s: float, *, lingers: bool = True) -> None:
        """
        Close once everything is written, or after `grace_s` all the same.

        :param lingers: wait until the peer has closed too, so that it surely reads the last
            of it; not for whom there is no room.
        """

    def abort(self) -> None:
        """Close now, whatever is not written."""

    def give_way(self) -> None:
        """The same, for one that closes already: there are too many."""


class IBot(Interface):
    """
    A named participant that lives in the server (docs/bots.rst).

    A provider that also provides `twisted.plugin.IPlugin` and stands in a module
    below ``twisted/plugins/`` is found by its name.
    """

    name = Attribute("The name it is reached under, a string that is a valid name.")
    description = Attribute("What it does, one line for the list of bots.")

    def started(relay):  # type: ignore[no-untyped-def]  # noqa: ANN201, N805 - zope's way
        """
        The relay runs.

        :param relay: a `chatrelay.bots.BotRelay`, to write to clients unasked.
        """

    def message_received(message):  # type: ignore[no-untyped-def]  # noqa: ANN201, N805 - zope's way
        """
        A client wrote to the bot.

        What is raised here is logged with the bot's name; the client's connection
        and the relay go on.

        :param message: a `chatrelay.bots.BotMessage`.
        """

    def stopped():  # type: ignore[no-untyped-def]  # noqa: ANN201 - zope's way
        """The relay stops: cancel what is waiting."""
