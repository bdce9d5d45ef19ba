"""Each message is shown once, over connections and runs of the program."""

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import Message, connect, reading
from chatrelay.client.place import Place, Places
from chatrelay.client.reading import BEGINNING, END, HISTORY_TIMEOUT_S, PAGE, Reading
from tests.client_harness import RelayEndpoint, RelayTransport

CAPS = ("time", "echo", "ack")


class _Log:
    """The log of carol's name as the relay keeps it: what came, and what is acked."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.acked = 0

    @staticmethod
    def line(index: int, *, again: bool = False) -> bytes:
        """A message as it is delivered; its text is its number."""
        tags = f"id=x{index};again" if again else f"id=x{index}"
        return f"@{tags} {_Log.message(index)}".encode()

    @staticmethod
    def message(index: int) -> str:
        """Some are of a room, or went to all."""
        where = {2: "%#ops", 3: "%*"}.get(index % 4, "")
        return f"{where}%bob%{index}"

    def answer(self, written: bytes) -> list[bytes]:
        """What the relay says to a line with a ref."""
        ref, _, line = written.decode().partition(" ")
        verb, *words = line.split(" ")
        if verb == "/ack":
            self.acked = max(self.acked, int(words[0][1:]) + 1)
            return [f"{ref} !acked {words[0]}".encode()]
        if verb == "/ping":
            return [f"{ref} !pong .".encode()]
        count = int(words[0])
        if words[1:] and words[1].startswith("before="):
            end = int(words[1].removeprefix("before=x"))
            found = range(max(0, end - count), end)
        elif len(words) == 2:
            start = int(words[1].removeprefix("after=x")) + 1
            if start > len(self.texts):
                return [f"{ref} !error bad-id :No.".encode()]
            found = range(start, min(start + count, len(self.texts)))
        else:
            found = range(max(0, len(self.texts) - count), len(self.texts))
        lines = [f"{ref};id=x{index} {self.message(index)}" for index in found]
        return [
            line.encode()
            for line in (f"{ref} !history", *lines, f"{ref} !end history {len(lines)}")
        ]


class Case(SynchronousTestCase):
    """The program of carol on a relay that the test plays."""

    def setUp(self) -> None:
        self.begin(self.new_directory())

    def new_directory(self) -> Path:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        return Path(directory.name)

    def begin(self, directory: Path) -> None:
        self.places = Places(directory, "relay")
        self.log = _Log()
        self.shown: list[str] = []
        self.told: list[str] = []
        self.start()

    def start(self) -> None:
        """The program starts."""
        self.clock = Clock()
        self.reading = Reading(self.clock, self.places)

    def connect(self, *, secret: str | None = "old-secret", answer: bool = True) -> Deferred:
        """A connection: the relay delivers what is not acked."""
        endpoint = RelayEndpoint()
        connecting = connect(self.clock, endpoint, "carol", caps=CAPS, secret=secret)
        self.relay: RelayTransport = endpoint.accept()
        self.relay.say(b"!caps ack echo id time", b"!welcome carol :Hi.")
        self.client = self.successResultOf(connecting)
        self.relay.clear()
        self.relay.say(*(_Log.line(n, again=True) for n in range(self.log.acked, self.count)))
        catching_up = ensureDeferred(
            self.reading.catch_up(self.client, self.show, self.told.append)
        )
        if answer:
            self.serve()
            self.successResultOf(catching_up)
            self.read()
        return catching_up

    @property
    def count(self) -> int:
        return len(self.log.texts)

    def show(self, message: Message) -> None:
        self.shown.append(message.text)

    def serve(self) -> list[bytes]:
        """Answer what was written; returns it."""
        written: list[bytes] = []
        while lines := self.relay.lines():
            written += [line.partition(b" ")[2] for line in lines]
            for line in lines:
                self.relay.say(*self.log.answer(line))
        return written

    def refuse(self, answer: bytes) -> None:
        """Answer nothing else to what was written."""
        for line in self.relay.lines():
            self.relay.say(line.partition(b" ")[0] + answer)

    def read(self) -> None:
        """Show what has come."""
        while self.client._unread:
            message = self.successResultOf(self.client._next_event())
            if self.reading.is_new(self.client, message):
                self.show(message)

    def settle(self) -> list[bytes]:
        """What was shown is kept, and acked; returns what was written."""
        self.reading.shown(self.client)
        return self.serve()

    def arrive(self, count: int = 1, *, live: bool = True) -> None:
        """Messages come for the name."""
        for _ in range(count):
            self.log.texts.append(str(self.count))
            if live:
                self.relay.say(_Log.line(self.count - 1))

    def cursor(self) -> str:
        place = self.places.read(b"carol")
        assert place is not None
        return place.cursor


class ReadingTests(Case):
    """`Reading`."""

    def test_first_start(self) -> None:
        """Nothing old is shown; what is unread is, as it is delivered."""
        self.arrive(5, live=False)
        self.log.acked = 3
        self.connect()
        self.assertEqual((self.shown, self.told), (["3", "4"], []))
        self.assertEqual(self.settle(), [b"/ack x4"])
        self.assertEqual(self.cursor(), "x4")

    def test_not_in_the_log(self) -> None:
        """What one says oneself, here or elsewhere, is not acked."""
        self.connect()
        self.arrive()
        self.read()
        self.relay.say(b"@id=y1 %#ops%Carol%mine", b"@id=y2 %*%carol%all", b"%bob%no id")
        self.relay.say(b"@id=y3;to=bob %carol%echo")
        self.read()
        self.assertEqual(self.settle(), [b"/ack x0"])
        self.assertEqual(self.shown, ["0", "mine", "all", "no id", "echo"])

    def test_missed(self) -> None:
        """What another device had is shown at the next start, once, between two sentences."""
        self.connect()
        self.arrive()
        self.read()
        self.settle()
        self.arrive(3, live=False)
        self.log.acked = 2  # by another device
        for _ in range(2):
            self.start()
            self.connect()
        self.assertEqual(self.shown, ["0", "1", "2", "3"])
        self.assertEqual(self.told, [BEGINNING, END])

    def test_nothing_missed(self) -> None:
        """Then nothing is said."""
        self.connect()
        self.start()
        self.connect()
        self.assertEqual(self.told, [])

    def test_first_start_of_an_empty_log(self) -> None:
        """What came first of all is missed at the next start, too."""
        self.connect()
        self.assertEqual(self.cursor(), "")
        self.arrive(2, live=False)
        self.log.acked = 2
        self.start()
        self.connect()
        self.assertEqual(self.shown, ["0", "1"])

    def test_first_start_of_an_empty_log_and_much_since(self) -> None:
        """All of it, from the first on: the relay by itself gives the newest of it."""
        for count in (PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1):
            self.begin(self.new_directory())
            self.connect()
            self.arrive(count, live=False)
            self.log.acked = count
            for _ in range(2):
                self.start()
                self.connect()
            self.assertEqual(self.shown, [str(number) for number in range(count)])
            self.assertEqual(self.told, [BEGINNING, END])

    def test_pages(self) -> None:
        """However many they are."""
        self.arrive(1, live=False)
        self.connect()
        self.settle()
        self.arrive(2 * PAGE + 1, live=False)
        self.start()
        self.connect()
        self.assertEqual(self.shown, [str(number) for number in range(2 * PAGE + 2)])
        self.assertEqual(self.cursor(), f"x{2 * PAGE + 1}")

    def test_not_acked_before_it_is_shown(self) -> None:
        """What comes live while the log is read is neither acked nor kept before."""
        self.arrive(2, live=False)
        self.connect()
        self.settle()
        self.arrive(1, live=False)
        self.start()
        self.connect(answer=False)
        self.arrive(1)
        self.assertEqual(self.settle()[:1], [b"/history 200 after=x1"])
        self.assertEqual(self.shown, ["0", "1", "2", "3"])
        self.read()
        self.assertEqual(self.settle(), [b"/ack x3"])
        self.assertEqual(self.shown, ["0", "1", "2", "3"])

    def test_shown_live_meanwhile(self) -> None:
        """What is shown while the log is read, as after ``/name``, hides nothing missed."""
        self.connect()
        self.arrive()
        self.read()
        self.settle()
        for is_killed in (True, False):
            self.start()
            self.arrive(2, live=False)
            self.log.acked = self.count
            catching_up = self.connect(answer=False)
            self.arrive()
            self.read()
            self.reading.shown(self.client)
            if is_killed:
                continue
            self.arrive()
            self.serve()
            self.successResultOf(catching_up)
        self.assertEqual(self.shown, ["0", "3", "6", "1", "2", "4", "5", "7"])
        self.assertEqual(self.cursor(), "x7")
        self.arrive(2, live=False)
        self.start()
        self.connect()
        self.assertEqual(self.shown[-2:], ["8", "9"])

    def test_killed_before_the_ack(self) -> None:
        """What was shown and not acked comes again, and is not shown again."""
        self.connect()
        self.arrive(3)
        self.read()
        self.reading.shown(self.client)  # and then it is killed
        self.start()
        self.connect()
        self.assertEqual(self.shown, ["0", "1", "2"])
        self.assertEqual(self.settle(), [b"/ack x2"])
        place = self.places.read(b"carol")
        self.assertEqual(place, Place("x2", ("x0", "x1", "x2")))
        self.arrive()
        self.read()
        self.settle()
        self.assertEqual(self.places.read(b"carol"), Place("x3", ("x3",)))

    def test_killed_with_much_unacked(self) -> None:
        """What is too much to be kept is shown again; after that nothing is."""
        self.patch(reading, "MAX_IDS", 2)
        self.connect()
        self.arrive(5, live=False)
        self.start()
        self.connect()
        self.start()  # killed
        self.connect()
        self.settle()
        self.assertEqual(self.shown, ["0", "1", "2", "3", "4", "0", "1", "2"])
        self.assertEqual(self.cursor(), "x4")
        self.start()
        self.connect()
        self.assertEqual(len(self.shown), 8)

    def test_not_had(self) -> None:
        """What the relay can not give now is asked for again, however much comes meanwhile."""
        self.connect()
        for answer in (b" !error store-failed :No.", None):
            self.start()
            self.arrive(2, live=False)
            self.log.acked = self.count
            catching_up = self.connect(answer=False)
            if answer is None:
                self.clock.advance(HISTORY_TIMEOUT_S + 1)
            else:
                self.refuse(answer)
            self.successResultOf(catching_up)
            for _ in range(2):
                self.arrive()
                self.read()
                self.settle()
        self.assertEqual(self.shown, ["2", "3", "6", "7"])
        self.connect()
        self.assertEqual(self.shown[4:], ["0", "1", "4", "5"])
        self.settle()
        for _ in range(2):
            self.start()
            self.connect()
        self.assertEqual(len(self.shown), 8)

    def test_lost(self) -> None:
        """A connection that is lost in between: on the next one the same."""
        self.connect()
        self.arrive(2)
        self.read()
        self.relay.lose(ConnectionLost())
        self.reading.shown(None)
        self.arrive(2, live=False)
        catching_up = self.connect(answer=False)
        self.relay.lose(ConnectionLost())
        self.successResultOf(catching_up)
        self.connect()
        self.assertEqual(self.shown, ["0", "1", "2", "3"])

    def test_another_name_meanwhile(self) -> None:
        """What a name has missed is not asked of another one's log: it is there the next time."""
        for news in ([], [b"@id=y7 %bob%to karl"]):
            self.begin(self.new_directory())
            self.arrive(1, live=False)
            self.connect()
            self.settle()
            self.arrive(PAGE + 1, live=False)
            self.log.acked = self.count
            self.start()
            catching_up = self.connect(answer=False)
            self.client.rename("karl", "his-secret")
            *page, renaming, fence = self.relay.lines()
            for line in page:
                self.relay.say(*self.log.answer(line))
            ref = renaming.partition(b" ")[0]
            self.relay.say(ref + b" !welcome karl :Hi.", *news, fence.replace(b"/ping", b"!pong"))
            self.read()
            self.refuse(b" !error bad-id :No.")
            self.successResultOf(catching_up)
            self.assertEqual(self.told, [BEGINNING])
            self.start()
            self.connect()
            missed = [text for text in self.shown if text != "to karl"]
            self.assertEqual(missed, [str(number) for number in range(PAGE + 2)])

    def test_unknown_cursor(self) -> None:
        """A relay with another log: that is said, and it begins anew."""
        self.places.write(b"carol", Place("x99"))
        self.arrive(2, live=False)
        self.log.acked = 2
        self.connect()
        self.assertEqual(self.shown, [])
        self.assertIn("does not know what was read last here", self.told[0])
        self.assertEqual(self.cursor(), "x1")

    def test_refused(self) -> None:
        """Without a log there is nothing to miss; other refusals are told."""
        for code, told in [("not-allowed", 0), ("unknown-command", 0), ("store-failed", 1)]:
            self.begin(self.new_directory())
            catching_up = self.connect(answer=False)
            self.refuse(b" !error " + code.encode() + b" :No.")
            self.successResultOf(catching_up)
            self.assertEqual(len(self.told), told)
            self.arrive()
            self.read()
            self.assertEqual(self.settle(), [b"/ack x0"])
            self.assertEqual(self.shown, ["0"])

    def test_silent(self) -> None:
        """A relay that does not answer keeps nobody from reading what comes."""
        catching_up = self.connect(answer=False)
        self.clock.advance(HISTORY_TIMEOUT_S + 1)
        self.successResultOf(catching_up)
        self.assertIn("takes too long", self.told[0])

    def test_free_name(self) -> None:
        """A name that nobody owns has no log: nothing is asked, acked or kept."""
        self.connect(secret=None)
        self.arrive()
        self.read()
        self.assertEqual((self.shown, self.settle()), (["0"], []))
        self.assertIsNone(self.places.read(b"carol"))

    def test_can_not_be_kept(self) -> None:
        """That is told once, and everything goes on."""
        file = self.new_directory() / "file"
        file.write_text("", encoding="utf-8")
        self.begin(file)
        self.connect()
        for _ in range(2):
            self.arrive()
            self.read()
            self.settle()
        self.assertEqual(self.shown, ["0", "1"])
        self.assertEqual(len(self.told), 1)
        self.assertIn("can not be kept (File exists)", self.told[0])


