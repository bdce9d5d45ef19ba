"""Takes over what was changed in the configuration file, while the relay runs."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from chatrelay.configuration import BadConfigurationError, Configuration
from chatrelay.errors import ChatrelayError
from chatrelay.options import BOUNDS, Options
from chatrelay.relay import Relay

_MAX_SHOWN_CHARACTERS = 200

_log = Logger(namespace="chatrelay")


class Reloading:
    """
    The configuration of a relay that runs.

    :ivar running: what the relay runs with now.
    """

    def __init__(self, options: Options, relay: Relay, changed: Callable[[], None]) -> None:
        """
        Begin with what the relay was started with.

        :param options: what reads the file.
        :param changed: called when the relay has taken something over.
        """
        self.running = options.configuration
        self._options = options
        self._relay = relay
        self._changed = changed

    def reread(self) -> None:
        """
        Read the file, and take over what can change; the log has a line for each difference.

        If anything is wrong with the file, the log says what, and nothing changes.
        """
        running = self.running
        if self._options.file is None:
            _log.warn("there is no file to be read again, as no --config was given")
            return
        try:
            new = self._options.reread(running)
        except BadConfigurationError as error:
            for line in error.lines:
                _log.error("not taken over: {line}", line=line)
            return
        except ChatrelayError as error:
            # There is no directory to keep data in by default, and the file names none any more.
            _log.error("not taken over: {line}", line=f"{self._options.file_name}: {error}")
            return
        if self._tell_differences(new):
            self.running = running.until_restart(new)
            self._take_over(self.running)
            self._changed()

    def _tell_differences(self, new: Configuration) -> bool:
        """Say what is other; returns whether anything changes now."""
        file = self._options.file_name
        waiting = self.running.needing_restart(new, BOUNDS)
        was, is_now = self.running.shown(BOUNDS), new.shown(BOUNDS)
        changes = waits = False
        for key, value in is_now.items():
            if was[key] == value:
                continue
            words = {"file": file, "key": key, "old": _cut(was[key]), "new": _cut(value)}
            if key in waiting:
                waits = True
                _log.warn("{file}: {key} is {old} until a restart makes it {new}", **words)
            else:
                changes = True
                _log.info("{file}: {key} is {new} now, it was {old}", **words)
        if not changes and not waits:
            _log.info("{file}: nothing is other than it was", file=file)
        return changes

    def _take_over(self, new: Configuration) -> None:
        relay = self._relay
        relay.limits.change_to(new.limits)
        relay.is_public = new.is_public
        relay.allows_insecure_secrets = new.allows_insecure_secrets
        relay.console.verbose = new.is_verbose
        relay.reserve(new.reserved, new.operators)


def _cut(shown: str) -> str:
    if len(shown) <= _MAX_SHOWN_CHARACTERS:
        return shown
    return shown[:_MAX_SHOWN_CHARACTERS] + "…"
