"""
A relay of named messages for anything with a TCP socket.

A client connects, its first line is its name, and from then on ``%bob%hello``
reaches bob as ``%alice%hello``.
"""

from chatrelay._version import __version__

__all__ = ["__version__"]
