"""
Real kills: a relay is killed at random instants while its clients send, read, come and go.

    python -m tests.integration.kills --kills 200 --seed 1

Eight senders, two of them under names that nobody owns, write confirmed messages to four
receivers, of which two ack.  After each SIGKILL the relay starts again on the same data, and
senders ask again for what was not answered.  At the end everything is let arrive, and
`tests.delivery_checker` says whether the promises were kept.

What clients do and when the relay is killed follows from the seed; how far everybody has come
by then does not, so two runs with one seed are alike and not the same.  A kill ends a process
and not a machine: what an operating system loses without power is not tried here.
"""

from __future__ import annotations

import argparse
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.delivery_checker import Checker
from tests.delivery_history import RelayKilled
from tests.integration.kill_clients import MARKER, Client, Receiver, Recorder, Sender, register
from tests.integration.relay_process import RelayProcess

FREE_SENDERS = ("fay", "finn")
OWNED_SENDERS = ("olga", "omar", "oona", "orla", "otis", "owen")
TOLD_OF_ACKS = ("olga", "omar")
# What receivers ask for, and how much the kernel takes for one that does not read.
RECEIVERS: dict[str, tuple[str, int | None]] = {
    "ada": ("ack", None),
    "axel": ("ack time", 4096),
    "rhea": ("id", None),
    "rolf": ("", 4096),
}
# Nothing seen for so long is a hang, on any machine.
STUCK_S = 60.0
_TICK_S = 0.02
_SHOWN = 20
_SIGNS_OF_ERRORS = ("Traceback", "Unhandled error", "#critical")


class StuckError(Exception):
    """What had to come did not."""


