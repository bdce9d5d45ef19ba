"""Owned names with a real relay: hostile logins, a full disk, what a secret leaves behind."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.integration.relay_process import (
    Client,
    RelayProcess,
    RelayTestCase,
    environment,
    eventually,
    run_twistd,
)
from tests.tls_harness import Files

SECRET = "correct-horse-battery"
WRONG_SECRETS = 10_000
_LINES_AT_ONCE = 500


class OwnedCase(RelayTestCase):
    """A relay with a name that alice owns."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-data-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name) / "data"

    def start(self, *options: str) -> RelayProcess:
        """Start a relay with the data of this test."""
        relay = self.relay("--data", str(self.directory), *options)
        relay.address()
        return relay

    def register(self, relay: RelayProcess, name: str = "alice") -> Client:
        client = self.connect(relay.address(), name)
        client.send(f"/register {SECRET}")
        client.expect(f"!registered {name}")
        return client

    def claim(self, relay: RelayProcess, line: str, source: str | None = None) -> str:
        """What answers a first line, as far as its code and context go."""
        client = self.connect(relay.address(), source=source)
        client.send(line)
        answer = client.line().partition(" :")[0]
        client.close()
        return answer

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the accounts tool beside the relay."""
        return subprocess.run(
            [sys.executable, "-m", "chatrelay.accounts", "--data", str(self.directory), *arguments],
            env=environment() | {"CHATRELAY_SECRET": SECRET},
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            check=True,
        )


class HostileLogins(OwnedCase):
    """Whoever does not know the secret does not get in, and does not keep its owner out."""

    def setUp(self) -> None:
        super().setUp()
        self.started = self.start()
        owner = self.register(self.started)
        owner.send("/token")
        self.token = owner.line().split()[1]
        owner.close()
        self.answers: list[str] = []

    def guess(self, source: str, count: int) -> None:
        """Try wrong secrets from one address, as fast as they are answered."""
        guesser = Client(self.started.address(), source=source)
        try:
            guesser.send(f"guesser-{source}-{threading.get_ident()}"[:32])
            guesser.expect("!welcome ")
            while count > 0:
                lines = min(count, _LINES_AT_ONCE)
                guesser.send(*["/name alice hunter2hunter2"] * lines)
                self.answers += guesser.lines(lines)
                count -= lines
        finally:
            guesser.close()

    def attack(self, sources: list[str]) -> list[threading.Thread]:
        each = WRONG_SECRETS // len(sources)
        threads = [threading.Thread(target=self.guess, args=(source, each)) for source in sources]
        for thread in threads:
            thread.start()
            self.addCleanup(thread.join)
        return threads

    def check_attack(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.answers), WRONG_SECRETS)
        codes = {answer.split()[1] for answer in self.answers}
        self.assertLessEqual(codes, {"bad-secret", "rate-limited", "busy"})
        tried = sum(answer.startswith("!error bad-secret") for answer in self.answers)
        # Five for nothing and one after each wait: 10,000 would be seven minutes of hashing.
        self.assertLess(tried, 50)

    def log_in_during(self, sources: list[str], claim: str, source: str = "127.0.0.1") -> None:
        threads = self.attack(sources)
        eventually("the attack is under way", lambda: len(self.answers) >= _LINES_AT_ONCE)
        self.assertTrue(self.claim(self.started, claim, source).startswith("!welcome alice "))
        self.check_attack(threads)

    def test_ten_thousand_from_one_address(self) -> None:
        self.log_in_during(["127.0.0.2"], f"alice {SECRET}")

    def test_ten_thousand_from_many_addresses(self) -> None:
        sources = [f"127.0.1.{number}" for number in range(1, 21)]
        self.log_in_during(sources, f"alice {SECRET}")

    def test_ten_thousand_from_the_owners_own_address(self) -> None:
        # His secret waits with theirs; a token does not.
        self.log_in_during(["127.0.0.1"], f"alice {self.token}")

    def test_other_names_of_an_address_that_guesses(self) -> None:
        bob = self.register(self.started, "bob")
        bob.close()
        self.log_in_during(["127.0.0.1"], f"alice {self.token}")
        self.assertTrue(self.claim(self.started, f"bob {SECRET}").startswith("!welcome bob "))

    def test_a_secret_of_a_megabyte(self) -> None:
        client = self.connect(self.started.address())
        client.send("alice " + "x" * 1_000_000)
        self.assertTrue(client.line().startswith("!error line-too-long "))
        client.send(f"alice {SECRET}")
        client.expect("!welcome alice ")


class Traces(OwnedCase):
    """What a secret leaves behind: a slow hash, and nothing else."""

    def test_no_secret_in_the_log_or_on_the_disk(self) -> None:
        relay = self.start("--verbose")
        alice = self.register(relay)
        alice.send("/token", f"/regster {SECRET}", f"/register {SECRET}x {SECRET}", "/name")
        token = alice.expect("!token ").split()[1]
        alice.expect("!registered alice")
        self.claim(relay, f"alice {SECRET}")
        self.claim(relay, f"Alice {SECRET}y")
        self.claim(relay, f"nobody {SECRET}")
        relay.wait_for_log("^a wrong secret for alice from 127.0.0.1$")
        relay.signal(signal.SIGTERM)
        relay.wait()
        kept = b"".join(path.read_bytes() for path in self.directory.iterdir())
        for secret in (SECRET, token):
            self.assertNotIn(secret, relay.output)
            self.assertNotIn(secret.encode(), kept)

    def test_it_is_kept_once_it_is_said(self) -> None:
        relay = self.start()
        self.register(relay)
        relay.signal(signal.SIGKILL)
        relay.wait()
        again = self.start()
        self.assertEqual(self.claim(again, "alice"), "!error name-owned alice")
        self.assertTrue(self.claim(again, f"alice {SECRET}").startswith("!welcome alice "))

    def test_through_a_proxy_no_address_is_this_machines(self) -> None:
        relay = self.start("--port", "haproxy:tcp:0:interface=127.0.0.1")
        client = self.connect(relay.address())
        client.send_bytes(b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 12345\r\n")
        client.send("alice")
        client.expect("!welcome ")
        client.send(f"/register {SECRET}", "/token")
        for _ in range(2):
            self.assertTrue(client.line().startswith("!error insecure :"))

    def test_through_a_proxy_tls_below_changes_nothing(self) -> None:
        self.directory.mkdir()
        files = Files(self.directory)
        relay = self.start(
            "--port",
            f"haproxy:ssl:0:interface=127.0.0.1:privateKey={files.key}:certKey={files.certificate}",
        )
        context = ssl.create_default_context(cafile=str(files.authority))
        client = Client(relay.address(), context=context)
        self.addCleanup(client.close)
        client.send_bytes(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 12345\r\n")
        client.send("alice")
        client.expect("!welcome ")
        client.send(f"/register {SECRET}")
        self.assertTrue(client.line().startswith("!error insecure :"))

    def test_what_was_sent_before_tls_ended_arrives(self) -> None:
        """A claim waits for the accounts while the end of TLS is there already."""
        self.directory.mkdir()
        files = Files(self.directory)
        certificate = f"certificate={files.certificate}:key={files.key}"
        relay = self.start("--port", f"tls:0:interface=127.0.0.1:{certificate}")
        context = ssl.create_default_context(cafile=str(files.authority))
        bob = Client(relay.address(), "bob", context=context)
        self.addCleanup(bob.close)
        for number in range(10):
            carol = Client(relay.address(), context=context)
            carol.send(f"carol{number}", f"%bob%{number}")
            with contextlib.suppress(ssl.SSLError, OSError):
                carol.socket.unwrap()
            carol.close()
            self.assertEqual(bob.line(), f"%carol{number}%{number}")

    def test_over_a_unix_socket(self) -> None:
        path = self.directory.parent / "relay.sock"
        relay = self.relay("--data", str(self.directory), "--port", f"unix:{path}")
        relay.wait_for_log("listens on the Unix socket")
        client = self.connect(str(path), "alice")
        client.send(f"/register {SECRET}")
        client.expect("!registered alice")


class Operating(OwnedCase):
    """The accounts tool beside a running relay, and a second relay beside the first."""

    def test_what_the_tool_does_is_true_at_once_and_closes_within_seconds(self) -> None:
        relay = self.start()
        self.tool("add", "alice")
        alice = self.connect(relay.address(), f"alice {SECRET}")
        self.tool("disable", "alice")
        self.assertEqual(self.claim(relay, f"alice {SECRET}"), "!error bad-secret alice")
        self.assertTrue(alice.rest()[-1].startswith("!error bad-secret alice :"))
        self.tool("enable", "alice")
        again = self.connect(relay.address(), f"alice {SECRET}")
        self.tool("remove", "alice")
        self.assertTrue(again.rest()[-1].startswith("!error bad-secret alice :"))
        self.connect(relay.address(), "alice")

    def test_a_second_relay_of_the_same_data(self) -> None:
        relay = self.start()
        second = run_twistd(["--data", str(self.directory), "--port", "tcp:0"])
        output, _ = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 1)
        last = output.decode().splitlines()[-1]
        self.assertIn(str(relay.pid), last)
        self.assertIn("--data", last)
        self.assertNotIn("Traceback", output.decode())

    def test_data_that_is_none(self) -> None:
        self.directory.mkdir()
        (self.directory / "chatrelay.sqlite3").write_bytes(b"SQLite format 3\0 and then something")
        second = run_twistd(["--data", str(self.directory), "--port", "tcp:0"])
        output, _ = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(self.directory), output.decode().splitlines()[-1])
        self.assertNotIn("Traceback", output.decode())


class FullDisk(OwnedCase):
    """What can not be written is refused; everything else goes on."""

    def limit_files(self, relay: RelayProcess, size: int) -> None:
        """Let the relay write files up to so many bytes only."""
        _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (size, hard))

    def test_live_relaying_goes_on(self) -> None:
        relay = self.start()
        alice, bob = self.register(relay), self.connect(relay.address(), "bob")
        self.limit_files(relay, 0)
        bob.send(f"/register {SECRET}")
        self.assertTrue(bob.line().startswith("!error store-failed :"))
        alice.send("/token")
        self.assertTrue(alice.line().startswith("!error store-failed :"))
        relay.wait_for_log("the accounts in .* can not be read or written: ")
        bob.send("%alice%still here")
        alice.expect("%bob%still here")
        # What was written can be read: the owner comes in, and nobody else.
        self.assertTrue(self.claim(relay, f"alice {SECRET}").startswith("!welcome alice "))
        self.assertEqual(self.claim(relay, "alice"), "!error name-owned alice")
        self.assertTrue(self.claim(relay, "carol").startswith("!welcome carol "))
        self.limit_files(relay, resource.RLIM_INFINITY)
        bob.send(f"/register {SECRET}")
        self.assertEqual(bob.line(), "!registered bob")

    def test_a_burst_of_claims_from_one_who_resets(self) -> None:
        relay = self.start()
        self.register(relay).close()
        for _ in range(200):
            client = Client(relay.address())
            client.send(f"alice {SECRET}")
            client.reset()
        watcher = self.connect(relay.address(), "watcher")

        def nobody_is_left() -> bool:
            watcher.send("/who alice")
            return watcher.expect("!end who ") == "!end who 0"

        eventually("nobody is left", nobody_is_left)
        with socket.create_connection(relay.address()) as plain:
            plain.sendall(b"zoe\n")
            self.assertTrue(plain.recv(100).startswith(b"!welcome zoe "))
