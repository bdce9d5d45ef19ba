"""
Peers that mean harm, on a relay for strangers: they are refused with the documented errors, the
relay's memory stays within its bounds, and honest clients are served throughout.

How fast these are served then is not a test's to say: ``python -m tests.integration.hostile``.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tests.integration import attacks
from tests.integration.attacks import PORTS, Answers, Attack, Stranger, Target
from tests.integration.honest import Honest
from tests.integration.relay_process import Client, RelayTestCase, eventually

KIB = 1024
MIB = 1024 * KIB
CROWD = 40
# What a relay's allocator may keep of what it had; the bounds are what is looked for.
SPARE_BYTES = 16 * MIB
MARK_BYTES = 1 * MIB
LINE_BYTES = 8 * KIB


def members_of(room: str, client: Client) -> int:
    """How many names are in a room, after a client has joined it."""
    client.send(f"/join {room}")
    return int(client.expect(f"!end members {room} ").split()[-1])


class HostileTests(RelayTestCase):
    """Each attack while honest clients talk."""

    def attack(self, attack: Attack, most_bytes: int, *options: str) -> Answers:
        """
        Attack a relay; what it was answered.

        :param most_bytes: that the relay may hold for all of it, by its limits.
        """
        if not any(option.startswith("--naming-timeout") for option in options):
            # On a slow machine, too, there is time for a name.
            options = ("--naming-timeout", "86400", *options)
        relay = self.relay(*PORTS, "--public", "--data", "none", *options)
        target = Target.of(relay)
        # Those who are here, and have joined a room, when the others come.
        crowd = [self.connect(target.plain, f"crowd{number}") for number in range(CROWD)]
        for client in crowd:
            client.send("/join #crowd")
            client.expect("!end members #crowd ")
        honest = Honest(target.plain, 2)
        self.addCleanup(honest.close)
        honest.ask()
        before_bytes = relay.memory_bytes()
        before_files = target.open_files()
        answers: Answers = {}
        errors: list[BaseException] = []

        def run() -> None:
            try:
                answers.update(attack(target))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            honest.ask()
            thread.join(0.01)
        self.assertEqual(errors, [])
        grown_bytes = relay.memory_bytes("VmHWM") - before_bytes
        self.assertLess(grown_bytes, most_bytes + SPARE_BYTES)
        eventually("all of them are gone", lambda: target.open_files() <= before_files)
        self.check_nothing_is_left(target)
        honest.ask()
        return answers

    def check_nothing_is_left(self, target: Target) -> None:
        """No name and no room is held by those who are gone."""
        looking = self.connect(target.plain, "looking")
        for room, members in (("#crowd", CROWD + 1), ("#half", 1), ("#reset", 1), ("#room1", 1)):
            # Their connections may be gone a moment before what they sent is served.
            eventually(
                f"{room} has {members} members",
                lambda room=room, members=members: members_of(room, looking) == members,
            )

    def test_a_byte_now_and_then(self) -> None:
        answers = self.attack(attacks.drip, 50 * LINE_BYTES, "--naming-timeout", "8")
        self.assertEqual(answers, {"!error timeout": 50})

    def test_a_line_without_end(self) -> None:
        answers = self.attack(attacks.endless_line, 9 * (LINE_BYTES + 256 * KIB))
        self.assertEqual(answers, {"!error line-too-long": 1})

    def test_many_connections(self) -> None:
        answers = self.attack(attacks.many_connections, 500 * LINE_BYTES)
        # 16 of the one address, and all the others; some more, and so too many in a minute, where
        # a slow machine lets the first of them go before the last have come.
        self.assertEqual(sum(answers.values()), 500)
        self.assertGreaterEqual(answers.pop("!bye"), 316)
        refused = {"!error too-many-clients", "!error rate-limited"}
        self.assertLessEqual(answers.keys(), refused)
        self.assertGreaterEqual(sum(answers.values()), 100)

    def test_many_connections_one_after_the_other(self) -> None:
        def connect(target: Target) -> Answers:
            told = []
            for _ in range(100):
                stranger = Stranger(target, "203.0.113.2")
                stranger.send("/quit")
                told.append(stranger.told_last())
                stranger.close()
            return {kind: told.count(kind) for kind in sorted(set(told))}

        answers = self.attack(connect, LINE_BYTES, "--connects-per-minute", "2")
        # More may come in while a slow machine has the attack take minutes.
        self.assertGreaterEqual(answers.pop("!error rate-limited"), 50)
        self.assertGreaterEqual(answers.pop("!bye"), 2)
        self.assertEqual(answers, {})

    def test_many_names(self) -> None:
        answers = self.attack(attacks.many_names, LINE_BYTES)
        # One more every six seconds.
        self.assertGreaterEqual(answers["!welcome"], 10)
        self.assertGreaterEqual(answers["!error rate-limited"], 20)
        self.assertEqual(answers["!welcome"] + answers["!error rate-limited"], 50)
        self.assertEqual(answers["!error bad-name"], 20)

    def test_many_rooms(self) -> None:
        answers = self.attack(attacks.many_joins, 256 * KIB)
        self.assertEqual(answers["!error too-many-rooms"], 48)
        self.assertEqual(answers["!joined"], 32)

    def test_many_watched_names(self) -> None:
        answers = self.attack(attacks.many_watches, 256 * KIB)
        self.assertEqual(answers["!error too-many-watches"], 16 + 20)
        self.assertEqual(answers["!offline"], 128)

    def test_64_kib_of_the_dearest_command(self) -> None:
        self.attack(attacks.dearest, 4 * (2 * MARK_BYTES))

    def test_never_reading(self) -> None:
        self.attack(attacks.never_reading, 5 * (2 * MARK_BYTES))

    def test_half_closed(self) -> None:
        answers = self.attack(attacks.half_closed, attacks.HALF_CLOSED * (MARK_BYTES + LINE_BYTES))
        self.assertEqual(answers, {"closed": attacks.HALF_CLOSED})

    def test_resets_in_the_middle_of_a_line(self) -> None:
        self.attack(attacks.resets, LINE_BYTES)

    def test_every_attack_is_tried(self) -> None:
        tried = Path(__file__).read_text("utf-8")
        for attack in attacks.ATTACKS.values():
            self.assertIn(f"attacks.{attack.__name__},", tried)
