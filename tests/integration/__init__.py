"""Tests with real processes and sockets, as a user starts and reaches them."""
