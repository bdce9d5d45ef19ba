"""``python -m chatrelay.certificate``: an authority of one's own, and certificates of a relay."""
