"""The one place that reads environment variables of gos_fx, and TVM's tracker.

====================  ==========================================================
``GOS_FX_CACHE``      directory for what can be made again (compiled code, ...)
``GOS_FX_DEBUG``      0..4: how much is said of the inside; 0 is nothing
``GOS_FX_VERIFY``     1: check the graph after every pass
``TVM_TRACKER_HOST``  where TVM's RPC tracker runs
``TVM_TRACKER_PORT``  its port, 9190 unless set
``TVM_TRACKER_KEY``   key under which the board's RPC server is registered
====================  ==========================================================
"""

from __future__ import annotations

import os
from pathlib import Path

from gos_fx.errors import BadOption

MAX_DEBUG_LEVEL = 4
_TRACKER_PORT = "9190"  # tvm.exec.rpc_tracker's default


def cache_dir() -> Path:
    """Directory for what can be made again. It is not created here."""
    chosen = os.environ.get("GOS_FX_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("gos_fx")


def debug_level() -> int:
    """How much is said of the inside, 0 to 4.

    Raises:
        BadOption: ``GOS_FX_DEBUG`` is not such a number.
    """
    text = os.environ.get("GOS_FX_DEBUG", "") or "0"
    if not text.isdecimal() or int(text) > MAX_DEBUG_LEVEL:
        raise BadOption(
            f"{text!r} is not a debug level",
            where="environment variable GOS_FX_DEBUG",
            do=f"Set it to a number from 0 to {MAX_DEBUG_LEVEL}, or unset it.",
        )
    return int(text)


def verify_passes() -> bool:
    """Whether every pass is followed by a check of the graph.

    Raises:
        BadOption: ``GOS_FX_VERIFY`` is neither 0 nor 1.
    """
    text = os.environ.get("GOS_FX_VERIFY", "") or "0"
    if text not in ("0", "1"):
        raise BadOption(
            f"{text!r} is neither 0 nor 1",
            where="environment variable GOS_FX_VERIFY",
            do="Set it to 0 or 1, or unset it.",
        )
    return text == "1"


def tracker() -> str | None:
    """``"host:port"`` of TVM's RPC tracker, None where no host is set."""
    host = os.environ.get("TVM_TRACKER_HOST")
    if not host:
        return None
    return f"{host}:{os.environ.get('TVM_TRACKER_PORT') or _TRACKER_PORT}"


def tracker_key() -> str | None:
    """Key of the boards to ask the tracker for, None where it is not set."""
    return os.environ.get("TVM_TRACKER_KEY") or None
