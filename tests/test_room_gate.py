"""A room holds who speaks while more than half of the others are over their marks."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.flow import Gate
from chatrelay.rooms.audience import MajorityGate


class Connection:
    """Nobody looks whether it is read."""

    def pause_reading(self) -> None:
        """It is not."""

    def resume_reading(self) -> None:
        """It is."""


class MajorityGateTests(SynchronousTestCase):
    """Against counting the others anew."""

    def test_as_counted_anew(self) -> None:
        for seed in range(300):
            randomly = random.Random(seed)
            gate, over, speakers = MajorityGate(), set[int](), dict[Gate, int | None]()
            listener_count = 0
            for _ in range(60):
                what = randomly.choice(["come", "go", "over", "below", "speak", "speak"])
                somebody = randomly.choice(range(listener_count)) if listener_count else None
                if what == "come":
                    listener_count += 1
                    gate.has_listeners(listener_count)
                elif somebody is None:
                    continue
                elif what == "go":
                    listener_count -= 1
                    over.discard(listener_count)
                    gate.has_listeners(listener_count)
                    gate.release(listener_count)
                elif what == "over":
                    over.add(somebody)
                    gate.hold(somebody)
                elif what == "below":
                    over.discard(somebody)
                    gate.release(somebody)
                else:
                    speaker, own = Gate(Connection()), randomly.choice([None, somebody])
                    gate.hold_speaker(speaker, own)
                    speakers[speaker] = own
                    others = listener_count - (own is not None)
                    self.assertEqual(
                        speaker.held, 2 * len(over - {own}) > max(0, others), (seed, own)
                    )
                for speaker, own in list(speakers.items()):
                    others = listener_count - (own is not None)
                    if 2 * len(over - {own}) <= max(0, others):
                        self.assertFalse(speaker.held, (seed, own))
                    if not speaker.held:
                        del speakers[speaker]

    def test_many_who_are_held_are_not_looked_at_with_every_listener(self) -> None:
        gate = MajorityGate()
        gate.has_listeners(1000)
        for listener in range(1000):
            gate.hold(listener)
        speakers = [Gate(Connection()) for _ in range(100)]
        for speaker in speakers:
            gate.hold_speaker(speaker, None)
        looked = 0
        holds = MajorityGate._holds

        def counted(self: MajorityGate, own: object) -> bool:
            nonlocal looked
            looked += 1
            return holds(self, own)

        self.patch(MajorityGate, "_holds", counted)
        for listener in range(600):
            gate.release(listener)
        self.assertFalse(any(speaker.held for speaker in speakers))
        self.assertLessEqual(looked, 3 * len(speakers))
