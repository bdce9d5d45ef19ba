"""Bots: finding them, talking to them, and what their mistakes do not do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted import internet
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from chatrelay.bots import Bot, BotMessage, BotRelay, find_bots
from chatrelay.bots.participant import BotParticipant
from chatrelay.bots.reverse import ReverseBot, reverse_text
from chatrelay.errors import Misuse, UnknownName
from chatrelay.interfaces import IBot, Recipient
from chatrelay.limits import Limits
from chatrelay.names import Name, parse_name
from chatrelay.wire import is_clean

DOCUMENT = Path(__file__).parents[1] / "docs" / "bots.rst"
FAMILY = "👨‍👩‍👧‍👦"


class Someone:
    """A client that remembers what it was sent."""

    def __init__(self, name: str) -> None:
        self.name = parse_name(name.encode())
        self.connected_s = 0.0
        self.got: list[tuple[str, str]] = []

    def idle_s(self) -> float:
        return 0.0

    def includes(self, other: Recipient) -> bool:
        return other is self

    def deliver(self, sender: Recipient, text: bytes, *_: object) -> None:
        self.got.append((sender.name.shown.decode(), text.decode()))


class Scripted(Bot):
    """A bot that does what a test says."""

    def __init__(
        self, name: str = "robot", answer: Callable[[BotMessage], Any] | None = None
    ) -> None:
        self.name = name
        self.messages: list[BotMessage] = []
        self.answer = answer or self.messages.append

    def message_received(self, message: BotMessage) -> Any:
        return self.answer(message)


class World:
    """A registry of a few, and a clock."""

    def __init__(self, *everybody: Someone, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.clock = Clock()
        self.holders: dict[bytes, Recipient] = {someone.name.key: someone for someone in everybody}
        self.heard: list[tuple[bytes, bytes, bytes]] = []

    def add(self, bot: IBot) -> BotParticipant:
        def heard(sender: Recipient, receiver: Recipient, text: bytes) -> None:
            self.heard.append((sender.name.shown, receiver.name.shown, text))

        participant = BotParticipant(bot, self.holders.get, self.clock.seconds, heard, self.limits)
        self.holders[participant.name.key] = participant
        participant.start()
        return participant


class ReverseTests(SynchronousTestCase):
    """By grapheme: what a reader takes for one character stays one."""

    def test_texts(self) -> None:
        for text, expected in [
            ("hello", "olleh"),
            ("a", "a"),
            ("%s 100%", "%001 s%"),
            (" a\tb ", " b\ta "),
            ("café!", "!éfac"),
            ("cafe\u0301!", "!e\u0301fac"),
            ("привет", "тевирп"),
            ("🇩🇪🇫🇷x", "x🇫🇷🇩🇪"),
            ("a👍🏽b", "b👍🏽a"),
            (f"a{FAMILY}b", f"b{FAMILY}a"),
            ("한국", "국한"),
            ("1️⃣2️⃣", "2️⃣1️⃣"),
        ]:
            self.assertEqual(reverse_text(text), expected)

    @given(st.text(min_size=1, max_size=60))
    @example("\u0301a")
    @example("\u200d")
    def test_a_text_that_came_can_go(self, text: str) -> None:
        reversed_text = reverse_text(text)
        self.assertEqual(sorted(reversed_text), sorted(text))
        if is_clean(text.encode()):
            self.assertTrue(is_clean(reversed_text.encode()))

    @given(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=60))
    def test_twice_is_the_same(self, text: str) -> None:
        self.assertEqual(reverse_text(reverse_text(text)), text)

    def test_the_longest_text_comes_back(self) -> None:
        for character in ("a", "é", "e\u0301", "日", FAMILY, "🇩🇪"):
            count = Limits().max_line_bytes // len(character.encode())
            alice = Someone("alice")
            participant = World(alice).add(ReverseBot())
            participant.deliver(alice, (character * count).encode())
            self.assertEqual(alice.got, [("reverse", character * count)])


class FindingTests(SynchronousTestCase):
    """Found by name; what is wrong is one clear line."""

    def test_the_bot_that_ships(self) -> None:
        [bot] = find_bots(["reverse"])
        self.assertIsInstance(bot, ReverseBot)
        self.assertTrue(verifyObject(IBot, bot))
        self.assertTrue(verifyObject(IPlugin, bot))
        self.assertTrue(bot.description)

    def test_in_the_order_asked_for(self) -> None:
        one, two, three = (Scripted(name) for name in ("one", "two", "three"))
        self.assertEqual(find_bots(["three", "one"], [one, two, three]), [three, one])
        self.assertEqual(find_bots([], [one]), [])
        self.assertEqual(find_bots(["ONE"], [one]), [one])

    def test_none_asked_for_looks_for_none(self) -> None:
        self.assertEqual(find_bots([], iter(lambda: self.fail("looked"), None)), [])

    def test_misuse(self) -> None:
        one, two = Scripted("one"), Scripted("two")
        for names, available, expected in [
            (["three"], [two, one], "there is no bot 'three'; there are: one, two"),
            (["three"], [], "there is no bot 'three'; there are: none"),
            (["one", "One"], [one], "the bot 'One' is asked for twice"),
            (["one"], [one, Scripted("ONE")], "there are 2 bots named 'one', in tests.test_bots"),
            (["a b"], [one], "'a b' can not be the name of a bot: A name is"),
            (["server"], [one], "'server' can not be the name of a bot: "),
            (["\udcff"], [one], r"'\udcff' can not be the name of a bot: "),
            (
                ["x"],
                [one, Scripted("a b")],
                "are: one; left out for what they are named: tests.test_bots.Scripted ('a b')",
            ),
            (["x"], [Scripted(None)], "tests.test_bots.Scripted (None)"),  # type: ignore[arg-type]
        ]:
            message = str(self.assertRaises(Misuse, find_bots, names, available))
            self.assertIn(expected, message)
            self.assertNotIn("\n", message)

    def test_a_bot_nobody_asked_for_does_no_harm(self) -> None:
        one = Scripted("one")
        self.assertEqual(
            find_bots(["one"], [Scripted(""), Scripted("two"), Scripted("two"), one]), [one]
        )

    def test_a_broken_plugin_module_does_not_break_others(self) -> None:
        program = "from chatrelay.bots import find_bots; print(find_bots(['shout', 'reverse']))"
        with tempfile.TemporaryDirectory() as directory:
            plugins = Path(directory, "twisted", "plugins")
            plugins.mkdir(parents=True)
            (plugins / "aa_broken.py").write_text("import no_such_module\n")
            (plugins / "my_bots.py").write_text(code_blocks()[0])
            path = os.pathsep.join([directory, *filter(None, sys.path)])
            done = subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"Shout object.*ReverseBot object")


class ReplyTests(SynchronousTestCase):
    """What a bot is told, and what it may answer."""

    def setUp(self) -> None:
        self.alice = Someone("Alice")
        self.world = World(self.alice)
        self.bot = Scripted("Robot")
        self.participant = self.world.add(self.bot)

    def ask(self, text: str = "hello") -> BotMessage:
        self.participant.deliver(self.alice, text.encode())
        return self.bot.messages[-1]

    def test_told_who_and_what(self) -> None:
        message = self.ask("100% %s é")
        self.assertEqual((message.sender, message.text), ("Alice", "100% %s é"))
        self.assertEqual(self.world.heard, [(b"Alice", b"Robot", "100% %s é".encode())])

    def test_replies_now_later_and_several(self) -> None:
        message = self.ask()
        message.reply("one")
        self.world.clock.advance(5)
        message.reply("two")
        self.assertEqual(self.alice.got, [("Robot", "one"), ("Robot", "two")])

    def test_texts_that_can_be_sent(self) -> None:
        longest = Limits().max_line_bytes
        for text in ["a", " ", "\t", "100%", "é" * (longest // 2), "a" * longest, "\u202e"]:
            self.ask().reply(text)
            self.assertEqual(self.alice.got.pop(), ("Robot", text))

    def test_texts_that_can_not(self) -> None:
        longest = Limits().max_line_bytes
        for text in (
            *(
                "",
                "\n",
                "a\nb",
                "a\n",
                "a\rb",
                "\x00",
                "\x1b[31m",
                "\x7f",
                "\x85",
                "\u2028",
                "\u2029",
            ),
            *("\ud800", "a" * (longest + 1), "é" * (longest // 2) + "a"),
        ):
            message = self.ask()
            self.assertRaises(Misuse, message.reply, text)
            self.assertRaises(Misuse, self.bot.relay.send, "alice", text)
        self.assertEqual(self.alice.got, [])

    def test_the_bound_is_an_option(self) -> None:
        world = World(self.alice, limits=Limits(max_line_bytes=4))
        world.add(Scripted("r2", lambda message: message.reply("four"))).deliver(self.alice, b"x")
        self.assertEqual(self.alice.got, [("r2", "four")])
        world.add(Scripted("r3", lambda message: message.reply("fives"))).deliver(self.alice, b"x")
        self.assertEqual(len(self.alice.got), 1)
        self.assertEqual(len(self.flushLoggedErrors(Misuse)), 1)

    def test_the_asker_has_left(self) -> None:
        message = self.ask()
        del self.world.holders[b"alice"]
        error = self.assertRaises(UnknownName, message.reply, "late")
        self.assertEqual(error.context, (b"Alice",))

    def test_another_has_the_name_now(self) -> None:
        message = self.ask()
        other = Someone("alice")
        self.world.holders[b"alice"] = other
        self.assertRaises(UnknownName, message.reply, "late")
        self.assertEqual(other.got, [])

    def test_the_asker_has_another_name_now(self) -> None:
        message = self.ask()
        del self.world.holders[b"alice"]
        self.alice.name = Name(b"carol", b"carol")
        self.world.holders[b"carol"] = self.alice
        message.reply("still you")
        self.assertEqual(self.alice.got, [("Robot", "still you")])

    def test_unasked(self) -> None:
        self.bot.relay.send("ALICE", "hi")
        self.assertEqual(self.alice.got, [("Robot", "hi")])
        self.assertEqual(self.bot.relay.name, "Robot")

    def test_unasked_to_nobody(self) -> None:
        self.assertRaises(UnknownName, self.bot.relay.send, "bob", "hi")

    def test_unasked_to_what_is_no_name(self) -> None:
        for to in ("", "a b", "#ops", "*", "a,b", "\ud800"):
            self.assertRaises(Misuse, self.bot.relay.send, to, "hi")

    def test_never_to_a_bot(self) -> None:
        other = Scripted("other")
        self.world.add(other)
        for to in ("other", "robot"):
            self.assertRaises(Misuse, self.bot.relay.send, to, "hi")
        self.assertEqual(other.messages + self.bot.messages, [])

    def test_idle_and_connected(self) -> None:
        message = self.ask()
        self.world.clock.advance(7)
        self.assertEqual((self.participant.connected_s, self.participant.idle_s()), (0.0, 7.0))
        message.reply("x")
        self.assertEqual(self.participant.idle_s(), 0.0)

    def test_a_clock_that_was_set_back(self) -> None:
        self.world.clock.rightNow = -3.0
        self.assertEqual(self.participant.idle_s(), 0.0)

    def test_a_bot_needs_a_name(self) -> None:
        for name in ("", "a b", "server", "a" * 33):
            self.assertRaises(Misuse, self.world.add, Scripted(name))


@implementer(IBot, IPlugin)
class Bare:
    """A bot without the base class, that fails wherever it can."""

    name = "bare"
    description = "Fails."

    def started(self, _relay: BotRelay) -> None:
        raise RuntimeError("started")

    def message_received(self, _message: BotMessage) -> None:
        raise RuntimeError("message_received")

    def stopped(self) -> None:
        raise RuntimeError("stopped")


class MistakeTests(SynchronousTestCase):
    """Nothing that a bot does wrong leaves it."""

    def setUp(self) -> None:
        self.alice = Someone("alice")
        self.world = World(self.alice)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def ask(self, answer: Callable[[BotMessage], Any]) -> BotParticipant:
        participant = self.world.add(Scripted("robot", answer))
        participant.deliver(self.alice, b"hello")
        return participant

    def logged(self) -> list[tuple[str, int]]:
        """Who failed, and how many failures were left out before, of each event."""
        return [(event["bot"], event["unreported"]) for event in self.events if "bot" in event]

    def test_wherever_it_fails(self) -> None:
        participant = self.world.add(Bare())
        self.world.clock.advance(2)
        participant.deliver(self.alice, b"x")
        self.world.clock.advance(2)
        participant.stop()
        told = [failure.getErrorMessage() for failure in self.flushLoggedErrors(RuntimeError)]
        self.assertEqual(told, ["started", "message_received", "stopped"])
        self.assertEqual(self.logged(), [("bare", 0)] * 3)

    def test_a_client_can_not_fill_the_log(self) -> None:
        participant = self.ask(lambda _message: 1 / 0)
        for _ in range(99):
            participant.deliver(self.alice, b"hello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.world.clock.advance(1)
        participant.deliver(self.alice, b"hello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.logged(), [("robot", 0), ("robot", 99)])

    def test_a_deferred_that_fails(self) -> None:
        later: Deferred[None] = Deferred()
        self.ask(lambda _message: later)
        later.errback(KeyError("later"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_coroutine_that_fails(self) -> None:
        later: Deferred[None] = Deferred()

        async def answer(message: BotMessage) -> None:
            await later
            message.reply("\n")

        self.ask(answer)
        self.assertEqual(self.flushLoggedErrors(), [])
        later.callback(None)
        self.assertEqual(len(self.flushLoggedErrors(Misuse)), 1)

    def test_what_the_bot_cancelled_is_no_failure(self) -> None:
        later: Deferred[None] = Deferred()
        self.ask(lambda _message: later)
        later.cancel()
        self.assertEqual(self.logged(), [])

    def test_an_asker_who_left_is_one_line(self) -> None:
        later: Deferred[None] = Deferred()

        async def answer(message: BotMessage) -> None:
            await later
            message.reply("too late")

        self.ask(answer)
        self.world.holders.clear()
        later.callback(None)
        self.assertEqual(self.logged(), [("robot", 0)])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_it_returns_else_is_nothing(self) -> None:
        self.ask(lambda _message: 42)
        self.assertEqual(self.logged(), [])


def code_blocks() -> list[str]:
    """The Python code of docs/bots.rst."""
    blocks: list[list[str]] = []
    inside = False
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line == ".. code-block:: python":
            blocks.append([])
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside:
            blocks[-1].append(line.removeprefix("    "))
    return ["\n".join(block) for block in blocks]


class DocumentTests(SynchronousTestCase):
    """What docs/bots.rst shows is run, so that it stays true."""

    def run_block(self, block: str) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "my_bots"}
        exec(compile(block, str(DOCUMENT), "exec"), namespace)
        return namespace

    def setUp(self) -> None:
        self.alice = Someone("alice")
        self.world = World(self.alice)

    def test_the_first_bot(self) -> None:
        block, _ = code_blocks()
        namespace = self.run_block(block)
        self.assertLessEqual(len([line for line in block.splitlines() if line]), 10)
        [shout] = find_bots(["shout"], [namespace["shout"]])
        self.world.add(shout).deliver(self.alice, b"hello")
        self.assertEqual(self.alice.got, [("shout", "HELLO")])

    def ask_remind(self, *texts: str) -> tuple[Clock, BotParticipant, dict[str, Any]]:
        clock = Clock()
        # Where there is no reactor yet, this is what makes one, so that it can be patched.
        import_module("twisted.internet.reactor")
        self.patch(internet, "reactor", clock)
        namespace = self.run_block(code_blocks()[1])
        [remind] = find_bots(["remind"], [namespace["remind"]])
        participant = self.world.add(remind)
        for text in texts:
            participant.deliver(self.alice, text.encode())
        return clock, participant, namespace

    def test_a_reminder(self) -> None:
        clock, _, namespace = self.ask_remind("90 tea", "30 %milk%")
        self.assertEqual(self.alice.got, [])
        clock.advance(30)
        self.assertEqual(self.alice.got, [("remind", "%milk%")])
        clock.advance(60)
        self.assertEqual(self.alice.got[1:], [("remind", "tea")])
        self.assertEqual(namespace["remind"].waiting, set())

    def test_no_reminder(self) -> None:
        for text in ("tea", "90", "-1 tea", "٩ tea", "100000 tea", " tea"):
            clock, _, _ = self.ask_remind(text)
            self.assertEqual(clock.getDelayedCalls(), [])
            self.assertEqual(self.alice.got.pop(), ("remind", "Write seconds and a text: 90 tea"))

    def test_its_memory_is_bounded(self) -> None:
        clock, participant, namespace = self.ask_remind()
        namespace["MAX_WAITING"] = 2
        for _ in range(3):
            participant.deliver(self.alice, b"9 x")
        self.assertEqual(len(clock.getDelayedCalls()), 2)
        [(_, text)] = self.alice.got
        self.assertRegex(text, "^Too much")

    def test_stopping_cancels(self) -> None:
        clock, participant, namespace = self.ask_remind("90 tea")
        participant.stop()
        self.assertEqual((clock.getDelayedCalls(), namespace["remind"].waiting), ([], set()))
        self.assertEqual(self.alice.got, [])
