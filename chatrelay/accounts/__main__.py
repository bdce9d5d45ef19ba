"""``python -m chatrelay.accounts``: the accounts of a relay, for its operator."""

from __future__ import annotations

import os
import sys
import time

from chatrelay.accounts.tool import main

if __name__ == "__main__":
    # A name that the terminal's encoding lacks is no reason to fail.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:], os.environ, time.time))
