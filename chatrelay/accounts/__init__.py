"""Owned names: names that belong to whoever knows their secret."""
