"""
One simulation: what senders, receivers, the store and the machine do, chosen by a seed.

Nothing else is random, and no time but the simulated one passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from chatrelay.limits import MIB, Limits
from tests.simulated_client import SimulatedClient
from tests.simulated_journal import ROOM, Question
from tests.simulated_stage import Stage
from tests.simulated_store import PowerLossError

OWNED = ("alice", "bob", "carol")
FREE = ("fred", "gina")
_MAX_DEVICES = 3
# Longer than refs are remembered.
_LONG_S = 700.0

Action = Callable[[], None]


class Scenario:
    """
    One seed.

    :ivar journal: what happened, and what should not have.
    """

    def __init__(
        self, seed: int, *, skipped: frozenset[int] = frozenset(), verbose: bool = False
    ) -> None:
        """
        Choose what is so all the time.

        :param skipped: the numbers of steps that are not taken; the others stay as they are.
        """
        random = self.random = Random(seed)
        self._seed = seed
        self._skipped = skipped
        self.names = OWNED[: random.choice((2, 2, 3))]
        self.free = FREE[: random.choice((1, 1, 2))]
        mark_bytes = random.choice((300, 3000, 1 * MIB))
        # Not of the same numbers: the other seeds stay what they were.
        self.has_room = Random(f"room {seed}").random() < 0.25
        limits = Limits(
            history_s=random.choice((0.0, 30 * 86_400.0)),
            max_mailbox_entries=random.choice((12, 40, 10_000)),
            max_mailbox_bytes=random.choice((4000, 64 * MIB)),
            free_share=random.choice((0.1, 0.5)),
            owner_share=random.choice((0.25, 0.7)),
            slow_s=random.choice((2.0, 10.0)),
            stalled_s=random.choice((10.0, 60.0)),
            max_unwritten_bytes=random.choice((500, 16 * MIB)),
            high_water_bytes=mark_bytes,
            low_water_bytes=mark_bytes // 2,
        )
        self.stores_at_once = random.choice((0.0, 0.0, 0.2, 0.7))
        self.settles = random.choice((0.2, 0.8, 1.0))
        self.reads_lazily = random.choice((0.0, 0.3))
        self.faults = random.choice((0.0, 0.0, 1.0))
        if self.has_room:
            # Who misses something because his log is full is not told of.
            limits = replace(limits, max_mailbox_entries=10_000, max_mailbox_bytes=64 * MIB)
        self.refless = random.choice((0.0, 0.3))
        self.is_full_at_times = (
            limits.max_mailbox_entries < 100 or limits.max_mailbox_bytes < 1 * MIB
        )
        self.steps = random.randint(20, 80)
        self.stage = Stage(
            self.names,
            acking=[name for name in self.names if random.random() < 0.5],
            free=self.free,
            limits=limits,
            page_bytes=random.choice((150, 600, 256 * 1024)),
            has_room=self.has_room,
            has_slow_devices=random.random() < 0.3,
            refuses_at_times=self.is_full_at_times or self.faults > 0,
            verbose=verbose,
        )
        self.journal = self.stage.journal
        self._texts = 0
        # By name: what it has asked under refs.
        self._asked: dict[str, list[Question]] = {}
        self._actions = self._choose_actions()

    def _choose_actions(self) -> dict[Action, float]:
        weights: dict[Action, float] = {
            self.connect: 8,
            self.send: 24,
            self.send_again: 5,
            self.send_unanswered: 3,
            self.ack: 8,
            self.stall: 3,
            self.take: 5,
            self.be_lazy: 4 if self.reads_lazily else 0,
            self.read_some: 8 if self.reads_lazily else 0,
            self.cut: 4,
            self.die: 1,
            self.quit: 2,
            self.end_input: 1.5,
            self.run_store: 8,
            self.tell_store: 8,
            self.fail_store: 6 * self.faults,
            self.pass_time: 6,
            self.settle: 6,
            self.crash: 3,
            self.lose_power: 0.7,
            self.restart: 0.4,
            self.show_history: 2,
        }
        # A seed that does little of some kinds goes deeper into the others.
        for action in weights:
            if action not in (self.connect, self.send):
                weights[action] *= self.random.choice((0, 0.3, 1, 1, 3))
        return weights

    def run(self) -> list[str]:
        """Go through it; returns what should not have been."""
        stage, journal = self.stage, self.journal
        with stage:
            journal.trace("acking %s, %s", sorted(stage.acking), stage.limits)
            actions, weights = list(self._actions), list(self._actions.values())
            for number in range(self.steps):
                self.random.seed(self._seed * 1000 + number)
                if number in self._skipped:
                    continue
                [action] = self.random.choices(actions, weights)
                journal.now_s = stage.clock.seconds()
                journal.trace("%d %s", number, action.__name__)
                self._do(action)
                if journal.violations:
                    return journal.violations
            return stage.finish()

    def _do(self, action: Action) -> None:
        """Take one step, and let follow from it what the seed says."""
        try:
            action()
            if self.random.random() < self.settles:
                self.stage.world.settle()
            else:
                self.stage.world.turn()
            if self.random.random() < self.stores_at_once:
                self.stage.world.run_store()
        except PowerLossError:
            self.journal.trace("  the machine stopped in the midst of that")
            self.crash()

    def _any(self, clients: list[SimulatedClient]) -> Iterator[SimulatedClient]:
        if clients:
            client = self.random.choice(clients)
            self.journal.trace("    %s", client.label)
            yield client

    def _living(self) -> list[SimulatedClient]:
        clients = self.stage.clients()
        return [client for client in clients if not client.is_dead and not client.is_leaving]

    def _named(self, name: str) -> list[SimulatedClient]:
        return [client for client in self.stage.clients() if client.name == name]

    # The machine.

    def crash(self) -> None:
        """The relay is killed, and starts again."""
        if self.random.random() < 0.1:
            self.stage.skew_s += 3600.0
        self.stage.crash(lambda: self.random.random() < 0.5)

    def lose_power(self) -> None:
        """The machine stops in the midst of what the store does next."""
        self.stage.disk.transactions_until_loss = self.random.randrange(3)

    def restart(self) -> None:
        """The relay is stopped in order, and starts again."""
        self.stage.stop()

    def run_store(self) -> None:
        """The store runs a batch; the reactor does not know."""
        thread = self.stage.world.thread
        if thread.given and not thread.told:
            thread.run()

    def tell_store(self) -> None:
        """The reactor learns of a batch."""
        self.run_store()
        thread = self.stage.world.thread
        if thread.told:
            thread.tell()

    def fail_store(self) -> None:
        """The disk fails for one batch."""
        is_unreadable = self.random.random() < 0.3
        self.stage.fail_store(None if is_unreadable else self.random.randrange(4))
        thread = self.stage.world.thread
        if thread.told and self.random.random() < 0.7:
            thread.tell()

    def pass_time(self) -> None:
        """Time passes."""
        seconds = (0.5, 1.5, 3.0, 12.0, 62.0, _LONG_S)
        [passed_s] = self.random.choices(seconds, (4, 4, 4, 2, 0.7, 0.3))
        stage = self.stage
        if passed_s == _LONG_S:
            # The relay itself did not run, and nobody waited for it.
            stage.world.run_store()
            if any(client.session and client.session.gate.held for client in stage.clients()):
                return
            stage.clock.rightNow += passed_s
            passed_s = 0.0
        stage.pass_time(passed_s)

    def settle(self) -> None:
        """The reactor does all it can."""
        self.stage.world.settle()

    # Connections.

    def connect(self) -> None:
        """Somebody connects."""
        name = self.random.choice((*self.names, *self.names, *self.free))
        others = self._named(name)
        is_strict = name not in self.stage.acking and not self.stage.has_slow_devices
        if others:
            is_rare = self.random.random() < 0.6
            if name not in self.names or is_rare or len(others) >= _MAX_DEVICES:
                return
            # What is half on its way to one that is slow may come to another one after, and
            # before.
            if is_strict and any(one.transport.room is not None for one in others):
                return
        for other in others:
            # What several read of a name has an order only where each reads at once.
            if is_strict and not other.is_dead:
                other.reads_at_once = True
                other.read()
        caps = ["receipts"] if self.random.random() < 0.5 else []
        if name not in self.stage.acking and self.random.random() < 0.5:
            caps += ["id", "time"]
        client = self.stage.connect(name, *caps)
        if not (is_strict and others) and self.random.random() < self.reads_lazily:
            client.reads_at_once = False

    def _may_be_slow(self, client: SimulatedClient) -> bool:
        return (
            client.name in self.stage.acking
            or self.stage.has_slow_devices
            or len(self._named(client.name)) == 1
        )

    def stall(self) -> None:
        """Somebody's network takes nothing more, or next to nothing."""
        for client in self._any(self._living()):
            if self._may_be_slow(client):
                client.transport.room = self.random.choice((0, 0, 30, 500))

    def take(self) -> None:
        """A network takes more."""
        stalled = [one for one in self.stage.clients() if one.transport.room is not None]
        for client in self._any(stalled):
            client.transport.room = self.random.choice((None, 60, 1000))

    def be_lazy(self) -> None:
        """Somebody reads no more at once what its network has."""
        for client in self._any(self._living()):
            if self._may_be_slow(client):
                client.reads_at_once = False

    def read_some(self) -> None:
        """Somebody reads what its network has, or some of it."""
        for client in self._any([one for one in self._living() if not one.reads_at_once]):
            client.read(self.random.choice((1, 3, None)))

    def cut(self) -> None:
        """A connection breaks, and the relay sees that."""
        for client in self._any(self.stage.clients()):
            if not client.is_dead and self.random.random() < 0.5:
                client.read()
            self.stage.cut(client)

    def die(self) -> None:
        """A client is gone, and the relay does not see that."""
        for client in self._any(self._living()):
            client.is_dead = True
            if self.random.random() < 0.5:
                client.transport.room = 0

    def quit(self) -> None:
        """Somebody leaves."""
        for client in self._any(self._living()):
            self.stage.quit(client)

    def end_input(self) -> None:
        """Somebody will send nothing more, and reads what comes."""
        for client in self._any(self._living()):
            client.is_leaving = True
            client.transport.incoming.append(b"")

    # What is said on them.

    def send(self) -> None:
        """Somebody sends messages."""
        for client in self._any(self._living()):
            client.joins_lines = self.random.random() < 0.5
            for _ in range(self.random.choice((1, 1, 2, 6))):
                self._send(client)

    def _send(self, client: SimulatedClient) -> None:
        random = self.random
        targets = [random.choice(self.names)]
        if random.random() < 0.2:
            targets = random.sample((*self.names, *self.free), random.choice((2, 3)))
        elif random.random() < 0.05:
            targets = [random.choice(self.free)]
        self._texts += 1
        text = f"t{self._texts}" + "." * random.choice((0, 0, 0, 40, 400))
        ref = "" if random.random() < self.refless else f"m{self._texts}"
        asked = self._asked.setdefault(client.name, [])
        if self.has_room and client.name in self.names and random.random() < 0.5:
            targets = [ROOM]
        used = [] if targets == [ROOM] else [one for one in asked if one.targets != [ROOM]]
        if ref and used and random.random() < 0.04:
            # Another text under a used ref.
            ref = random.choice(used).ref
            if self.journal.waits(client, ref):
                return
        if ref:
            asked.append(Question(client.label, ref, targets, text))
        self.stage.write(client, ref, targets, text)

    def send_again(self) -> None:
        """Somebody sends again what was answered, or what it sent on the same connection."""
        for client in self._any(self._living()):
            asked = [
                one
                for one in self._asked.get(client.name, [])[-8:]
                if one.label == client.label or self.journal.has_answers(client.name, one)
            ]
            for _ in range(self.random.choice((1, 3)) if asked else 0):
                self._ask(client, self.random.choice(asked))

    def send_unanswered(self) -> None:
        """Somebody sends again, in order, what was lost with earlier connections."""
        for client in self._any(self._living()):
            asked = [
                one
                for one in self._asked.get(client.name, [])
                if one.label != client.label and not self.journal.has_answers(client.name, one)
            ]
            if all(self._may_ask(client, one) for one in asked):
                for one in asked:
                    self._ask(client, one)

    def _ask(self, client: SimulatedClient, asked: Question) -> None:
        if self._may_ask(client, asked):
            self.stage.write(client, asked.ref, asked.targets, asked.text)

    def _may_ask(self, client: SimulatedClient, asked: Question) -> bool:
        if not client.is_named:
            return False
        texts = {one.text for one in self._asked[client.name] if one.ref == asked.ref}
        if len(texts) > 1 and self.journal.waits(client, asked.ref):
            return False
        # Which of two connections is served first would decide when it was sent.
        others = [one for one in self._named(client.name) if one is not client]
        return not any(self.journal.waits(one, asked.ref) for one in others)

    def ack(self) -> None:
        """Somebody acks what it has read, or some of it."""
        acking = [client for client in self._living() if client.name in self.stage.acking]
        for client in self._any([client for client in acking if client.last_id is not None]):
            ids = [id_ for id_, _ in client.received_ids]
            id_ = ids[-1] if self.random.random() < 0.6 else self.random.choice(ids)
            self.stage.ack(client, id_)

    def show_history(self) -> None:
        """Somebody asks for what was sent to it."""
        if self.stage.limits.history_s:
            for client in self._any([one for one in self._living() if one.name in self.names]):
                client.write_line("/history 200", "h")
