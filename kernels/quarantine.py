"""Boards that failed are left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Failures in a row after which a board is not asked again for a while. One may be the
# network's, or the server's restart.
_FAILURES = 2


class Quarantine:
    """Which servers of boards (``"host:port"``) are not to be asked, and why.

    Args:
        now: seconds of a clock that does not go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._until: dict[str, tuple[float, str]] = {}

    def failed(self, name: str, reason: str, seconds: float, at_once: bool) -> None:
        """A measurement on this board failed.

        Args:
            seconds: how long it is not asked, if this puts it in quarantine.
            at_once: it does so for the first time already.
        """
        with self._lock:
            self._failures[name] = self._failures.get(name, 0) + 1
            if at_once or self._failures[name] >= _FAILURES:
                self._until[name] = (self._now() + seconds, reason)

    def worked(self, name: str) -> None:
        """A measurement on this board succeeded: earlier failures are forgotten."""
        with self._lock:
            self._failures.pop(name, None)
            self._until.pop(name, None)

    def reason(self, name: str) -> str | None:
        """Why the board is not to be asked; None if it may be."""
        with self._lock:
            until, reason = self._until.get(name, (0.0, ""))
            left = until - self._now()
            return f"{reason}; asked again in {left:.0f} s" if left > 0 else None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._failures.clear()
            self._until.clear()


# Of this process: all sources of latencies share what they learned about the boards.
QUARANTINE = Quarantine()
