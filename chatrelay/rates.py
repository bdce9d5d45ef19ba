"""
How often something may happen: so many times in a window, for one or for each of many.

What was not used comes back evenly over the window, so that whoever waits is never kept waiting
for the whole of it.
"""

from __future__ import annotations

from collections import OrderedDict

# Of the time that one takes: sums of times are not exact.
_TOLERANCE = 1e-3


def take(full_s: float, now_s: float, most: int, window_s: float) -> float | None:
    """
    Take one of what an allowance has left.

    :param full_s: when nothing of it will be missing; 0 if nothing ever was.
    :param most: how many there are in a window, 1 at least.
    :returns: when nothing will be missing after this one, or ``None`` if there is none left.
    """
    one_s = window_s / most
    full_s = max(full_s, now_s) + one_s
    return full_s if full_s <= now_s + window_s + one_s * _TOLERANCE else None


class Rates:
    """
    An allowance for each of many.

    It knows a bounded number of them: those that were asked for last.
    """

    def __init__(self) -> None:
        self._full_s: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Of how many it knows something."""
        return len(self._full_s)

    def take(self, key: str, now_s: float, most: int, window_s: float, *, max_keys: int) -> bool:
        """
        Take one of what `key` has left, if there is one.

        :param most: how many each has in a window; 0 for any number.
        :param max_keys: of how many something is known.
        """
        if not most:
            return True
        known = self._full_s
        before_s = known.pop(key, 0.0)
        full_s = take(before_s, now_s, most, window_s)
        known[key] = before_s if full_s is None else full_s
        # At most one is added by each call.
        for _ in range(2):
            oldest_s = next(iter(known.values()))
            if oldest_s <= now_s or len(known) > max_keys:
                known.popitem(last=False)
        return full_s is not None

    def give_back(self, key: str, most: int, window_s: float) -> None:
        """What was taken is not used."""
        if most and key in self._full_s:
            self._full_s[key] -= window_s / most