_STEPS = ["arrive", "read", "keep", "kill", "acked elsewhere", "lose", "quit"]
_STEPS += ["come back", "come back, no log"]
_AWAY = ["lose", "arrive", "acked elsewhere", "come back, no log", "arrive", "read", "keep"]


class AnyRunTests(SynchronousTestCase):
    """Whatever happens in whatever order, what came since the first start is shown once."""

    @example([*_AWAY, *_AWAY])
    @example(["arrive", "read", "arrive", "lose", "come back", "keep", "lose"])
    @given(st.lists(st.sampled_from(_STEPS), max_size=30))
    def test_once(self, steps: list[str]) -> None:
        case = Case("setUp")
        with tempfile.TemporaryDirectory(prefix="chatrelay-test-") as directory:
            case.begin(Path(directory))
            case.connect()
            connected = True
            for step in [*steps, "come back", "quit", "come back", "quit", "come back"]:
                if step == "arrive":
                    case.arrive(live=connected)
                elif step == "acked elsewhere":
                    case.log.acked = case.count
                elif step == "come back" and not connected:
                    connected = True
                    case.connect()
                elif step == "come back, no log" and not connected:
                    connected = True
                    catching_up = case.connect(answer=False)
                    case.refuse(b" !error store-failed :No.")
                    case.successResultOf(catching_up)
                elif not connected:
                    continue
                elif step == "read":
                    case.read()
                elif step == "keep":
                    case.settle()
                elif step in ("lose", "kill"):
                    # Killed just when it has kept what it has shown, and before it acks.
                    connected = False
                    case.reading.shown(None)
                    if step == "kill":
                        case.start()
                elif step == "quit":
                    connected = False
                    case.read()
                    case.settle()
                    case.start()
        if "come back, no log" in steps:  # what was missed is shown after what came since
            case.shown.sort(key=int)
        self.assertEqual(case.shown, [str(number) for number in range(case.count)])
