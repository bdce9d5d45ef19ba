"""Makes ``twistd chatrelay`` known to twistd."""

from twisted.application.service import ServiceMaker

chatrelay = ServiceMaker(
    "chatrelay",
    "chatrelay.service",
    "A relay of named messages for anything with a TCP socket.",
    "chatrelay",
)
