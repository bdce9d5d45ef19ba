"""
What the benchmark counts where messages are confirmed is what the servers said.

No figure is looked at: these tests hold on a machine of any speed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import bench.__main__
from bench.confirming import CONFIRMING
from bench.confirming.base import Recipient
from bench.confirming.mail import Crowd, Mail, make_mail
from bench.dialects import mqtt_packet, mqtt_string
from bench.disk import file_system, is_in_memory, sync_times_us
from bench.generating import generate
from bench.naming import BrokenTrafficError
from bench.owned import Owned
from bench.process import Served
from bench.relay import Relay
from bench.relays import RELAYS
from bench.results import Results

CROWD = Crowd(senders=3, window=4, recipients=2)
NAMES = CROWD.sender_names + CROWD.recipient_names
TOKENS = dict.fromkeys(NAMES, "crt_x")
SIZE = 64


@dataclass
class Script:
    """
    What one server sends.

    :ivar confirm: to a sender whose messages with these numbers are confirmed.
    :ivar deliver: to a recipient that comes for these messages, senders and texts, some at a time.
    :ivar ack: to one that has acked so many of them at once.
    :ivar refusal: to either.
    """

    confirm: Callable[[int], bytes]
    begin: bytes
    deliver: Callable[[int, Sequence[tuple[str, bytes]]], bytes]
    ack: Callable[[int], bytes]
    refusal: bytes = b""


def _lines(first: int, messages: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(
        b"@id=a%d;again %%%b%%%b\n" % (number, sender.encode(), text)
        for number, (sender, text) in enumerate(messages, first)
    )


def _entries(first: int, messages: Sequence[tuple[str, bytes]]) -> bytes:
    entries = b"".join(
        b"*2\r\n$5\r\n%03d-1\r\n*2\r\n$4\r\n%b\r\n$%d\r\n%b\r\n"
        % (number, sender.encode(), len(text), text)
        for number, (sender, text) in enumerate(messages, first)
    )
    return b"*1\r\n*2\r\n$4\r\nr000\r\n*%d\r\n%b" % (len(messages), entries)


def _subjects(first: int, messages: Sequence[tuple[str, bytes]]) -> bytes:
    return b"PING\r\n".join(
        b"MSG m.r000 1 $JS.ACK.r000.r000.1.%d.%d.1.0 %d\r\n%b\r\n"
        % (number, number, len(text), text)
        for number, (_, text) in enumerate(messages, first)
    )


def _publishes(first: int, messages: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(
        mqtt_packet(0x32, mqtt_string(b"r000") + (number + 1).to_bytes(2, "big") + text)
        for number, (_, text) in enumerate(messages, first)
    )


SCRIPTS = {
    "lines": Script(
        lambda number: b"@ref=%07d !stored r000 id=a%d\n" % (number, number),
        b"!caps ack\n!welcome r000 version=1 :%NAME%TEXT sends TEXT to NAME.\n",
        _lines,
        lambda count: b"!acked a%d\n" % count,
        b"@ref=0000001 !error mailbox-full r000 :It is full.\n",
    ),
    "redis": Script(
        lambda number: b"$7\r\n17953-%d\r\n" % (number % 10),
        b"",
        _entries,
        lambda count: b":%d\r\n" % count,
        b"-ERR unknown command\r\n",
    ),
    "jetstream": Script(
        lambda number: (
            b'MSG _INBOX.s000.%07d 1 27\r\n{"stream":"r000","seq":%d}\r\n' % (number, number)
        ),
        b'INFO {"server_id":"a"} \r\n',
        _subjects,
        lambda _: b"MSG _INBOX.acks.r000 2 0\r\n\r\n",
        b'MSG _INBOX.s000.0000001 1 9\r\n{"error":{"code":503}}\r\n',
    ),
    "mqtt": Script(
        lambda number: b"\x40\x02" + (number + 1).to_bytes(2, "big"),
        b"\x20\x02\x01\x00",
        _publishes,
        lambda _: b"",
    ),
}


def mail_for(kind: str, messages: int = 120) -> Mail:
    return make_mail(CROWD, CONFIRMING[kind](TOKENS), SIZE, messages)


def messages_for(mail: Mail, recipient: int) -> list[tuple[str, bytes]]:
    """What one recipient is to get: all of the first sender, then of the second, and so on."""
    found = []
    for sender, (buffer, recipients) in enumerate(zip(mail.buffers, mail.to, strict=True)):
        for number, to in enumerate(recipients):
            if to == recipient:
                message = buffer[number * mail.message_bytes :][: mail.message_bytes]
                start = message.index(b"%03d>" % sender)
                found.append((CROWD.sender_names[sender], message[start : start + SIZE]))
    return found


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Something in pieces, each with where it ends."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        yield end, data[start:end]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)


class RecipientTests(SynchronousTestCase):
    """However what comes is cut, as many messages are counted, and as many acked."""

    @settings(max_examples=60, deadline=None)
    @given(CUTS)
    @example(list(range(1 << 13)))  # byte by byte
    def test_cut_anywhere(self, cuts: list[int]) -> None:
        for kind, script in SCRIPTS.items():
            messages = messages_for(mail_for(kind), 0)
            comer = CONFIRMING[kind](TOKENS).recipient("r000", SIZE)
            data = script.begin + script.deliver(0, messages[:7]) + script.deliver(7, messages[7:])
            ends = [data.index(text) + len(text) for _, text in messages]
            answers = []
            for read_bytes, piece in pieces(data, cuts):
                answers.append(comer.take(piece))
                # What has not come whole is not acked.
                self.assertLessEqual(comer.received, sum(end <= read_bytes for end in ends), kind)
            self.assertEqual(comer.received, len(messages), kind)
            said = [text for _, text in comer.texts()]
            self.assertEqual(said, [text for _, text in messages], kind)
            asked = [answer for answer in answers if answer]
            self.assertTrue(asked, kind)
            if kind == "lines":
                self.assertEqual(asked[-1], b"/ack a%d\n" % (len(messages) - 1))
                self.assertEqual(comer.acked, 0)
                self.acks(comer, b"".join(map(script.ack, range(len(asked)))), cuts)
            elif kind == "jetstream":
                last = len(messages) - 1
                self.assertIn(b"PUB $JS.ACK.r000.r000.1.%d.%d.1.0 " % (last, last), asked[-1])
                self.assertEqual(comer.acked, 0)
                self.acks(comer, b"".join(map(script.ack, range(len(asked)))), cuts)
            elif kind == "redis":
                self.assertEqual(b"".join(asked).count(b"-1\r\n"), len(messages))
                self.assertEqual(comer.acked, 0)
                self.acks(comer, script.ack(7) + script.ack(len(messages) - 7), cuts)
            else:
                acks = [b"\x40\x02\x00%c" % number for number in range(1, len(messages) + 1)]
                self.assertEqual(b"".join(asked), b"".join(acks))
            self.assertEqual(comer.acked, len(messages), kind)
            self.assertEqual([text for _, text in comer.texts()], said, kind)

    def acks(self, comer: Recipient, data: bytes, cuts: Iterable[int]) -> None:
        for _, piece in pieces(data, cuts):
            self.assertEqual(comer.take(piece), b"")

    def test_a_refusal_ends_it(self) -> None:
        for kind, refusal in (
            ("lines", b"!error bad-secret r000 :That is not its secret.\n"),
            ("redis", b"-NOGROUP No such key\r\n"),
            ("jetstream", b"-ERR 'Authorization Violation'\r\n"),
            ("mqtt", b"\x20\x02\x00\x05"),
            # Nothing was kept for it.
            ("mqtt", b"\x20\x02\x00\x00"),
        ):
            comer = CONFIRMING[kind](TOKENS).recipient("r000", SIZE)
            with self.assertRaises(BrokenTrafficError):
                comer.take(refusal)


class ConfirmationTests(SynchronousTestCase):
    """What is counted is what is confirmed."""

    def test_each_is_counted_once(self) -> None:
        for kind, script in SCRIPTS.items():
            confirming = CONFIRMING[kind](TOKENS)
            data = b"".join(map(script.confirm, range(9)))
            self.assertEqual(confirming.confirmed(data), list(range(9)), kind)
            marker = confirming.confirmation
            units = data.count(marker) if marker else len(data)
            self.assertEqual(units, 9 * confirming.in_each, kind)
            self.assertNotIn(confirming.refusal or b"\0\0\0", data)

    def test_a_refusal_is_none(self) -> None:
        for kind, script in SCRIPTS.items():
            confirming = CONFIRMING[kind](TOKENS)
            self.assertIn(confirming.refusal, script.refusal, kind)
            data = script.confirm(0) + (script.refusal or b"\xd0\x00")
            with self.assertRaises(ValueError):
                confirming.confirmed(data)


class MailTests(SynchronousTestCase):
    """What is wrong with what comes out of a mailbox is seen."""

    def came(self, mail: Mail) -> list[list[tuple[str | None, bytes]]]:
        return [[*messages_for(mail, recipient)] for recipient in range(CROWD.recipients)]

    def sent(self, mail: Mail) -> list[int]:
        return [mail.each] * CROWD.senders

    def test_all_well(self) -> None:
        for kind in SCRIPTS:
            mail = mail_for(kind)
            mail.verify(self.sent(mail), self.came(mail))
            self.assertEqual(sum(mail.expected(self.sent(mail))), 120)

    def test_what_was_not_sent_is_not_expected(self) -> None:
        mail = mail_for("lines")
        self.assertEqual(sum(mail.expected([1, 0, 2])), 3)
        with self.assertRaises(ValueError):
            mail.verify([mail.each, mail.each, mail.each - 1], self.came(mail))

    def test_wrong(self) -> None:
        def lost(came: list[tuple[str | None, bytes]]) -> None:
            del came[-1]

        def twice(came: list[tuple[str | None, bytes]]) -> None:
            came.append(came[-1])

        def changed(came: list[tuple[str | None, bytes]]) -> None:
            came[2] = (came[2][0], came[2][1].replace(b"#", b"$"))

        def out_of_order(came: list[tuple[str | None, bytes]]) -> None:
            came[0], came[1] = came[1], came[0]

        def of_another(came: list[tuple[str | None, bytes]]) -> None:
            came[0] = ("s002", came[0][1])

        mail = mail_for("lines")
        for harm in (lost, twice, changed, out_of_order, of_another):
            came = self.came(mail)
            harm(came[1])
            with self.assertRaises(ValueError, msg=harm.__name__):
                mail.verify(self.sent(mail), came)

    def test_refs_are_never_used_again(self) -> None:
        mail = mail_for("lines")
        for buffer in mail.buffers:
            refs = [line.split(b" ", 1)[0] for line in buffer.splitlines()]
            self.assertEqual(len(set(refs)), mail.each)


@contextmanager
def running(relay: Relay) -> Iterator[tuple[Served, dict[str, str]]]:
    """A server, and the tokens of the names it has."""
    if not relay.may_have_accounts:
        served = relay.start()
        try:
            yield served, {}
        finally:
            served.end()
        return
    owned = Owned(NAMES)
    try:
        with owned.started(relay) as started:
            yield started
    finally:
        owned.remove()


class ServerTests(SynchronousTestCase):
    """The generator against real servers, those that are installed."""

    def measured(self, relay: Relay, crowd: Crowd = CROWD, **task: Any) -> dict[str, Any]:
        with running(relay) as (served, tokens):
            return generate(relay, served, crowd=astuple(crowd), size=SIZE, tokens=tokens, **task)

    def kept(self) -> Iterator[Relay]:
        for name in ("chatrelay", "redis", "jetstream", "mosquitto-qos1"):
            if not RELAYS[name].is_missing:
                yield RELAYS[name]

    def test_stored_and_acked(self) -> None:
        for relay in self.kept():
            for acked in (False, True):
                found = self.measured(
                    relay, kind="confirmed", acked=acked, verified=30, messages=300, seconds=30.0
                )
                self.assertIsNone(found.get("error"), relay.label)
                self.assertEqual((found["verified"], found["messages"]), (30, 270), relay.label)
                self.assertGreater(found["rate"], 0)

    def test_time_ends_it(self) -> None:
        found = self.measured(
            RELAYS["chatrelay"],
            kind="confirmed", acked=False, verified=3, messages=3000, seconds=0.0,
        )  # fmt: skip
        self.assertIsNone(found.get("error"))
        # A window of each, which was underway by then.
        self.assertEqual(found["messages"], CROWD.senders * CROWD.window)

    def test_catching_up(self) -> None:
        crowd = Crowd(senders=3, window=4, recipients=1)
        for relay in self.kept():
            found = self.measured(relay, crowd, kind="catching_up", messages=300, settle_s=0.0)
            self.assertIsNone(found.get("error"), relay.label)
            self.assertEqual(found["messages"], 300, relay.label)
            self.assertEqual("read_s" in found, relay.name == "chatrelay")

    def test_a_full_mailbox_fails_the_row(self) -> None:
        relay = RELAYS["chatrelay"]
        owned = Owned(NAMES)
        self.addCleanup(owned.remove)
        with owned.started(relay, [("--max-mailbox", "100")]) as (served, tokens):
            found = generate(
                relay, served, crowd=astuple(CROWD), size=SIZE, tokens=tokens,
                kind="confirmed", acked=False, verified=3, messages=900, seconds=30.0,
            )  # fmt: skip
        self.assertIn("!error mailbox-full", found["error"])

    def test_owned_names_live(self) -> None:
        names = [f"{role}{number:03d}" for role in "sr" for number in range(4)]
        owned = Owned(names)
        self.addCleanup(owned.remove)
        relay = RELAYS["chatrelay-owned"]
        with owned.started(relay) as (served, tokens):
            found = generate(
                relay, served, kind="throughput", work="a", size=SIZE, verified=40,
                messages=400, seconds=1.0, tokens=tokens, has_history=True,
            )  # fmt: skip
        self.assertEqual((found.get("error"), found["messages"]), (None, 400))

    def test_a_history_that_is_not_there_fails_the_row(self) -> None:
        names = [f"{role}{number:03d}" for role in "sr" for number in range(4)]
        owned = Owned(names)
        self.addCleanup(owned.remove)
        relay = RELAYS["chatrelay-owned-no-history"]
        with owned.started(relay) as (served, tokens):
            found = generate(
                relay, served, kind="throughput", work="a", size=SIZE, verified=40,
                messages=400, seconds=1.0, tokens=tokens, has_history=True,
            )  # fmt: skip
        self.assertIn("asked for its history", found["error"])


class DiskTests(SynchronousTestCase):
    """Where things are kept."""

    def test_file_systems(self) -> None:
        self.assertEqual(file_system(Path("/proc/self")), "proc")
        self.assertNotEqual(file_system(Path("/")), "unknown")

    def test_memory_is_no_disk(self) -> None:
        self.assertEqual([is_in_memory(kind) for kind in ("tmpfs", "ext4")], [True, False])
        self.patch(bench.__main__, "file_system", lambda _directory: "tmpfs")
        self.patch(sys, "argv", ["bench", "--quick", "--work", "stored", "--relays", "redis"])
        refused = self.assertRaises(SystemExit, bench.__main__.main)
        self.assertIn("set TMPDIR", str(refused))

    def test_a_sync_takes_time(self) -> None:
        median_us, most_us = sync_times_us()
        self.assertGreater(median_us, 0)
        self.assertGreaterEqual(most_us, median_us)


class ComparedTests(SynchronousTestCase):
    """What the figures are compared with."""

    def test_with_the_best_of_each_round(self) -> None:
        results = Results()
        for number, (ours, redis, nats) in enumerate([(3e5, 2e5, 1e5), (3e5, 1e5, 4e5)]):
            results.add("stored", 64, "chatrelay", "chatrelay", number, {"rate": ours})
            results.add("stored", 64, "chatrelay-pure", "pure", number, {"rate": 9e9})
            results.add("stored", 64, "old", "old", number, {"rate": 8e9})
            found = {"rate": redis, "keeps": "on paper"}
            results.add("stored", 64, "redis", "Redis", number, found)
            results.add("stored", 64, "jetstream", "NATS", number, {"rate": nats})
        rows = {row["relay"]: row for row in results.as_json()["rows"]}
        compared = rows["chatrelay"]["figures"]["rate"]["to_compared"]
        self.assertEqual(compared, {"median": 1.125, "least": 0.75, "most": 1.5})
        table = results.table()
        self.assertIn("to the best other", table)
        self.assertRegex(table, r"the message is\n +Redis +on paper\n")

    def test_history_is_compared_with_no_data(self) -> None:
        results = Results()
        for name, rate in (("chatrelay-no-data", 2e6), ("chatrelay-free", 1.9e6)):
            results.add("history", 64, name, name, 0, {"rate": rate})
        rows = {row["relay"]: row for row in results.as_json()["rows"]}
        self.assertEqual(rows["chatrelay-free"]["figures"]["rate"]["to_compared"]["median"], 0.95)

    def test_the_disk_is_told(self) -> None:
        results = Results()
        results.note_disk(0, "ext4", 180.0, 400.0)
        results.note_disk(1, "ext4", 220.0, 800.0)
        self.assertIn("On ext4, 64 bytes appended are synced in 200 microseconds", results.table())