class Run:
    """
    One run: a relay on one directory, its clients, and the kills.

    :ivar recorder: what was seen.
    """

    def __init__(
        self, directory: Path, seed: int, say: Callable[[str], None], options: Sequence[str] = ()
    ) -> None:
        """
        Prepare a run.

        :param directory: where the relay's data, what it logs and the events are written.
        :param say: is given each line that tells how far it has come.
        :param options: more of ``twistd chatrelay``.
        """
        self.log_path = directory / "events.jsonl"
        self._directory = directory
        self._options = ("--data", str(directory / "data"), *options)
        self._seed = seed
        self._say = say
        self._chance = Random(f"{seed}/kills")
        acking = [name for name, (caps, _) in RECEIVERS.items() if "ack" in caps.split()]
        self.recorder = Recorder(
            Checker(
                acking=acking,
                reading=[name for name in RECEIVERS if name not in acking],
                free=FREE_SENDERS,
                # With other bounds a full mailbox may be what nobody reads of.
                refuses_at_times=bool(options),
            ),
            self.log_path,
        )
        self._selector = selectors.DefaultSelector()
        self._senders: list[Sender] = []
        self._receivers: list[Receiver] = []
        self._relay: RelayProcess | None = None
        self._address: tuple[str, int] | None = None
        self._starts = 0
        self._start_used_s = 1.0

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong so far."""
        return [*self.recorder.checker.violations, *self.recorder.problems]

    def run(self, kills: int) -> None:
        """
        Kill the relay so often, then let everything arrive, and check; end at the first fault.

        :raises StuckError: if nothing happens any more.
        """
        try:
            self._begin()
            for number in range(1, kills + 1):
                how = self._live_and_kill()
                self._say(
                    f"kill {number} of {kills}, {how}:"
                    f" {self.recorder.checker.counts['messages']} messages so far"
                )
                if self.faults:
                    return
            self._end()
        finally:
            for client in self._clients():
                client.close()
            if self._relay is not None:
                self._keep_log(self._relay)
                self._relay.end()
            self.recorder.close()
            self._selector.close()

    def _clients(self) -> list[Client]:
        return [*self._senders, *self._receivers]

    def _begin(self) -> None:
        address = self._wait_for_start(self._start())
        for name in (*OWNED_SENDERS, *FREE_SENDERS):
            token = register(address, name) if name in OWNED_SENDERS else None
            sender = Sender(
                name,
                token,
                self.recorder,
                Random(f"{self._seed}/{name}"),
                tuple(RECEIVERS),
                wants_receipts=name in TOLD_OF_ACKS,
            )
            self._senders.append(sender)
        for name, (caps, buffer_bytes) in RECEIVERS.items():
            receiver = Receiver(
                name,
                register(address, name),
                self.recorder,
                Random(f"{self._seed}/{name}"),
                caps=caps,
                receive_buffer_bytes=buffer_bytes,
            )
            self._receivers.append(receiver)

    # The relay.

    def _start(self) -> RelayProcess:
        assert self._relay is None
        self._starts += 1
        self._relay = RelayProcess(*self._options, is_executed=True)
        return self._relay

    def _wait_for_start(self, relay: RelayProcess) -> tuple[str, int]:
        try:
            address = self._address = relay.address()
        except AssertionError as error:
            raise StuckError(f"the relay did not start: {error}") from None
        self._start_used_s = relay.used_s()
        return address

    def _live_and_kill(self) -> str:
        relay = self._relay or self._start()
        dice = self._chance.random()
        if dice < 0.2 and self._address is None and self._starts > 1:
            # As far as it has come, and not when: that is the same on a slow machine.
            wanted_s = self._chance.uniform(0.0, self._start_used_s)
            self.recorder.last_event_s = time.monotonic()
            self._until(lambda: relay.used_s() >= wanted_s, f"{wanted_s} s of work")
            how = f"when it had started for {wanted_s:.2f} s of processor time"
        else:
            self._wait_for_start(relay)
            self.recorder.last_event_s = time.monotonic()
            wanted = 0 if dice < 0.35 else self._chance.randrange(1, 1500)
            before = self._answers()
            self._until(lambda: self._answers() - before >= wanted, f"{wanted} answers")
            delay_s = self._chance.uniform(0.0, 0.15 if wanted == 0 else 0.02)
            # While nobody reads, what was written stays in flight.
            self._serve(delay_s, reads=self._chance.random() >= 0.5)
            how = f"after {self._answers() - before} answers and {delay_s * 1000:.0f} ms"
        relay.signal(signal.SIGKILL)
        self._relay_is_gone(relay)
        for client in self._clients():
            client.relay_was_killed()
        self.recorder.feed(RelayKilled())
        return how

    def _relay_is_gone(self, relay: RelayProcess) -> int:
        status = relay.wait()
        self._keep_log(relay)
        relay.end()
        self._relay = self._address = None
        return status

    def _keep_log(self, relay: RelayProcess) -> None:
        path = self._directory / f"relay-{self._starts}.log"
        path.write_text(relay.output, encoding="utf-8")
        for sign in _SIGNS_OF_ERRORS:
            if sign in relay.output:
                self.recorder.problem(f"{sign!r} in {path.name}")

    def _answers(self) -> int:
        return sum(sender.answers for sender in self._senders)

    # The clients.

    def _serve(self, seconds: float, *, reads: bool = True) -> None:
        ends_s = time.monotonic() + seconds
        while (left_s := ends_s - time.monotonic()) > 0:
            self._serve_once(min(left_s, _TICK_S), reads=reads)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._serve_once(_TICK_S)
            if time.monotonic() - self.recorder.last_event_s > STUCK_S:
                raise StuckError(f"nothing happened for {STUCK_S:.0f} s while waiting for {what}")

    def _serve_once(self, seconds: float, *, reads: bool = True) -> None:
        now_s = time.monotonic()
        wanted: dict[object, tuple[Client, int]] = {}
        for client in self._clients():
            client.tick(now_s, self._address)
            events = selectors.EVENT_READ if reads and client.wants_to_read else 0
            events |= selectors.EVENT_WRITE if client.wants_to_write else 0
            if client.socket is not None and events:
                wanted[client.socket] = client, events
        for key in list(self._selector.get_map().values()):
            if wanted.get(key.fileobj, (None, 0))[1] != key.events:
                self._selector.unregister(key.fileobj)
            else:
                del wanted[key.fileobj]
        for connection, (client, events) in wanted.items():
            self._selector.register(connection, events, client)  # type: ignore[arg-type]
        for key, events in self._selector.select(seconds):
            if key.data.socket is key.fileobj:
                if events & selectors.EVENT_WRITE:
                    key.data.write()
                if events & selectors.EVENT_READ:
                    key.data.read()

    # The end.

    def _end(self) -> None:
        relay = self._relay or self._start()
        self._wait_for_start(relay)
        self.recorder.last_event_s = time.monotonic()
        for client in self._clients():
            client.is_ending = True
        clients = self._clients()
        self._until(lambda: all(client.is_ready for client in clients), "all to be here")
        self._until(lambda: all(s.is_answered for s in self._senders), "all answers")
        # What is sent last arrives last: then everything has.
        for sender in self._senders:
            self._mark(sender, f"{MARKER}{sender.name}", self._receivers)
        self._until_settled()
        # What is acked does not come again, not even to one who comes again.
        acking = [receiver for receiver in self._receivers if receiver.acks]
        for receiver in acking:
            receiver.quit()
        self._until(lambda: not any(r.is_ready for r in acking), "receivers to leave")
        self._until(lambda: all(r.is_ready for r in acking), "receivers to come again")
        self._mark(self._senders[0], f"{MARKER}all", acking)
        self._until_settled()
        for receiver in self._receivers:
            receiver.read_history()
        self._until(lambda: all(r.history is None for r in self._receivers), "the history")
        self.recorder.checker.finish()
        relay.signal(signal.SIGTERM)
        status = self._relay_is_gone(relay)
        if status != 0:
            self.recorder.problem(f"the relay ended with status {status} after SIGTERM")

    def _mark(self, sender: Sender, text: str, receivers: Sequence[Receiver]) -> None:
        for receiver in receivers:
            receiver.markers.add((sender.name, text))
        sender.ask_marker(text, tuple(receiver.name for receiver in receivers))

    def _until_settled(self) -> None:
        self._until(
            lambda: (
                all(receiver.is_settled for receiver in self._receivers)
                and all(sender.is_answered for sender in self._senders)
            ),
            "everything to arrive",
        )


def summary(run: Run, seed: int, seconds: float) -> str:
    """Tell what a run has seen, as docs/reliability.rst shows it."""
    counts = run.recorder.checker.counts
    missing = f"{counts['missing']} missing, {counts['repeats unmarked']} twice"
    refused = [
        f"{count} {kind.removeprefix('refused: ')}"
        for kind, count in sorted(counts.items())
        if kind.startswith("refused: ")
    ]
    return "\n".join(
        [
            f"seed {seed}, {counts['kills']} kills, {seconds:.0f} s",
            f"confirmed messages: {counts['messages']}, asked again {counts['asked again']} times",
            f"answers: {counts['stored']} stored, {counts['sent']} sent,"
            f" {counts['refused']} refused ({', '.join(refused) or 'none'})",
            f"received: {counts['received']}; {counts['repeats marked']} came again, marked",
            f"in flight at an end, for those who do not ack: {missing},"
            f" {counts['copies']} made anew",
            f"acks: {counts['acks']}, reported to senders {counts['acks reported']} times",
            f"violations: {len(run.faults)}",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Run from a command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.kills",
        description="Kill a relay at random instants, and check that no promise was broken.",
    )
    parser.add_argument("--kills", type=int, default=200, help="how often (default: 200)")
    parser.add_argument("--seed", type=int, default=None, help="for doing much the same again")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="a new directory for the relay's data, its logs and the events, which is kept;"
        " otherwise a temporary one is, if anything is wrong",
    )
    parser.add_argument(
        "relay_options", nargs="*", metavar="-- OPTION", help="more options of twistd chatrelay"
    )
    options = parser.parse_args(arguments)
    seed = Random().randrange(1_000_000) if options.seed is None else options.seed
    directory = options.data or Path(tempfile.mkdtemp(prefix="chatrelay-kills-"))
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        parser.error(f"--data {directory}: it has to be empty")
    print(f"seed {seed}", flush=True)
    run = Run(directory, seed, lambda line: print(line, flush=True), options.relay_options)
    began_s = time.monotonic()
    try:
        run.run(options.kills)
    except StuckError as stuck:
        run.recorder.problem(f"{stuck}")
    for fault in run.faults[:_SHOWN]:
        print(fault)
    if len(run.faults) > _SHOWN:
        print(f"and {len(run.faults) - _SHOWN} more")
    print(summary(run, seed, time.monotonic() - began_s))
    if run.faults:
        print(f"the events are in {run.log_path}")
        return 1
    if options.data is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
