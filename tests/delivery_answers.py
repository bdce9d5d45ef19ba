"""Whether the answers to confirmed messages agree with each other: a part of the checker."""

from __future__ import annotations

from collections import defaultdict

from tests.delivery_history import REFUSED, SENT, STORED, Answered, Asked
from tests.delivery_state import PASSING, Connection, Message, Recipient, State, Submission

_MAX_DEVICES = 32


class Answers:
    """What is asked, and what is answered."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._under_ref: dict[tuple[str, str, str], list[Message]] = defaultdict(list)

    def asked(self, event: Asked) -> None:
        """Take a message that is sent, or sent again."""
        state = self._state
        connection = state.open_connection(event.connection)
        message = state.messages.get((connection.name, event.target, event.text))
        if message is None:
            message = state.make_message(connection.name, event.target, event.ref, event.text)
            self._under_ref[connection.name, event.ref, event.target].append(message)
        elif message.ref != event.ref:
            raise ValueError(f"{message} was asked under the ref {event.ref}, too")
        else:
            state.counts["asked again"] += 1
            message.may_be_forgotten |= not state.is_remembered(message)
        waiting = connection.waiting.setdefault(event.ref, [])
        for other, _ in waiting:
            if other.target == event.target and other is not message:
                raise ValueError(f"{other} waits, and nobody can tell whose answer comes")
        submission = Submission(connection, state.life, state.event, state.now_s)
        message.submissions.append(submission)
        waiting.append((message, submission))

    def answered(self, event: Answered) -> None:
        """Take an answer, and compare it with those there were."""
        connection = self._state.open_connection(event.connection)
        answered = take_waiting(connection, event.ref, event.target)
        if not answered:
            self._state.violation(
                f"{connection.label} read {event.answer} {event.detail} to the ref {event.ref}"
                f" for {event.target or 'its line'}, which was not asked there or has been answered"
            )
        for message, submission in answered:
            # What fails in the store fails when a stored one would be answered, and is sent
            # if its recipient has come meanwhile.
            recipient = self._state.recipients.get(message.target)
            may_fail = recipient is None or recipient.refuses_at_times
            if event.detail != "store-failed" and not (
                event.answer == STORED or (event.answer == SENT and may_fail)
            ):
                if submission.event < connection.last_in_order:
                    self._state.violation(f"{message} was answered after a later line")
                connection.last_in_order = max(connection.last_in_order, submission.event)
            self._state.note_answer(submission)
            self._judge(message, submission, event.answer, event.detail)
            submission.answer = event.answer
            self._state.counts[event.answer] += 1
            if event.answer == REFUSED:
                self._state.counts[f"refused: {event.detail}"] += 1
            else:
                message.accepted_event = min(message.accepted_event, self._state.event)

    def check_all_is_answered(self, connection: Connection) -> None:
        """Hold that nothing waits on a connection whose answers have all been read."""
        for waiting in connection.waiting.values():
            for message, _ in waiting:
                self._state.violation(f"{message} was never answered on {connection.label}")

    def _judge(self, message: Message, submission: Submission, answer: str, detail: str) -> None:
        state = self._state
        is_remembered = state.is_remembered(message)
        message.may_be_forgotten |= not is_remembered
        scope = state.scope(message, submission)
        before = message.stored.get(scope) if is_remembered else None
        if answer == STORED:
            self._judge_stored(message, submission, before, detail)
        elif before is not None:
            contrary = f"{answer} {detail}".rstrip()
            state.violation(f"{message} was answered stored as {before}, and later {contrary}")
        recipient = state.recipients.get(message.target)
        if answer == SENT and recipient is not None:
            self._judge_sent(recipient, message, submission)
        if answer == REFUSED:
            self._judge_refusal(message, submission, detail)
            if recipient is not None:
                recipient.refuses_at_times |= detail in PASSING
        elif is_remembered:
            for other in self._others_under_ref(message):
                is_known = other.stored_event < submission.event and scope in other.stored
                if is_known and state.is_remembered(other):
                    state.violation(f"{message} was accepted under the ref of {other}")

    def _judge_stored(
        self, message: Message, submission: Submission, before: str | None, id_: str
    ) -> None:
        self._state.note_id(id_, message)
        self._state.note_stored(submission)
        if before is not None and before != id_:
            self._state.violation(f"{message} was stored as {before}, and again as {id_}")
        message.stored.setdefault(self._state.scope(message, submission), id_)
        message.stored_life = min(message.stored_life, submission.life)
        message.stored_event = min(message.stored_event, self._state.event)

    def _judge_sent(self, recipient: Recipient, message: Message, submission: Submission) -> None:
        if recipient.acks:
            self._state.violation(f"{message} was answered sent, though {message.target} acks")
        # Asked again, it may tell of a connection that was there the first time.
        elif len(message.submissions) == 1 and not any(
            submission.event < connection.noticed
            for connection in recipient.connections[-_MAX_DEVICES:]
        ):
            self._state.violation(f"{message} was answered sent, though {message.target} was away")

    def _judge_refusal(self, message: Message, submission: Submission, code: str) -> None:
        state = self._state
        for other in message.submissions:
            if (
                other.answer == SENT
                and other.life == submission.life
                and state.scope(message, other) == state.scope(message, submission)
                and state.is_remembered(message)
            ):
                state.violation(f"{message} was answered sent, and later refused: {code}")
        if code == "ref-reused" and not self._others_under_ref(message):
            state.violation(f"{message} was refused as ref-reused, and no other text had that ref")
        if code == "unknown-name" and message.target in state.recipients:
            state.violation(f"{message} was refused as to an unknown name, and that is owned")

    def _others_under_ref(self, message: Message) -> list[Message]:
        under_ref = self._under_ref[message.sender, message.ref, message.target]
        return [other for other in under_ref if other is not message]


def take_waiting(
    connection: Connection, ref: str, target: str | None
) -> list[tuple[Message, Submission]]:
    """Take what an answer is about: the oldest for its target, or all of the oldest line."""
    waiting = connection.waiting.get(ref, [])
    taken: list[tuple[Message, Submission]] = []
    for message, submission in waiting:
        if target is None:
            targets = [other.target for other, _ in taken]
            if message.text == waiting[0][0].text and message.target not in targets:
                taken.append((message, submission))
        elif message.target == target and not taken:
            taken.append((message, submission))
    left = [entry for entry in waiting if entry not in taken]
    if left:
        connection.waiting[ref] = left
    else:
        connection.waiting.pop(ref, None)
    return taken
