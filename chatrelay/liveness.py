"""Whether a client that asked to be asked (the cap ``ping``) is still there."""

from __future__ import annotations

from enum import Enum

from chatrelay.limits import Limits

# More than this between two ticks is time in which the relay itself did not run.
_MAX_TICK_S = 2.0


class Due(Enum):
    """What a tick finds."""

    NOTHING = "it was heard, or is not silent for long"
    PING = "it is to be asked"
    CLOSE = "it was asked and did not answer"


class Silence:
    """For how long nothing came from one client while it was read."""

    __slots__ = ("_asked", "_heard_s", "_silent_s")

    def __init__(self, heard_s: float) -> None:
        """
        Begin to listen.

        :param heard_s: when something last came from it.
        """
        self._heard_s = heard_s
        self._silent_s = 0.0
        self._asked = False

    def tick(self, heard_s: float, elapsed_s: float, limits: Limits, *, held: bool) -> Due:
        """
        Count one more second.

        Anything that comes from the client is an answer, not only ``/pong``.

        :param heard_s: when something last came from it.
        :param elapsed_s: time since the last tick.
        :param held: whether it is not read; what it sends then can not be heard.
        """
        if heard_s != self._heard_s:
            self._heard_s, self._silent_s, self._asked = heard_s, 0.0, False
            return Due.NOTHING
        if held:
            return Due.NOTHING
        self._silent_s += min(elapsed_s, _MAX_TICK_S)
        if self._asked:
            is_over = self._silent_s >= limits.ping_after_s + limits.ping_timeout_s
            return Due.CLOSE if is_over else Due.NOTHING
        if self._silent_s < limits.ping_after_s:
            return Due.NOTHING
        self._asked = True
        return Due.PING
