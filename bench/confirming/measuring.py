"""What a generator measures of a server that keeps messages."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from bench.confirming.base import Confirming, Recipient
from bench.confirming.mail import Crowd, Mail, make_mail
from bench.confirming.traffic import Traffic
from bench.dialects import Dialect, Step
from bench.naming import BrokenTrafficError, Connection, Door, close_all, name_all
from bench.process import Used


def confirmed(confirming: Confirming, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Send messages with a window for about ``seconds``, and count what was confirmed.

    With ``acked`` the recipients are there and ack what they get, and a message counts once both
    have happened.  Without, they come afterwards.  The task has the ``crowd``, as the
    arguments of `Crowd`, ``size``, ``verified`` and the most ``messages`` to be sent.

    Before that, some messages are sent whose confirmations are looked at one by one; after it,
    all messages are, at their recipients.
    """
    mail = make_mail(Crowd(*task["crowd"]), confirming, task["size"], task["messages"])
    recipients = _prepare(confirming, door, mail)
    senders = _begin_sending(confirming, door, mail)
    present = recipients if task["acked"] else []
    with _traffic(confirming, door, mail, senders, present) as traffic:
        verified = _verify_confirmations(confirming, traffic, task["verified"])
        _let_receive(traffic, mail)
        used, began_s = Used(task["pid"]), time.perf_counter()
        traffic.send(mail.each, stop_after_s=task["seconds"])
        _let_receive(traffic, mail)
        took_s = time.perf_counter() - began_s
        server_s, shares = used.since(took_s)
        sent = [sender.sent for sender in traffic.senders]
    close_all(senders)
    if not present:
        with _traffic(confirming, door, mail, [], recipients) as traffic:
            traffic.receive(mail.expected(sent), acked=False)
    mail.verify(sent, [recipient.texts() for recipient in recipients])
    messages = sum(sent) - verified
    return {
        "verified": verified,
        "messages": messages,
        "seconds": took_s,
        "rate": messages / took_s,
        "server_cpu_s": server_s,
        **shares,
        "cpu_s_per_million": server_s / messages * 1e6,
    }


def catching_up(confirming: Confirming, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Fill a mailbox with ``messages``, and let its recipient come for them.

    Once it acks, and where that is not all there is, once more without.  The time begins before
    the connection is made.
    """
    crowd = Crowd(*task["crowd"])
    [name] = crowd.recipient_names
    comers = {
        "acked_s": confirming.recipient(name, task["size"]),
        "read_s": confirming.reader(name, task["size"]),
    }
    turns = {key: comer for key, comer in comers.items() if comer is not None}
    mail = make_mail(crowd, confirming, task["size"], task["messages"] * len(turns))
    each = mail.each // len(turns)
    found: dict[str, Any] = {"messages": each * crowd.senders}
    _prepare(confirming, door, mail)
    senders = _begin_sending(confirming, door, mail)
    with _traffic(confirming, door, mail, senders, []) as filling:
        for turn, (key, comer) in enumerate(turns.items(), start=1):
            filling.send(each * turn)
            time.sleep(task["settle_s"])
            began_s = time.perf_counter()
            with _traffic(confirming, door, mail, [], [comer]) as coming:
                coming.receive([each * crowd.senders], acked=False)
                found[key] = time.perf_counter() - began_s
                if key == "acked_s":
                    coming.receive([each * crowd.senders], acked=True)
    close_all(senders)
    came = chain.from_iterable(comer.texts() for comer in turns.values())
    mail.verify([each * len(turns)] * crowd.senders, [came])
    return found


class _Role(Dialect):
    """A dialect of those who take these steps."""

    def __init__(self, steps: dict[str, list[Step]], refusal: bytes) -> None:
        self._steps = steps
        self.refusal = refusal

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        return list(self._steps[name])


def _prepare(confirming: Confirming, door: Door, mail: Mail) -> list[Recipient]:
    """Make the mailboxes; return who is to come for what will be in them."""
    names = mail.crowd.recipient_names
    steps = {name: confirming.preparing(name) for name in names}
    if all(steps.values()):
        close_all(name_all(door, _Role(steps, confirming.refusal), names))
    return [confirming.recipient(name, mail.size) for name in names]


def _begin_sending(confirming: Confirming, door: Door, mail: Mail) -> list[Connection]:
    names = mail.crowd.sender_names
    steps = {name: confirming.sending(name) for name in names}
    return name_all(door, _Role(steps, confirming.refusal), names)


@contextmanager
def _traffic(
    confirming: Confirming,
    door: Door,
    mail: Mail,
    senders: Sequence[Connection],
    recipients: Iterable[Recipient],
) -> Iterator[Traffic]:
    """The connections of these recipients are made, and closed at the end."""
    ends: dict[Connection, Recipient] = {}
    traffic = None
    try:
        for recipient in recipients:
            end = socket.create_connection(("127.0.0.1", door.port))
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
            ends[end] = recipient
        traffic = Traffic(confirming, mail, senders, ends)
        yield traffic
    except OSError as error:
        raise BrokenTrafficError(f"the server cut a connection: {error}") from None
    finally:
        if traffic is not None:
            traffic.close()
        close_all(ends)


def _let_receive(traffic: Traffic, mail: Mail) -> None:
    if traffic.recipients:
        traffic.receive(mail.expected([sender.sent for sender in traffic.senders]), acked=True)


def _verify_confirmations(confirming: Confirming, traffic: Traffic, messages: int) -> int:
    """Send the first so many messages; return how many they were."""
    each = max(1, messages // len(traffic.senders))
    traffic.send(each, keep=True)
    for sender in traffic.senders:
        numbers = confirming.confirmed(bytes(sender.kept or b""))
        if sorted(numbers) != list(range(each)):
            raise ValueError(f"{len(numbers)} confirmations of {each} messages: {numbers[:20]}")
    return each * len(traffic.senders)
