"""
The benchmark's generator tells the truth, on a scale of hundreds of messages.

No figure is looked at: these tests hold on a machine of any speed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench.certificate import write_certificate
from bench.dialects import DIALECTS
from bench.logins import owned_names
from bench.owned import Owned
from bench.relay import CHECKOUT, Relay
from bench.relays import RELAYS
from bench.results import Results
from bench.returning import measure_return
from bench.secured import Secured, client_context
from bench.traffic import PATTERNS, make_plan, make_text, verify

_WAIT_S = 100.0


def generate(relay: Relay, **task: Any) -> dict[str, Any]:
    """Start a relay, let the generator measure it once, and end it."""
    served = relay.start()
    try:
        task |= relay.task(served)
        generator = subprocess.run(
            [sys.executable, "-m", "bench.generator"],
            cwd=CHECKOUT,
            env=os.environ,
            input=json.dumps(task) + "\n",
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=True,
        )
    finally:
        served.end()
    found: dict[str, Any] = json.loads(generator.stdout)
    return found


class GeneratorTests(SynchronousTestCase):
    """The generator against relays."""

    def test_chatrelay_at_random(self) -> None:
        found = generate(
            RELAYS["chatrelay"],
            kind="throughput", work="b", size=64, verified=400, messages=2000, seconds=1.0,
        )  # fmt: skip
        self.assertEqual((found.get("error"), found["verified"]), (None, 400))
        self.assertEqual(found["messages"], 2000)
        self.assertGreater(found["rate"], 0)

    def test_reference_peer_in_pairs(self) -> None:
        found = generate(
            RELAYS["streams"],
            kind="throughput", work="a", size=16, verified=400, messages=800, seconds=1.0,
        )  # fmt: skip
        self.assertEqual((found.get("error"), found["verified"]), (None, 400))
        self.assertEqual(found["messages"], 800)

    def test_over_tls(self) -> None:
        for name in ("chatrelay-tls", "nats-tls"):
            if RELAYS[name].is_missing:
                continue
            found = generate(
                RELAYS[name],
                kind="throughput", work="b", size=1024, verified=400, messages=2000, seconds=1.0,
            )  # fmt: skip
            self.assertEqual((found.get("error"), found["verified"]), (None, 400), name)
            self.assertEqual((found["messages"], found["tls"][:4]), (2000, "TLSv"), name)

    def test_unparsed_over_tls(self) -> None:
        found = generate(
            RELAYS["forward-tls"],
            kind="throughput", work="f", size=64, verified=400, messages=800, seconds=1.0,
        )  # fmt: skip
        self.assertEqual((found.get("error"), found["messages"]), (None, 800))

    def test_round_trips(self) -> None:
        found = generate(RELAYS["threads"], kind="round_trips", size=16, trips=50, seconds=30.0)
        self.assertEqual((found.get("error"), found["trips"]), (None, 50))
        self.assertLessEqual(found["p50_us"], found["p99_us"])

    def test_round_trips_unparsed(self) -> None:
        found = generate(RELAYS["forward"], kind="round_trips", size=16, trips=50, seconds=30.0)
        self.assertEqual((found.get("error"), found["trips"]), (None, 50))

    def test_connections(self) -> None:
        found = generate(RELAYS["plain"], kind="connections", count=200, at_once=20, settle_s=0.0)
        self.assertEqual((found.get("error"), found["count"]), (None, 200))

    def test_logins(self) -> None:
        found = generate(RELAYS["chatrelay"], kind="logins", count=4, seconds=0.0)
        self.assertEqual((found.get("error"), found["count"]), (None, 4))
        self.assertGreater(found["token_rate"], 0)
        self.assertGreater(found["secret_rate"], 0)

    def test_return_of_all(self) -> None:
        owned = Owned(owned_names(4))
        self.addCleanup(owned.remove)
        for owned_first in (True, False):
            found = measure_return(
                RELAYS["chatrelay"], owned, owned_first=owned_first, settle_s=0.0
            )
            self.assertEqual((found.get("error"), found["count"]), (None, 4))
            self.assertEqual(found["ratio"], found["owned_s"] / found["free_s"])

    def test_a_refused_login_fails_the_row(self) -> None:
        # Nobody owns this name.
        found = generate(
            RELAYS["chatrelay"],
            kind="return_of_all", tokens={"o00000": "crt_x"}, owned_first=True,
            at_once=1, settle_s=0.0,
        )  # fmt: skip
        self.assertIn("o00000 was told b'!error ", found["error"])

    def test_relay_that_is_no_relay(self) -> None:
        # Whatever a sender sends goes to one and the same.
        found = generate(
            RELAYS["forward"],
            kind="throughput", work="b", size=16, verified=400, seconds=1.0, stalled_s=1.0,
        )  # fmt: skip
        self.assertIn("error", found)


class SecuredTests(SynchronousTestCase):
    """A connection over TLS does as a socket does, for a loop that waits with epoll."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        certificate, key = write_certificate(Path(directory.name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        plain, self.peer = socket.socketpair()
        for end in (plain, self.peer):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.secured = Secured(plain, client_context(str(certificate)))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.assertFalse(self.secured.handshake())
        self.pump()
        with self.assertRaises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.pump()
        self.assertTrue(self.secured.feed())
        self.assertTrue(self.secured.handshake())
        self.pump()
        self.tls.do_handshake()

    def pump(self) -> None:
        """Carry what there is, both ways."""
        with contextlib.suppress(BlockingIOError):
            while data := self.peer.recv(1 << 20):
                self.incoming.write(data)
        if self.outgoing.pending:
            self.peer.sendall(self.outgoing.read())

    def received(self) -> bytes:
        """What the peer reads of what has come."""
        self.pump()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while more := self.tls.read(1 << 20):
                data += more
        return data

    def test_a_piece_that_does_not_fit_is_given_again(self) -> None:
        # A socket pair holds less than this.
        piece = memoryview(bytes(range(256)) * 4096)
        self.assertEqual(self.secured.send(piece), 0)
        with self.assertRaises(BlockingIOError):
            self.secured.send(b"PONG\r\n")
        received, sent = self.received(), 0
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                sent = self.secured.send(piece)
            received += self.received()
            if sent:
                break
        self.assertEqual(sent, len(piece))
        self.assertTrue(received == piece, "another text arrived")
        self.assertEqual(self.secured.send(b"PONG\r\n"), 6)
        self.assertEqual(self.received(), b"PONG\r\n")

    def test_one_read_takes_all_that_came(self) -> None:
        # Several records, and a part of another.
        data = bytes(range(256)) * 400
        self.tls.write(data)
        self.tls.write(b"the end")
        encrypted = self.outgoing.read()
        self.peer.sendall(encrypted[:-5])
        buffer = bytearray(1 << 18)
        self.assertEqual(self.secured.recv_into(buffer), len(data))
        self.assertTrue(buffer[: len(data)] == data, "another text arrived")
        self.peer.sendall(encrypted[-5:-2])
        self.assertIsNone(self.secured.recv_into(buffer))
        self.peer.sendall(encrypted[-2:])
        self.assertEqual(self.secured.recv(1 << 18), b"the end")

    def test_closed(self) -> None:
        self.peer.close()
        # What TLS still had to say comes first.
        buffer = bytearray(1 << 18)
        self.assertIn(0, [self.secured.recv_into(buffer) for _ in range(2)])


