"""
What the console says about refusals: the first few one by one, the others in a line a minute,
by kind and with the addresses that had most of them.
"""

from __future__ import annotations

from collections import Counter

from chatrelay.networks import network_of

# Of each kind in a minute; and so many seconds are a minute.
_SINGLY = 5
_MINUTE_TICKS = 60
_MAX_NETWORKS = 1000
_SHOWN_NETWORKS = 3


class Refusals:
    """The refusals of one relay since the last summary."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._networks: Counter[str] = Counter()
        self._ticks = 0

    def add(self, kind: str, host: str) -> bool:
        """
        Count a refusal.

        :param kind: what people read; there are a few.
        :param host: the address that was refused something.
        :returns: whether it is to have a line of its own.
        """
        self._kinds[kind] += 1
        if self._kinds[kind] <= _SINGLY:
            return True
        networks = self._networks
        network = network_of(host)
        if network in networks or len(networks) < _MAX_NETWORKS:
            networks[network] += 1
        else:
            # Misra and Gries: whoever has much of a flood from everywhere is still found.
            self._networks = Counter(
                {network: count - 1 for network, count in networks.items() if count > 1}
            )
        return False

    def tick(self) -> str:
        """Once a second: a summary when a minute has passed since the first, if there is any."""
        if not self._kinds:
            return ""
        self._ticks += 1
        return self.summary() if self._ticks >= _MINUTE_TICKS else ""

    def summary(self) -> str:
        """What had no line of its own, in one sentence; then nothing is counted any more."""
        kinds = Counter({kind: count - _SINGLY for kind, count in self._kinds.items()})
        worst = self._networks.most_common(_SHOWN_NETWORKS)
        self._kinds, self._networks, self._ticks = Counter(), Counter(), 0
        kinds = +kinds
        if not kinds:
            return ""
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
        sentence = f"{kinds.total():,} more were refused in the last minute: {listed}"
        if worst:
            sentence += "; most from " + ", ".join(f"{who} ({count:,})" for who, count in worst)
        return sentence
