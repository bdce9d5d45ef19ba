"""The relay as its users and its operator meet it: started with twistd, reached with sockets."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from tests.integration.relay_process import (
    DEADLINE_S,
    Address,
    Client,
    RelayTestCase,
    fork_twistd,
    free_port,
    run_twistd,
)


def netcat(address: tuple[str, int], sent: bytes, *options: str) -> subprocess.Popen[bytes]:
    """Start OpenBSD's nc with something to send; -N ends its input where that ends."""
    process = subprocess.Popen(
        ["nc", *options, address[0], str(address[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(sent)
    process.stdin.flush()
    return process


class Conversation(RelayTestCase):
    """People talk."""

    def need_netcat(self) -> None:
        if shutil.which("nc") is None:
            self.skipTest("there is no nc; install the package netcat-openbsd")

    def test_three_clients_one_of_them_netcat(self) -> None:
        self.need_netcat()
        relay = self.relay()
        address = relay.address()
        alice = self.connect(address, "alice")
        bob = self.connect(address, "bob")
        carol = netcat(address, b"carol\n%alice,bob%hello from carol\n", "-N")
        self.addCleanup(carol.wait)
        self.addCleanup(carol.kill)
        self.assertEqual(alice.line(), "%carol%hello from carol")
        self.assertEqual(bob.line(), "%carol%hello from carol")
        alice.send("%carol%hi carol", "%bob%and hi bob: 100 %")
        bob.send("%carol%hi from bob")
        self.assertEqual(bob.line(), "%alice%and hi bob: 100 %")
        bob.ping()
        assert carol.stdin is not None and carol.stdout is not None
        heard = {carol.stdout.readline() for _ in range(3)}
        self.assertEqual(
            {line for line in heard if line.startswith(b"%")},
            {
                b"%alice%hi carol\n",
                b"%bob%hi from bob\n",
            },
        )
        carol.communicate(timeout=DEADLINE_S)
        self.assertEqual(carol.returncode, 0)
        relay.wait_for_log("^carol at 127.0.0.1 .* left .*end of input")

    def test_netcat_sees_the_answers_to_what_it_sent_before_it_ended(self) -> None:
        self.need_netcat()
        address = self.relay().address()
        bob = self.connect(address, "bob")
        said = (
            netcat(address, b"me\n%bob%hi\n%nobody%hi\n@ref=1 %bob%ho\n%bob%unfinished", "-N")
            .communicate(timeout=DEADLINE_S)[0]
            .decode()
            .splitlines()
        )
        self.assertTrue(said[0].startswith("!welcome me "), said)
        self.assertTrue(said[1].startswith("!error unknown-name nobody "), said)
        self.assertEqual(said[2:], ["@ref=1 !sent bob"])
        self.assertEqual(bob.lines(2), ["%me%hi", "%me%ho"])
        bob.send("%me%are you there?")
        self.assertTrue(bob.line().startswith("!error unknown-name me "))

    def test_five_clients_at_once(self) -> None:
        address = self.relay().address()
        names = ["ann", "ben", "cyd", "dan", "eve"]
        clients = {name: self.connect(address, name) for name in names}
        for sender in names:
            clients[sender].send(*(f"%{name}%{sender} to {name}" for name in names))
        for name, client in clients.items():
            self.assertEqual(
                sorted(client.lines(5)), [f"%{sender}%{sender} to {name}" for sender in names]
            )

    def test_both_ends_of_lines(self) -> None:
        address = self.relay().address()
        windows = self.connect(address)
        windows.send_bytes(b"win\r\n")
        unix = self.connect(address, "nix")
        windows.send_bytes(b"%nix%from win\r\n")
        unix.send("%win%from nix")
        self.assertEqual(unix.socket.recv(100), b"%win%from win\n")
        received = b""
        while received.count(b"\n") < 2:
            received += windows.socket.recv(1000)
        self.assertTrue(received.endswith(b"\r\n%nix%from nix\r\n"), received)

    def test_one_who_says_nothing_is_told_what_to_do(self) -> None:
        client = self.connect(self.relay().address())
        self.assertTrue(client.line().startswith("!hello :Type a name"))

    def test_one_who_gives_no_name_is_closed(self) -> None:
        relay = self.relay("--naming-timeout", "4")
        client = self.connect(relay.address())
        began_s = time.monotonic()
        self.assertTrue(client.rest()[-1].startswith("!error timeout "))
        self.assertGreater(time.monotonic() - began_s, 3.5)
        relay.wait_for_log("closed: no name in time")


class Ending(RelayTestCase):
    """The operator stops the relay."""

    is_executed = True

    def check_ends(self, number: signal.Signals) -> None:
        relay = self.relay()
        address = relay.address()
        clients = [self.connect(address, f"c{index}") for index in range(5)]
        clients.append(self.connect(address))  # one without a name
        # All the connections are served, and so the handlers of signals are set.
        clients[-1].ping()
        relay.signal(number)
        for client in clients:
            self.assertTrue(client.rest()[-1].startswith("!error shutting-down "))
        self.assertEqual(relay.wait(), 0)
        with self.assertRaises(ConnectionRefusedError):
            Client(address)

    def test_sigterm_tells_every_client_and_ends_with_status_0(self) -> None:
        self.check_ends(signal.SIGTERM)

    def test_sigint_tells_every_client_and_ends_with_status_0(self) -> None:
        self.check_ends(signal.SIGINT)

    def test_a_client_that_never_reads_does_not_keep_it_from_ending(self) -> None:
        relay = self.relay()
        address = relay.address()
        sender = self.connect(address, "sender")
        # It has more to read than kernels buffer, and so is not closed when it is told.
        self.connect(address, "unread", receive_buffer_bytes=4096)
        line = "%unread%" + 8000 * "x"
        sender.socket.settimeout(1.0)
        with self.assertRaises(TimeoutError):
            while True:
                sender.send(*[line] * 10)
        sender.socket.settimeout(DEADLINE_S)
        reader = self.connect(address, "reader")
        relay.signal(signal.SIGTERM)
        self.assertTrue(reader.rest()[-1].startswith("!error shutting-down "))
        self.assertEqual(relay.wait(), 0)
        self.assertIn("unread at", relay.output)

    def test_a_client_that_is_told_has_read_all_that_was_sent_to_it(self) -> None:
        relay = self.relay()
        address = relay.address()
        sender = self.connect(address, "sender")
        reader = self.connect(address, "reader")
        sender.send(*(f"%reader%{number}" for number in range(20_000)))
        sender.ping()
        relay.signal(signal.SIGTERM)
        read = reader.rest()
        self.assertEqual(read[:-1], [f"%sender%{number}" for number in range(20_000)])
        self.assertTrue(read[-1].startswith("!error shutting-down "))
        self.assertEqual(relay.wait(), 0)


class NotStarting(RelayTestCase):
    """What can not be started says why in one line, without a traceback."""

    def test_bad_options(self) -> None:
        table = {
            ("--port", "nonsense"): "--port 'nonsense' is neither a number nor",
            ("--port", "99999999"): "a port is a number up to 65535",
            ("--port", "tcp:99999"): "0-65535",
            ("--port", "unix:/nonexistent/directory/socket"): "No such file or directory",
            ("--port", "tcp:0:interface=192.0.2.77"): "does not have that address",
            ("--port",): "--port requires argument",
            ("--max-clients", "0"): "--max-clients '0': it takes a whole number from 1 to",
            ("--max-unnamed", "some"): "--max-unnamed 'some': it takes a whole number",
            ("--bot", "nobody"): "there is no bot 'nobody'; there are: reverse",
            ("--bot", "reverse", "--no-bots"): "exclude each other",
            ("--interface", "foo"): "--interface 'foo' is not an address",
            ("--interface", "192.0.2.77"): "does not have that address",
            ("--reserve", "a b"): "--reserve 'a b': bad-name",
            ("--reserve", "reverse", "--port", "0"): "can not be reserved: a bot has that name",
            ("--colour",): "--colour not recognized",
            ("stray",): "'stray' is not an option",
        }  # fmt: skip
        started = {options: fork_twistd(options) for options in table}
        for process in started.values():
            self.addCleanup(process.end)
        for options, process in started.items():
            status = process.wait(DEADLINE_S)
            self.assert_one_line(options, process.stdout.read().decode(), table[options])
            self.assertEqual(status, 1, options)

    def test_a_port_in_use(self) -> None:
        first = self.relay("--port", "0")
        port = first.ports(2)[0][1]
        for options in (
            ("--port", str(port)),
            ("--port", f"tcp:{port}:interface=127.0.0.1"),
            ("--port", "0", "--port", str(port)),
        ):
            process = run_twistd(options)
            self.addCleanup(process.kill)
            said = process.communicate(timeout=DEADLINE_S)[0].decode()
            self.assert_one_line(options, said, f"can not listen on --port {options[-1]}")
            self.assert_one_line(options, said, "Address already in use; stop what listens there")
            self.assertEqual(process.returncode, 1)
        self.connect(("127.0.0.1", port), "still-here")

    def assert_one_line(self, options: tuple[str, ...], said: str, reason: str) -> None:
        own = [line for line in said.splitlines() if "chatrelay: " in line]
        self.assertEqual(len(own), 1, (options, said))
        self.assertIn(reason, own[0])
        self.assertNotIn("Traceback", said)
        self.assertNotIn("rror in", said)


class Listening(RelayTestCase):
    """``--port`` and ``--interface``."""

    def has_ipv6(self) -> bool:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            return False
        return True

    def other_address(self) -> str:
        """An address of this machine that is not 127.0.0.1."""
        return "127.0.0.2"

    def test_a_number_listens_on_loopback_only(self) -> None:
        number = free_port()
        relay = self.relay("--port", str(number))
        hosts = ["127.0.0.1", "::1"] if self.has_ipv6() else ["127.0.0.1"]
        self.assertEqual(relay.ports(len(hosts)), [(host, number) for host in hosts])
        relay.wait_for_log(r"for this machine only")
        relay.wait_for_log(r"to open it to the network, add --interface 0\.0\.0\.0")
        for index, host in enumerate(hosts):
            self.connect((host, number), f"c{index}")
        with self.assertRaises(ConnectionRefusedError):
            Client((self.other_address(), number))

    def test_an_interface(self) -> None:
        relay = self.relay("--port", "0", "--interface", "0.0.0.0")
        host, number = relay.address()
        self.assertEqual(host, "0.0.0.0")
        for index, host in enumerate(["127.0.0.1", self.other_address()]):
            self.connect((host, number), f"c{index}")
        self.assertNotIn("this machine only", relay.output)
        self.assertNotIn("to open it", relay.output)

    def test_several_ports_are_doors_to_one_relay(self) -> None:
        relay = self.relay(
            "--port", "tcp:0:interface=127.0.0.1", "--port", "unix:relay.socket",
            "--port", "tcp:0:interface=127.0.0.1",
        )  # fmt: skip
        relay.wait_for_log(r"listens on the Unix socket .*relay\.socket$")
        first, second = relay.ports(2)
        doors: list[Address] = [first, str(Path(relay.directory, "relay.socket")), second]
        clients = [self.connect(door, f"c{index}") for index, door in enumerate(doors)]
        for sender, client in enumerate(clients):
            client.send("%c0,c1,c2%hi")
            for other in clients:
                self.assertEqual(other.line(), f"%c{sender}%hi")
        relay.wait_for_log("^c1 arrived from a Unix socket; 2 here$")
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        self.assertFalse(Path(relay.directory, "relay.socket").exists())

    def proxied(self, door: Address, host: str, port: int = 4711) -> Client:
        client = self.connect(door)
        client.send_bytes(f"PROXY TCP4 {host} 192.0.2.1 {port} 12345\r\n".encode())
        return client

    def test_behind_a_proxy_the_console_shows_the_address_it_names(self) -> None:
        relay = self.relay("--port", "haproxy:tcp:0:interface=127.0.0.1")
        client = self.proxied(relay.address(), "198.51.100.7")
        client.send("paul")
        client.expect("!welcome paul ")
        relay.wait_for_log("^paul arrived from 198.51.100.7 port 4711; 1 here$")
        client.close()
        relay.wait_for_log("^paul at 198.51.100.7 port 4711 left after ")

    def test_what_does_not_come_from_a_proxy_is_closed_at_once(self) -> None:
        relay = self.relay("--port", "haproxy:tcp:0:interface=127.0.0.1")
        for sent in (b"paul\r\n", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n"):
            client = self.connect(relay.address())
            client.send_bytes(sent)
            self.assertEqual(client.rest(), [])

    def test_clients_of_one_address_are_bounded(self) -> None:
        relay = self.relay("--port", "haproxy:tcp:0:interface=127.0.0.1", "--max-per-address", "3")
        door = relay.address()
        crowd = []
        for index in range(3):
            crowd.append(self.proxied(door, "198.51.100.7"))
            crowd[-1].send(f"c{index}")
            crowd[-1].expect("!welcome ")
        refused = self.proxied(door, "198.51.100.7")
        refused.send("c3")
        self.assertTrue(refused.rest()[-1].startswith("!error too-many-clients "))
        relay.wait_for_log("^a connection from 198.51.100.7 .*too many connections from this addr")
        # Another address is another's; so is this one once somebody left.
        other = self.proxied(door, "198.51.100.8")
        other.send("other")
        other.expect("!welcome ")
        crowd[0].close()
        relay.wait_for_log("^c0 at .* left")
        late = self.proxied(door, "198.51.100.7")
        late.send("late")
        late.expect("!welcome late ")

    def test_a_proxy_that_claims_loopback_is_not_trusted(self) -> None:
        relay = self.relay("--port", "haproxy:tcp:0:interface=127.0.0.1", "--max-per-address", "1")
        first = self.proxied(relay.address(), "127.0.0.1")
        first.send("first")
        first.expect("!welcome ")
        second = self.proxied(relay.address(), "127.0.0.1")
        second.send("second")
        self.assertTrue(second.rest()[-1].startswith("!error too-many-clients "))

    def test_loopback_has_no_bound_of_its_own(self) -> None:
        relay = self.relay("--max-per-address", "1")
        for index in range(3):
            self.connect(relay.address(), f"c{index}")


class Console(RelayTestCase):
    """What the operator reads."""

    def test_arrival_and_departure(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        port = alice.port
        relay.wait_for_log(f"^alice arrived from 127.0.0.1 port {port}; 1 here$")
        alice.send("/name alicia")
        alice.expect("!welcome alicia ")
        relay.wait_for_log(f"^alice at 127.0.0.1 port {port} is now alicia$")
        alice.send("/quit")
        self.assertEqual(alice.rest(), ["!bye"])
        relay.wait_for_log(f"^alicia at 127.0.0.1 port {port} left after 0 s: ")

    def test_a_message_that_can_not_be_delivered(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        alice.send("%bob%are you there?", "%#ops%disk full", "%*%hello, all")
        relay.wait_for_log(r"^not delivered, unknown-name: alice to bob: are you there\?$")
        relay.wait_for_log("^not delivered, unknown-room: alice to #ops: disk full$")
        relay.wait_for_log(r"^not delivered, not-allowed: alice to \*: hello, all$")

    def test_a_flood_of_them_is_summed_up(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        began_s = time.monotonic()
        alice.send(*(f"%nobody%{number}" for number in range(1000)))
        for _ in range(1000):
            alice.expect("!error unknown-name nobody ")
        alice.close()
        relay.wait_for_log("^alice at .* left")
        seconds = int(time.monotonic() - began_s) + 2
        lines = relay.log()
        singly = sum("not delivered, unknown-name: alice" in line for line in lines)
        summaries = [re.search("(\\d+) more messages .*not delivered", line) for line in lines]
        summed_up = sum(int(match[1]) for match in summaries if match)
        self.assertLessEqual(singly, 10 * seconds)
        self.assertLessEqual(len([match for match in summaries if match]), seconds)
        self.assertEqual(singly + summed_up, 1000)

    def test_what_is_relayed_is_shown_only_if_asked_for(self) -> None:
        for options, is_shown in (((), False), (("--verbose",), True)):
            relay = self.relay(*options)
            alice = self.connect(relay.address(), "alice")
            bob = self.connect(relay.address(), "bob")
            alice.send("%bob%one", "@ref=1 %bob%two", "%nobody%three")
            bob.lines(2)
            relay.wait_for_log("alice to nobody: three")
            for text in ("one", "two"):
                self.assertEqual(f"alice to bob: {text}" in relay.log(), is_shown)

    def test_nothing_a_client_sent_drives_the_terminal(self) -> None:
        relay = self.relay("--verbose")
        alice = self.connect(relay.address(), "alice")
        for text in ("\x1b]0;owned\x07", "bell \x07", "c1 \x9b31m", "line\u2028separator"):
            alice.send(f"%reverse%{text}")
            self.assertTrue(alice.line().startswith("!error bad-text "))
        alice.send("%reverse%\u202egnp.exe\u202c \u200b\ufeff\U000e0041", "%nobody%\u2066x\u2069")
        relay.wait_for_log(r"alice to nobody: \\u2066x\\u2069$")
        alice.send_bytes(b"%nobody%\xff\n")
        self.assertTrue(alice.expect("!error bad-utf8 "))
        proxied = self.connect(relay.address())
        proxied.send("\u202eeve", "\x1b[2Jeve", "eve {peer} %s")
        proxied.rest()
        for character in relay.output:
            self.assertTrue(character.isprintable() or character == "\n", ascii(character))

    def test_a_bot_shows_what_it_was_sent(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        alice.send("%reverse%hello")
        self.assertEqual(alice.line(), "%reverse%olleh")
        relay.wait_for_log("^reverse was sent by alice: hello$")

    def test_names_and_texts_are_no_formats(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        alice.send("%nobody%{sender} {0} %s %(x)s {sender.__class__}")
        relay.wait_for_log(
            re.escape("alice to nobody: {sender} {0} %s %(x)s {sender.__class__}") + "$"
        )


class OtherProtocols(RelayTestCase):
    """A program that speaks something else reaches nobody, and is not answered."""

    def setUp(self) -> None:
        self.started = self.relay()
        self.bob = self.connect(self.started.address(), "bob")

    def assert_nothing_came_of_it(self) -> None:
        self.started.wait_for_log("closed: it speaks another protocol")
        self.bob.ping()
        self.bob.send("/who")
        self.assertTrue(self.bob.line().startswith("!who "))
        self.assertEqual([line.split()[1] for line in self.bob.lines(2)], ["bob", "who"])

    def exchange(self, sent: bytes) -> bytes:
        client = self.connect(self.started.address())
        client.send_bytes(sent)
        try:
            return client.socket.recv(1000)
        except ConnectionResetError:
            return b""

    def test_a_browser_posts(self) -> None:
        host, port = self.started.address()
        connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
        self.addCleanup(connection.close)
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionError)):
            connection.request("POST", "/", body="eve\n%bob%pwned\n/quit\n")
            connection.getresponse()
        self.assert_nothing_came_of_it()

    def test_a_post_that_comes_in_pieces(self) -> None:
        client = self.connect(self.started.address())
        for piece in (b"POST / HT", b"TP/1.1\r", b"\n\r\neve\n%bob%pwned\n"):
            try:
                client.send_bytes(piece)
            except ConnectionError:
                break
            self.bob.ping()
        self.assertEqual(client.rest(), [])
        self.assert_nothing_came_of_it()

    def test_a_request_with_a_long_line(self) -> None:
        path = 20_000 * b"a"
        self.assertEqual(self.exchange(b"GET /" + path + b" HTTP/1.1\r\n\r\neve\n%bob%hi\n"), b"")
        self.assert_nothing_came_of_it()

    def test_a_get_and_http_2(self) -> None:
        for request in (
            b"GET / HTTP/1.0\n\neve\n%bob%pwned\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ):
            self.assertEqual(self.exchange(request), b"")
        self.assert_nothing_came_of_it()

    def test_a_tls_client(self) -> None:
        context = ssl.create_default_context()
        client = self.connect(self.started.address())
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(client.socket, server_hostname="localhost")
        self.assert_nothing_came_of_it()


class Bounds(RelayTestCase):
    """``--max-clients`` and its kin."""

    def test_named_clients(self) -> None:
        relay = self.relay("--max-clients", "2")
        address = relay.address()
        first = self.connect(address, "first")
        self.connect(address, "second")
        third = self.connect(address)
        third.send("third")
        self.assertTrue(third.rest()[-1].startswith("!error too-many-clients "))
        first.send("%reverse%bots do not count")
        first.expect("%reverse%")
        first.send("/quit")
        first.rest()
        self.connect(address, "fourth")

    def test_connections_without_a_name(self) -> None:
        relay = self.relay("--max-unnamed", "3")
        address = relay.address()
        named = self.connect(address, "named")
        waiting = [self.connect(address) for _ in range(3)]
        waiting[-1].ping()
        one_more = self.connect(address)
        self.assertTrue(waiting[0].rest()[-1].startswith("!error too-many-clients "))
        for index, client in enumerate([*waiting[1:], one_more]):
            client.send(f"late{index}")
            client.expect(f"!welcome late{index} ")
        named.ping()

    def test_connections_that_gave_way_are_gone_at_once(self) -> None:
        relay = self.relay("--max-unnamed", "10")
        address = relay.address()
        crowd = [self.connect(address) for _ in range(150)]
        for client in crowd[:140]:
            self.assertTrue(client.rest()[-1].startswith("!error too-many-clients "))
        # None of them has closed its side; they get no grace for it.
        crowd[-1].ping()
        self.assertLess(len(os.listdir(f"/proc/{relay.pid}/fd")), 40)

    def test_reserved_names(self) -> None:
        relay = self.relay("--reserve", "root", "--reserve", "Ädmin")
        client = self.connect(relay.address())
        for name in ("ROOT", "ädmin"):
            client.send(name)
            self.assertTrue(client.line().startswith("!error name-reserved "), name)
        other = self.connect(relay.address())
        for name in ("server", "Reverse"):
            other.send(name)
            self.assertTrue(other.line().startswith("!error name-reserved "), name)

    def test_bots_are_chosen(self) -> None:
        for options, is_there in (
            ((), True), (("--bot", "reverse"), True), (("--no-bots",), False)
        ):  # fmt: skip
            client = self.connect(self.relay(*options).address(), "alice")
            client.send("%reverse%abc")
            answer = client.line()
            if is_there:
                self.assertEqual(answer, "%reverse%cba")
            else:
                self.assertTrue(answer.startswith("!error unknown-name reverse "), answer)

    def test_a_long_line(self) -> None:
        relay = self.relay("--max-line", "512")
        client = self.connect(relay.address())
        client.send("alice")
        self.assertIn(" max-line=512 ", client.line())
        client.send("%alice%" + 505 * "x", "%alice%" + 506 * "x")
        self.assertEqual(client.line(), "%alice%" + 505 * "x")
        self.assertTrue(client.line().startswith("!error line-too-long "))