class VerifyTests(SynchronousTestCase):
    """What is wrong with what arrived is seen, in every dialect."""

    def received(self, name: str) -> tuple[Any, Any, list[bytes]]:
        """A plan, and what its receivers get if all goes well."""
        dialect, pattern = DIALECTS[name](), PATTERNS["b"]
        plan = make_plan(pattern, dialect, 16, 200)
        data = [b""] * pattern.receivers
        sent: dict[tuple[int, int], int] = {}
        for sender, buffer in enumerate(plan.buffers):
            at = 0
            while at < len(buffer):
                for receiver in range(pattern.receivers):
                    number = sent.get((sender, receiver), 0)
                    text = make_text(sender, receiver, number, 16)
                    line = dialect.message(pattern.receiver_names[receiver], text)
                    if buffer.startswith(line, at):
                        break
                else:
                    self.fail(f"nobody was to send {buffer[at : at + 80]!r}")
                at += len(line)
                sent[sender, receiver] = number + 1
                names = pattern.sender_names[sender], pattern.receiver_names[receiver]
                data[receiver] += dialect.delivered(*names, text)
        return dialect, plan, data

    def test_all_well(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            verify(PATTERNS["b"], dialect, plan, data)

    def test_lost(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] = data[3][: len(data[3]) - len(data[3]) // plan.expected[3]]
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_twice(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] += data[3][: len(data[3]) // plan.expected[3]]
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_changed(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] = data[3].replace(b"#0000000.", b"#0000000,", 1)
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_out_of_order(self) -> None:
        dialect, plan, data = self.received("lines")
        data[3] = b"".join(reversed(data[3].splitlines(keepends=True)))
        with self.assertRaises(ValueError):
            verify(PATTERNS["b"], dialect, plan, data)


class PlanTests(SynchronousTestCase):
    """Plans."""

    def test_repeats_are_counted(self) -> None:
        plan = make_plan(PATTERNS["c"], DIALECTS["nats"](), 64, 1_000_000)
        self.assertGreater(plan.repeats, 1)
        lines = sum(buffer.count(b"PUB ") for buffer in plan.buffers)
        self.assertEqual(plan.messages, lines * plan.repeats)
        self.assertAlmostEqual(plan.messages / 1_000_000, 1.0, places=1)

    def test_texts_have_their_size(self) -> None:
        for size in (16, 64, 1024):
            for number in range(100):
                text = make_text(1, 999, number, size)
                self.assertEqual((len(text), text.strip()), (size, text))


class ResultsTests(SynchronousTestCase):
    """Ratios, medians and remarks."""

    def results(self) -> Results:
        """Three rounds of two relays; the second failed once."""
        results = Results()
        for number, (ours, nats) in enumerate([(2e6, 1e6), (3e6, 2e6), (1e6, None)]):
            shares = {"server_share": 0.5, "generator_share": 0.97}
            results.add("a", 64, "chatrelay", "chatrelay", number, {"rate": ours, **shares})
            found = {"error": "it is tired"} if nats is None else {"rate": nats, **shares}
            results.add("a", 64, "nats", "nats-server", number, found)
        return results

    def test_ratio_is_of_the_same_round(self) -> None:
        rows = self.results().as_json()["rows"]
        self.assertEqual(
            rows[0]["figures"]["rate"]["to_nats"], {"median": 1.75, "least": 1.5, "most": 2.0}
        )

    def test_over_tls_it_is_compared_over_tls(self) -> None:
        results = self.results()
        for number, (ours, nats) in enumerate([(1e6, 2e6), (1e6, 4e6)]):
            results.add("a", 64, "chatrelay-tls", "chatrelay, TLS", number, {"rate": ours})
            results.add("a", 64, "nats-tls", "nats-server, TLS", number, {"rate": nats})
        row = next(row for row in results.as_json()["rows"] if row["relay"] == "chatrelay-tls")
        figures = row["figures"]["rate"]
        self.assertEqual(figures["to_nats"], {"median": 0.375, "least": 0.25, "most": 0.5})
        self.assertEqual(figures["to_unsecured"]["least"], 1 / 3)
        self.assertIn("0.42 (0.33..0.50) of that without TLS", results.table())

    def test_table(self) -> None:
        table = self.results().table()
        self.assertIn("1.75 (1.50..2.00)", table)
        self.assertIn("the generator is the bottleneck", table)
        self.assertIn("it is tired", table)
