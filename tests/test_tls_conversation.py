"""The same conversations over TLS: what the tests of other modules say holds there, too."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests import (
    test_commands,
    test_flow,
    test_messages,
    test_naming,
    test_protocol,
    test_session_lines,
    test_tags_and_refs,
)
from tests.tls_harness import TlsWorld

# Every class with a relay, but that of a client that closes only its sending side: TLS has one
# end for both directions.
CLASSES = {
    test_commands: "Command Caps Who Watch PingCap",
    test_flow: "Mark Slow Turn",
    test_messages: "Message Leaving Bot",
    test_naming: "FirstLine RefusedFirstLine Holder NameCommand PendingClaim",
    test_protocol: "OtherProtocol BeforeAName Closing Shutdown Address",
    test_session_lines: "LineLength LineEnd Text Failure",
    test_tags_and_refs: "Tag Ref Repetition",
}
NOT_OF_TLS = {
    # One side is closed, or the peer has not closed although it was told.
    "test_a_peer_that_does_not_close_is_aborted_after_5_seconds",
    "test_who_does_not_close_is_waited_for_a_moment_only",
    "test_who_has_ended_its_input_is_still_written_its_answers",
    "test_who_was_already_closing_does_not_delay_it",
    # A mark below what a TLS transport takes, which counts as sent.
    "test_a_long_answer_stops_over_the_mark_and_goes_on",
    "test_who_leaves_while_a_long_answer_is_written_is_left_out",
    # They look for text among the bytes that were sent.
    "test_work_off_the_quick_path_is_shared",
}


def _over_tls(module: ModuleType, base: Any) -> type[SynchronousTestCase]:
    def setUp(self: Any) -> None:
        patched = mock.patch.object(module, "World", TlsWorld)
        patched.start()
        self.addCleanup(patched.stop)
        base.setUp(self)

    # A copy, as what is inherited can not be left out.
    kept = {name: value for name, value in vars(base).items() if name not in NOT_OF_TLS}
    name = f"{base.__name__.removesuffix('Tests')}OverTlsTests"
    kept |= {"__module__": __name__, "__qualname__": name, "setUp": setUp}
    return type(name, base.__bases__, kept)


for _module, _names in CLASSES.items():
    for _name in _names.split():
        _class = _over_tls(_module, getattr(_module, f"{_name}Tests"))
        globals()[_class.__name__] = _class
del _class


class LeftOutTests(SynchronousTestCase):
    """What is left out is there."""

    def test_every_name_is_that_of_a_test(self) -> None:
        there_are = {
            test
            for module, names in CLASSES.items()
            for name in names.split()
            for test in vars(getattr(module, f"{name}Tests"))
        }
        self.assertEqual(NOT_OF_TLS - there_are, set())
