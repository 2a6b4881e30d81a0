"""``python -m gos_fx``: the command line."""

from __future__ import annotations

import sys

from gos_fx.cli import main

if __name__ == "__main__":
    sys.exit(main())
