"""
Who a client is to its relay, and what proves it: a name, its secret, a token for that.

Pure.  It outlives connections: what it has learned on one is what the next one begins with.
"""

from __future__ import annotations

from collections import deque
from secrets import token_hex
from typing import NamedTuple

from chatrelay.client.core import Reply, same_name
from chatrelay.client.membership import Membership
from chatrelay.errors import (
    BadName,
    BadSecret,
    Busy,
    Insecure,
    Misuse,
    NameInUse,
    NameOwned,
    NameReserved,
    NotAllowed,
    RateLimited,
    Refusal,
    StoreFailed,
    UnknownCommand,
)
from chatrelay.secret import TOKEN_PREFIX, is_token
from chatrelay.secret import check_secret as secret_problem
from chatrelay.wire import parse_command, parse_tags, with_tags

# Commands whose answers are awaited; a relay that never answers is remembered no longer.
_MAX_ASKED = 100
# Secrets that may have become the name's; each one tried costs the relay a hash.
_MAX_DOUBTFUL = 3
# An error without a ref answers /name or /register only if it has one of these.
_NAMING = frozenset(
    kind.code
    for kind in (
        *(BadName, BadSecret, Busy, Insecure, NameInUse, NameOwned, NameReserved),
        *(NotAllowed, RateLimited, StoreFailed, UnknownCommand),
    )
)


class Secret(bytes):
    """A secret or a token, as bytes that no repr, log or traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide it."""
        return "<secret>"

    __str__ = __repr__

    @property
    def is_token(self) -> bool:
        """Whether the relay made it, to stand for a secret."""
        return is_token(self)


def check_secret(written: str | bytes) -> Secret:
    """
    Read a secret, or a token, that this program wants to use.

    :raises Misuse: it can be neither; what was written is not repeated.
    """
    secret = _encoded(written)
    problem = secret_problem(secret.removeprefix(TOKEN_PREFIX))
    if problem is not None:
        raise Misuse(problem)
    return secret


def check_own_secret(written: str | bytes) -> Secret:
    """
    Read a secret that is no token.

    :raises Misuse: it can not be one.
    """
    secret = _encoded(written)
    problem = secret_problem(secret)
    if problem is not None:
        raise Misuse(problem)
    return secret


def _encoded(written: str | bytes) -> Secret:
    if isinstance(written, str):
        # An error of the codec would hold it: what can not be encoded is no UTF-8 later.
        written = written.encode("utf-8", "surrogatepass")
    return Secret(written)


def holds_secret(line: str) -> bool:
    """Whether a command shows a secret: it is not to be kept, nor shown again."""
    words = line.lower().split()
    return (words[:1] == ["/register"] and len(words) > 1) or (
        words[:1] == ["/name"] and len(words) > 2
    )


class _Asked(NamedTuple):
    """A ``/name`` or ``/register`` that waits for its answer."""

    ref: str | None
    verb: bytes
    name: str
    secret: Secret | None
    may_be_refused: bool = False


