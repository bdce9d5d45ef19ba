"""The units that ship: systemd understands them, and the relay takes the sockets they open."""

from __future__ import annotations

import configparser
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.internet.endpoints import quoteStringArgument
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.integration.relay_process import CHECKOUT, Client, RelayProcess, RelayTestCase
from tests.tls_harness import Files

UNITS = sorted((CHECKOUT / "docs" / "systemd").iterdir())
SERVICE = next(path for path in UNITS if path.suffix == ".service")
SOCKETS = [path for path in UNITS if path.suffix == ".socket"]
# Those of the relay that are no connections.
OTHER_FILES = 64
INSTALLED = "/usr/local/lib/chatrelay/bin/"


def settings(unit: Path, section: str) -> configparser.SectionProxy:
    """A section of a unit."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    # systemd joins lines that end with a backslash.
    parser.read_string(unit.read_text("utf-8").replace("\\\n", " "))
    return parser[section]


def options_of_the_service() -> list[str]:
    """What ExecStart gives the relay."""
    command = settings(SERVICE, "Service")["ExecStart"].split()
    return command[command.index("chatrelay") + 1 :]


def has_ipv6() -> bool:
    """Whether this machine has the loopback of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class UnitTests(SynchronousTestCase):
    """What stands in them."""

    def test_systemd_understands_them(self) -> None:
        if shutil.which("systemd-analyze") is None:
            self.skipTest("there is no systemd-analyze; install the package systemd")
        directory = Path(tempfile.mkdtemp(prefix="chatrelay-units-"))
        self.addCleanup(shutil.rmtree, directory)
        # What is started has to be there.
        (directory / "twistd").symlink_to(sys.executable)
        for unit in UNITS:
            text = unit.read_text("utf-8").replace(INSTALLED, f"{directory}/")
            (directory / unit.name).write_text(text, "utf-8")
        paths = [str(directory / unit.name) for unit in UNITS]
        result = subprocess.run(
            ["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False
        )
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_its_directory_is_the_one_that_systemd_gives_it(self) -> None:
        options = options_of_the_service()
        directory = Path(options[options.index("--data") + 1])
        self.assertEqual(directory.parent, Path("/var/lib"))
        self.assertEqual(settings(SERVICE, "Service")["StateDirectory"], directory.name)

    def test_it_may_open_as_many_files_as_it_wants(self) -> None:
        limits = Limits()
        wanted = limits.max_clients + limits.max_unnamed + OTHER_FILES
        self.assertGreaterEqual(int(settings(SERVICE, "Service")["LimitNOFILE"]), wanted)

    def test_each_socket_is_one_of_the_ports(self) -> None:
        ports = set(re.findall(r"systemd:(\S+)", " ".join(options_of_the_service())))
        opened = set()
        for unit in SOCKETS:
            stream = settings(unit, "Socket")["ListenStream"]
            domain = "INET6" if stream.startswith("[") else "INET"
            opened.add(f"domain={domain}:name={settings(unit, 'Socket')['FileDescriptorName']}")
        self.assertEqual(ports, opened)
        names = settings(SERVICE, "Service")["Sockets"].split()
        self.assertEqual(sorted(names), sorted(unit.name for unit in SOCKETS))


class HandedOverTests(RelayTestCase):
    """A relay that is handed its sockets, as systemd does it."""

    def setUp(self) -> None:
        super().setUp()
        self.plain = self.listen(socket.AF_INET, "127.0.0.1")
        # Some machines have no IPv6: there it is another one of IPv4.
        self.second_domain = "INET6" if has_ipv6() else "INET"
        family = socket.AF_INET6 if has_ipv6() else socket.AF_INET
        self.with_tls = self.listen(family, "::1" if has_ipv6() else "127.0.0.1")
        self.directory = Path(tempfile.mkdtemp(prefix="chatrelay-systemd-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.files = Files(self.directory)
        self.configuration = self.directory / "chatrelay.toml"
        self.configuration.touch()

    def listen(self, family: socket.AddressFamily, host: str) -> socket.socket:
        listening = socket.socket(family)
        self.addCleanup(listening.close)
        listening.bind((host, 0))
        listening.listen()
        return listening

    def start(self) -> RelayProcess:
        """Start the relay as the unit does, but with this test's certificate."""
        certificate, key = (
            quoteStringArgument(str(file)) for file in (self.files.certificate, self.files.key)
        )
        options = [
            option.replace("INET6", self.second_domain)
            + (f":certificate={certificate}:key={key}" if "tls:" in option else "")
            for option in options_of_the_service()
        ]
        options[options.index("--data") + 1] = str(self.directory / "data")
        options[options.index("--config") + 1] = str(self.configuration)
        # In another order than that of the options: names count.
        relay = RelayProcess(
            *options, inherited={"chatrelay-tls": self.with_tls, "chatrelay": self.plain}
        )
        self.addCleanup(relay.end)
        return relay

    def test_both_ports(self) -> None:
        relay = self.start()
        relay.ports(2)
        address = self.plain.getsockname()[:2]
        alice = self.connect(address, "alice")
        context = ssl.create_default_context(cafile=str(self.files.authority))
        bob = Client(self.with_tls.getsockname()[:2], "bob", context=context)
        self.addCleanup(bob.socket.close)
        bob.send("/register correct-horse")
        bob.expect("!registered bob")
        bob.send("%alice%over TLS")
        self.assertEqual(alice.line(), "%bob%over TLS")

    def test_it_reads_its_configuration_again(self) -> None:
        relay = self.start()
        self.connect(self.plain.getsockname()[:2], "alice")
        self.configuration.write_text("[limits]\nmax-clients = 1\n")
        relay.signal(signal.SIGHUP)
        relay.wait_for_log("limits.max-clients is 1 now, it was ")
        bob = Client(self.plain.getsockname()[:2])
        self.addCleanup(bob.socket.close)
        bob.send("bob")
        bob.expect("!error too-many-clients ")

    def test_one_of_another_domain(self) -> None:
        wrong = [("chatrelay", "systemd:domain=INET6:name=chatrelay", "INET", self.plain)]
        if has_ipv6():
            other = "systemd:domain=INET:name=chatrelay-tls"
            wrong.append(("chatrelay-tls", other, "INET6", self.with_tls))
        for name, port, right, listening in wrong:
            relay = RelayProcess("--data", "none", "--port", port, inherited={name: listening})
            self.addCleanup(relay.end)
            self.assertEqual(relay.wait(), 1)
            self.assertEqual(
                relay.output.splitlines()[-1],
                f"chatrelay: --port {port!r}: that socket is one of domain={right}",
            )

    def test_who_comes_while_it_is_restarted_waits(self) -> None:
        address = self.plain.getsockname()[:2]
        early = Client(address)
        self.addCleanup(early.socket.close)
        early.send("alice", "%alice%before it was there")
        first = self.start()
        early.expect("!welcome alice ")
        self.assertEqual(early.line(), "%alice%before it was there")
        first.signal(signal.SIGTERM)
        self.assertEqual(first.wait(), 0)
        between = Client(address)
        self.addCleanup(between.socket.close)
        between.send("alice", "%alice%between the two")
        self.start()
        between.expect("!welcome alice ")
        self.assertEqual(between.line(), "%alice%between the two")
