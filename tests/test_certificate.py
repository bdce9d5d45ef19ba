"""``python -m chatrelay.certificate``: an authority, and certificates that clients take."""

from __future__ import annotations

import contextlib
import datetime
import io
import ipaddress
import ssl
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.certificate import __main__ as tool
from chatrelay.certificate import names as naming
from chatrelay.certificate.authority import AUTHORITY_DAYS, SERVER_DAYS, issue, make_authority
from chatrelay.certificate.files import alone_in, default_directory, replace
from chatrelay.certificate.names import names_of_this_machine, shown_names, subject_name
from chatrelay.certificate.pair import read_pair
from chatrelay.errors import Misuse
from tests.integration.relay_process import environment

NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)
FILES = {"ca.pem": 0o644, "ca-key.pem": 0o600, "certificate.pem": 0o644, "key.pem": 0o600}


class NameTests(SynchronousTestCase):
    """Names and addresses, as people write them."""

    def test_names(self) -> None:
        for written, read in (
            ("localhost", "localhost"),
            ("Relay.Example", "relay.example"),
            ("relay.example.", "relay.example"),
            ("*.relay.example", "*.relay.example"),
            ("my_host", "my_host"),
            ("a" * 63 + ".example", "a" * 63 + ".example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("2001:DB8::0001", "2001:db8::1"),
        ):
            self.assertEqual(shown_names([subject_name(written)]), [read])

    def test_what_is_none(self) -> None:
        for written in (
            *("", ".", "a..b", "-a", "a-", "a b", "a/b", "300.1.1.1", "1.2.3", "1"),
            *("*", "*.", "*.lan", "a.*.example", "**.example", "a" * 64, "a." * 127 + "example"),
            *("%bob", "https://relay.example", "relay.example:12346", "a\nb", "\u202e.example"),
            *("fe80::1%eth0", "127.0.0.1/8"),
        ):
            error = self.assertRaises(Misuse, subject_name, written)
            self.assertTrue(str(error).isascii() and str(error).isprintable(), str(error))

    def test_of_this_machine(self) -> None:
        names = shown_names(names_of_this_machine())
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({"localhost", "127.0.0.1", "::1"}, set(names))

    def test_a_machine_with_a_name_that_no_certificate_can_have(self) -> None:
        for host, full, expected in (
            ("my host", "my host", []),
            ("relay", "relay.example", ["relay", "relay.example"]),
            ("relay", "localhost.localdomain", ["relay"]),
            ("relay", "1.2.0.192.in-addr.arpa", ["relay"]),
        ):
            with (
                mock.patch.object(naming.socket, "gethostname", return_value=host),
                mock.patch.object(naming.socket, "getfqdn", return_value=full),
                mock.patch.object(naming.socket, "socket", side_effect=OSError),
            ):
                names = shown_names(names_of_this_machine())
            self.assertEqual(names, ["localhost", *expected, "127.0.0.1", "::1"])


class AuthorityTests(SynchronousTestCase):
    """What it signs."""

    def setUp(self) -> None:
        self.authority = make_authority("vm", NOW)

    def test_clients_take_it(self) -> None:
        names = [subject_name(name) for name in ("relay.example", "192.0.2.1")]
        issued = issue(self.authority, names, NOW)
        store = Store([self.authority.certificate])
        for subject in names:
            # A policy as strict as browsers have.
            verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(subject)
            self.assertEqual(len(verifier.verify(issued.certificate, [])), 2)

    def test_how_long(self) -> None:
        names = [subject_name("localhost")]
        self.assertEqual(
            self.authority.certificate.not_valid_after_utc - NOW,
            datetime.timedelta(days=AUTHORITY_DAYS),
        )
        for now, days, left_days in (
            (NOW, SERVER_DAYS, SERVER_DAYS),
            (NOW, 1, 1),
            # No longer than the authority itself.
            (NOW + datetime.timedelta(days=AUTHORITY_DAYS - 5), 30, 5),
        ):
            certificate = issue(self.authority, names, now, days).certificate
            self.assertEqual(
                certificate.not_valid_after_utc - now, datetime.timedelta(days=left_days)
            )
            self.assertLess(certificate.not_valid_before_utc, now)
        late = NOW + datetime.timedelta(days=AUTHORITY_DAYS)
        self.assertRaises(Misuse, issue, self.authority, names, late)

    def test_a_host_with_a_long_name(self) -> None:
        make_authority("x" * 300, NOW)
        issue(self.authority, [subject_name(".".join(["x" * 60] * 4))], NOW)


class ToolTests(SynchronousTestCase):
    """The tool, in a directory."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = Path(directory.name)
        self.directory = self.state / "chatrelay" / "tls"

    def run_tool(self, *arguments: str) -> tuple[int, str, str]:
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            status = tool.main(arguments, {"XDG_STATE_HOME": str(self.state), "HOME": "/nowhere"})
        return status, output.getvalue(), errors.getvalue().replace(f"{self.directory}/", "")

    def made(self, *arguments: str) -> str:
        status, output, errors = self.run_tool(*arguments)
        self.assertEqual((status, errors), (0, ""))
        return output

    def refused(self, *arguments: str) -> str:
        before = self.contents()
        status, output, errors = self.run_tool(*arguments)
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(self.contents(), before)
        self.assertRegex(errors, r"\Achatrelay\.certificate: [^\n]+\.\n\Z")
        return errors

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.glob("*")}

    def certificate(self) -> x509.Certificate:
        return read_pair(self.directory / "certificate.pem", self.directory / "key.pem").certificate

    def names(self) -> list[str]:
        return shown_names(naming.names_of(self.certificate()))

    def test_the_first_time(self) -> None:
        output = self.made()
        self.assertEqual(
            {path.name: path.stat().st_mode & 0o777 for path in self.directory.iterdir()}, FILES
        )
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.assertLessEqual({"localhost", "127.0.0.1", "::1"}, set(self.names()))
        self.assertIn(
            "twistd -n chatrelay --port 12345 --port tls:12346:interface=0.0.0.0\n", output
        )
        self.assertIn(f"--ca {self.directory}/ca.pem", output)

    def test_renewed(self) -> None:
        self.made("relay.example", "192.0.2.1")
        first, certificate = self.contents(), self.certificate()
        self.assertIn("kept", self.made())
        second = self.contents()
        self.assertEqual(
            {name for name in FILES if first[name] != second[name]}, {"certificate.pem", "key.pem"}
        )
        # The names stay, if none are given.
        self.assertEqual(self.names(), ["relay.example", "192.0.2.1"])
        self.assertNotEqual(self.certificate().serial_number, certificate.serial_number)
        self.made("other.example")
        self.assertEqual(self.names(), ["other.example"])

    def test_a_certificate_may_be_removed(self) -> None:
        self.made("relay.example")
        for name in ("certificate.pem", "key.pem"):
            (self.directory / name).unlink()
        self.made("other.example")
        self.assertEqual(self.names(), ["other.example"])

    def test_the_ssl_module_takes_it(self) -> None:
        self.made("relay.example", "127.0.0.1")
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.directory / "certificate.pem", self.directory / "key.pem")
        for name, is_taken in (("relay.example", True), ("127.0.0.1", True), ("other", False)):
            one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
            ends = [
                context.wrap_bio(one, other, server_hostname=name),
                server.wrap_bio(other, one, server_side=True),
            ]
            try:
                for _ in range(3):
                    for end in ends:
                        with contextlib.suppress(ssl.SSLWantReadError):
                            end.do_handshake()
            except ssl.SSLCertVerificationError:
                self.assertFalse(is_taken, name)
            else:
                self.assertTrue(is_taken, name)

    def test_an_authority_is_never_replaced(self) -> None:
        for broken, contents, words in (
            ("ca-key.pem", None, "ca.pem is there, but ca-key.pem is not. Put that back"),
            ("ca.pem", None, "ca-key.pem is there, but ca.pem is not"),
            ("ca.pem", b"", "the authority in ca.pem can not be used"),
            ("ca.pem", b"rubbish", "the authority in ca.pem can not be used"),
            ("ca-key.pem", b"rubbish", "the authority in ca.pem can not be used"),
            ("ca.pem", "certificate.pem", "the authority in ca.pem can not be used"),
            ("ca-key.pem", "key.pem", "its key is not the one of its certificate"),
            ("ca.pem", "other", "its key is not the one of its certificate"),
        ):
            self.made()
            path = self.directory / broken
            good = path.read_bytes()
            if contents is None:
                path.unlink()
            elif contents == "other":
                path.write_bytes(make_authority("vm", NOW).certificate_pem)
            elif isinstance(contents, str):
                path.write_bytes((self.directory / contents).read_bytes())
            else:
                path.write_bytes(contents)
            self.assertIn(words, self.refused())
            path.write_bytes(good)

    def test_a_certificate_for_an_authority(self) -> None:
        self.made()
        for name, source in (("ca.pem", "certificate.pem"), ("ca-key.pem", "key.pem")):
            (self.directory / name).write_bytes((self.directory / source).read_bytes())
        self.assertIn("it is not an authority's", self.refused())

    def test_an_authority_that_has_ended(self) -> None:
        self.made()
        late = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=AUTHORITY_DAYS + 1)
        error = self.assertRaises(Misuse, tool.make, self.directory, [], 1, late)
        self.assertIn("it ended on", str(error))

    def test_a_certificate_of_somebody_else_is_not_replaced(self) -> None:
        self.directory.mkdir(parents=True)
        issued = issue(make_authority("vm", NOW), [subject_name("a.example")], NOW)
        certificate, key = self.directory / "certificate.pem", self.directory / "key.pem"
        certificate.write_bytes(issued.chain_pem)
        self.assertIn(
            "certificate.pem is there, and the authority in ca.pem did not", self.refused()
        )
        certificate.unlink()
        key.write_bytes(issued.key_pem)
        self.assertIn("key.pem is there, and the authority in ca.pem did not", self.refused())
        key.unlink()
        self.made()
        certificate.write_bytes(issued.chain_pem)
        self.assertIn("certificate.pem is there, and", self.refused())
        certificate.write_bytes(b"rubbish")
        self.assertIn("certificate.pem is there, and", self.refused())

    def test_what_the_command_line_may_not_be(self) -> None:
        for arguments, words in (
            (["--days", "0"], "--days '0': it takes a whole number from 1 to 3653"),
            (["--days", "3654"], "--days '3654'"),
            (["--days", "1.5"], "--days '1.5'"),
            (["--days", "\u0661"], "--days '\\u0661'"),
            (["--nosuch"], "nosuch"),
            (["a b"], "'a b' is neither a host name"),
        ):
            status, output, errors = self.run_tool(*arguments)
            self.assertEqual((status, output), (2, ""), arguments)
            self.assertIn(words, errors)
            self.assertTrue(errors.endswith(". Try --help.\n"), errors)
        self.assertFalse(self.directory.exists())

    def test_a_directory_that_can_not_be(self) -> None:
        (self.state / "file").write_bytes(b"")
        status, _, errors = self.run_tool("--directory", str(self.state / "file"))
        self.assertEqual(status, 1)
        self.assertIn("/file: ", errors)

    def test_another_directory_is_named_in_the_advice(self) -> None:
        other = self.state / "a b:c"
        output = self.made("-d", str(other), "localhost")
        quoted = str(other).replace(":", r"\:")
        self.assertIn(
            "--port 'tls:12346:interface=0.0.0.0"
            f":certificate={quoted}/certificate.pem:key={quoted}/key.pem'",
            output,
        )
        self.assertIn(f"--ca '{other}/ca.pem'", output)

    def test_a_replacement_that_fails_replaces_nothing(self) -> None:
        self.made()
        before = self.contents()
        files: Any = {
            self.directory / "key.pem": (b"new", 0o600),
            self.directory / "certificate.pem": (None, 0o644),
        }
        self.assertRaises(TypeError, replace, files)
        self.assertEqual(self.contents(), before)

    def test_as_a_program(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "chatrelay.certificate", "--days", "9", "192.0.2.1"],
            env={**environment(), "XDG_STATE_HOME": str(self.state)},
            capture_output=True,
            check=False,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        [address] = naming.names_of(self.certificate())
        self.assertEqual(address.value, ipaddress.ip_address("192.0.2.1"))


class DirectoryTests(SynchronousTestCase):
    """Where the files are if nothing is said."""

    def test_what_is_made_is_for_its_owner(self) -> None:
        directory = Path(self.mktemp()).absolute() / "state" / "chatrelay" / "tls"
        with alone_in(directory):
            for made in (directory, *list(directory.parents)[:2]):
                self.assertEqual(made.stat().st_mode & 0o777, 0o700, made)

    def test_default(self) -> None:
        for env, expected in (
            ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/chatrelay/tls"),
            ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/chatrelay/tls"),
            ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/chatrelay/tls"),
            ({"HOME": "/h"}, "/h/.local/state/chatrelay/tls"),
        ):
            self.assertEqual(default_directory(env), Path(expected))
