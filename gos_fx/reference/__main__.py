"""``python -m gos_fx.reference``: the page on stdout."""

import sys

from gos_fx.reference.page import page

sys.stdout.write(page())
