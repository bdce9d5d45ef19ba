"""What pytest needs to run tests as strictly as trial does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Put the tests that run the reactor themselves first.

    pytest-twisted leaves the reactor running after the first plain function, and a
    trial TestCase then fails with ReactorAlreadyRunning.
    """
    items.sort(key=lambda item: not issubclass(getattr(item, "cls", None) or object, TestCase))


@pytest.fixture(autouse=True)
def logged_failures(request: pytest.FixtureRequest) -> Iterator[list[Failure]]:
    """
    Fail a test on an error that was only logged; one that expects it clears the list.

    A trial case does this itself, and has ``flushLoggedErrors``.
    """
    failures: list[Failure] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    try:
        yield failures
    finally:
        globalLogPublisher.removeObserver(observe)
    if failures and not issubclass(request.cls or object, SynchronousTestCase):
        pytest.fail("\n".join(failure.getTraceback() for failure in failures))
