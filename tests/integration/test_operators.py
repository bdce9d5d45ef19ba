"""Operators, with real processes and sockets: every door, bans of addresses, restarts."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.relay_process import (
    DEADLINE_S,
    Address,
    Client,
    RelayProcess,
    RelayTestCase,
    environment,
    eventually,
)
from tests.tls_harness import Files

SECRET = "correct-horse-battery"


class OperatorTests(RelayTestCase):
    """A relay with a port of each kind, and an operator, alice, who comes over loopback."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.data = self.directory / "data"
        self.tool("add", "alice")
        self.relay_process = self.start()
        self.alice = self.operator()

    def tool(self, *arguments: str) -> str:
        """Run the accounts tool; what it prints."""
        command = [sys.executable, "-m", "chatrelay.accounts", "--data", str(self.data)]
        return subprocess.run(
            [*command, *arguments],
            env=environment() | {"CHATRELAY_SECRET": SECRET},
            check=True,
            stdout=subprocess.PIPE,
            timeout=DEADLINE_S,
            text=True,
        ).stdout

    def start(self) -> RelayProcess:
        files = Files(self.directory)
        self.context = None
        self.unix = str(self.directory / "socket")
        relay = self.relay(
            *("--data", str(self.data), "--operator", "alice"),
            *("--port", "tcp:0:interface=127.0.0.1"),
            *("--port", "haproxy:tcp:0:interface=127.0.0.1"),
            "--port",
            f"tls:0:interface=127.0.0.1:certificate={files.certificate}:key={files.key}",
            *("--port", f"unix:{self.unix}"),
        )
        self.tls_context = ssl.create_default_context(cafile=str(files.authority))
        self.tcp, self.proxy, self.tls = relay.ports(3)
        relay.wait_for_log("registered names and their messages are kept")
        return relay

    def operator(self) -> Client:
        alice = self.connect(self.tcp)
        alice.send(f"alice {SECRET}")
        alice.expect("!welcome")
        return alice

    def through_proxy(self, host: str, name: str = "") -> Client:
        """Who comes from an address that a proxy tells."""
        client = self.connect(self.proxy)
        family = "TCP6" if ":" in host else "TCP4"
        relay_host = "2001:db8::ffff" if ":" in host else "192.0.2.255"
        client.send_bytes(f"PROXY {family} {host} {relay_host} 50000 12345\r\n".encode())
        if name:
            client.send(name)
        return client

    def test_every_door(self) -> None:
        tls = Client(self.tls, "over-tls", context=self.tls_context)
        self.addCleanup(tls.close)
        address: Address = self.unix
        self.connect(address, "over-unix")
        self.through_proxy("203.0.113.7", "over-proxy").expect("!welcome")
        for name, words in [
            ("alice", f"address=127.0.0.1 port={self.alice.port} door=tcp:{self.tcp[1]} tls=no"),
            ("over-tls", f"address=127.0.0.1 port={tls.port} door=tls:{self.tls[1]} tls=yes"),
            ("over-unix", "address=- port=0 door=unix tls=no"),
            ("over-proxy", f"address=203.0.113.7 port=50000 door=proxy:{self.proxy[1]} tls=no"),
        ]:
            self.alice.send(f"/clients {name}")
            line, end = self.alice.lines(2)
            self.assertTrue(line.startswith(f"!client {name} {words} since="), line)
            self.assertEqual(end, "!end clients 1")

    def test_bans_of_addresses(self) -> None:
        mallory = self.through_proxy("203.0.113.7", "mallory")
        mallory.expect("!welcome")
        carol = self.through_proxy("2001:db8::7", "carol")
        carol.expect("!welcome")
        self.alice.send("/ban 203.0.113.0/24 2h flood", "/ban 2001:db8:1::/48", "/ban 127.0.0.1")
        self.assertRegex(self.alice.line(), r"\A!banned 203\.0\.113\.0/24 until=\S+ connections=1")
        self.assertEqual(self.alice.line(), "!banned 2001:db8:1::/48 until=never connections=0")
        self.assertRegex(self.alice.line(), r"\A!error not-allowed :")
        (last,) = mallory.rest()
        self.assertRegex(last, r"\A!error not-allowed :Your address is banned until .* UTC: flood")
        carol.ping()
        for restart in range(2):
            for host, is_banned in [
                ("203.0.113.99", True),
                ("::ffff:203.0.113.99", True),
                ("203.0.114.1", False),
                ("2001:db8:1:2::3", True),
                ("2001:db8:2::3", False),
            ]:
                client = self.through_proxy(host, "somebody")
                beginning = "!error not-allowed :" if is_banned else "!welcome somebody"
                self.assertTrue(client.line().startswith(beginning), (restart, host))
                if is_banned:
                    self.assertEqual(client.rest(), [])
                else:
                    client.send("/quit")
                    self.assertEqual(client.rest(), ["!bye"])
            if not restart:
                self.relay_process.signal(signal.SIGKILL)
                self.relay_process.wait()
                os.unlink(self.unix)
                self.relay_process = self.start()

    def test_what_the_accounts_tool_takes_back(self) -> None:
        self.alice.send("/ban mallory")
        self.alice.expect("!banned mallory")
        client = self.connect(self.tcp)
        client.send("mallory")
        client.expect("!error not-allowed mallory")
        self.assertIn("\nmallory  for good", self.tool("bans"))
        self.assertIn("mallory is not banned any more", self.tool("unban", "mallory"))

        def is_free() -> bool:
            trying = self.connect(self.tcp)
            trying.send("mallory")
            return trying.line().startswith("!welcome")

        eventually("mallory is free again", is_free)
        self.alice.send("/ban")
        self.assertEqual(self.alice.line(), "!end ban 0")

    def test_what_is_logged(self) -> None:
        self.connect(self.tcp, "bob")
        self.alice.send("%*%to \N{RIGHT-TO-LEFT OVERRIDE}all", "/kick bob out", "/stats")
        self.alice.expect("!end stats")
        where = rf"operator alice at 127\.0\.0\.1 port {self.alice.port}: "
        for what in (r"%\*%to \\u202eall", "/kick bob out", "/stats"):
            self.relay_process.wait_for_log(where + what + "$")