class Identity:
    """
    Who a client is, over all of its connections.

    :ivar name: the name as the relay shows it; before the first welcome as it was given.
    :ivar membership: the rooms that it is in.
    """

    def __init__(self, name: bytes, secret: Secret | None, *, wants_token: bool = True) -> None:
        """
        Begin with what the first connection claims.

        :param wants_token: whether there will be other connections, for which a token
            spares the relay the hashing of the secret.
        """
        self.name = name.decode("utf-8")
        self.membership = Membership()
        self._secret = secret
        self._wants_token = wants_token
        self._token: Secret | None = None
        self._token_ref: str | None = None
        self._asked: deque[_Asked] = deque(maxlen=_MAX_ASKED)
        self._doubtful: list[Secret] = []

    @property
    def proof(self) -> Secret | None:
        """What the next claim of the name carries; ``None`` for a name nobody owns."""
        return self._token or self._secret

    @property
    def is_registered(self) -> bool:
        """Whether the name was granted for a secret, or has been given one."""
        return self._secret is not None

    def refused(self, refusal: Refusal) -> bool:
        """
        The claim was refused.

        :returns: whether `proof` is another one now, which may open the name: the secret
            after its token, which may be revoked or expired, and then those of a
            ``/register`` whose answer was lost.
        """
        if not isinstance(refusal, BadSecret | NameOwned):
            return False
        if self._token is not None:
            self._token = None
        elif self._doubtful:
            self._secret = self._doubtful.pop(0)
        else:
            return False
        return True

    def granted(self, name: str) -> None:
        """The claim was granted."""
        self.name = name
        # Whatever would have made another one the name's secret has not happened.
        self._doubtful.clear()

    def lost(self) -> None:
        """The connection has ended: what was not answered may or may not be done."""
        tried = [asked.secret for asked in self._asked if asked.verb == b"register"]
        self._doubtful = [secret for secret in tried if secret is not None][-_MAX_DOUBTFUL:]
        self._asked.clear()
        self._token_ref = None

    # -- the token

    def token_request(self) -> bytes | None:
        """The line to write now, without its end, to be given a token; ``None`` for none."""
        is_enough = self._secret is None or self._secret.is_token or self._token is not None
        if not self._wants_token or is_enough or self._token_ref is not None:
            return None
        self._token_ref = f"token-{token_hex(8)}"
        return with_tags({b"ref": self._token_ref.encode("ascii")}, b"/token")

    def is_token_answer_in(self, data: bytes) -> bool:
        """Whether the answer to `token_request` may be among what came."""
        return self._token_ref is not None and self._token_ref.encode("ascii") in data

    def take_token(self, reply: Reply) -> bool:
        """Whether a reply was the answer to `token_request`, and nobody else's."""
        if self._token_ref is None or reply.tags.get("ref") != self._token_ref:
            return False
        self._token_ref = None
        # With an error the relay is still a relay: the secret serves.
        if reply.word == "token" and reply.arguments:
            self._token = Secret(reply.arguments[0].encode("utf-8"))
        return True

    # -- what else changes it

    def written(self, data: bytes) -> None:
        """Whole lines go to the relay: a ``/name`` or ``/register`` among them is noted."""
        folded = data.lower()
        if b"/name " in folded or b"/register " in folded:
            for line in data.split(b"\n"):
                self._note(line.removesuffix(b"\r"))

    def _note(self, line: bytes) -> None:
        try:
            tags, rest = parse_tags(line)
        except Refusal:
            return
        if not rest.startswith(b"/"):
            return
        verb, arguments = parse_command(rest)
        ref = tags[b"ref"].decode("utf-8") if b"ref" in tags else None
        if verb == b"name" and arguments:
            secret = Secret(arguments[1]) if len(arguments) > 1 else None
            self._asked.append(_Asked(ref, verb, arguments[0].decode("utf-8", "replace"), secret))
        elif verb == b"register" and arguments:
            self._asked.append(_Asked(ref, verb, "", Secret(arguments[0])))

    def renamed(self, reply: Reply) -> None:
        """Another ``!welcome`` came: the answer to a ``/name``."""
        name = reply.arguments[0]
        asked = self._take(reply, b"name", name)
        if not same_name(name, self.name):  # another writing of it keeps its secret
            self._secret = asked.secret if asked is not None else None
            self._token = None
            self.membership.forget_all()
        self.name = name

    def registered(self, reply: Reply) -> None:
        """``!registered`` came: all tokens of the name are revoked."""
        asked = self._take(reply, b"register", "")
        if asked is not None:
            self._secret, self._token = asked.secret, None

    def _take(self, reply: Reply, verb: bytes, name: str) -> _Asked | None:
        ref = reply.tags.get("ref")
        matching = [
            asked
            for asked in self._asked
            if (asked.ref, asked.verb) == (ref, verb) and same_name(asked.name, name)
        ]
        if not matching:
            return None
        asked = next((one for one in matching if not one.may_be_refused), matching[0])
        # Answers keep the order of the lines: those before it have had theirs.
        while self._asked.popleft() is not asked:
            pass
        return asked

    def erred(self, reply: Reply) -> bool:
        """Whether an ``!error`` is the answer to a noted command, which then did nothing."""
        ref = reply.tags.get("ref")
        if ref is None and not (reply.arguments and reply.arguments[0] in _NAMING):
            return False
        for index, asked in enumerate(self._asked):
            if asked.ref != ref or asked.may_be_refused:
                continue
            if ref is None:
                # It may as well be the answer to another line: what follows tells.
                self._asked[index] = asked._replace(may_be_refused=True)
            else:
                self._asked.remove(asked)
            return True
        return False
