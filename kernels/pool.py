"""A free board, from the tracker, that is not in quarantine."""

from __future__ import annotations

import time

from gos_fx.errors import BoardUnavailable
from gos_fx.kernels.quarantine import QUARANTINE
from gos_fx.kernels.tracker import Server, Tracker
from gos_fx.targets.target import BoardAddress

_LOOK_S = 1.0  # between two looks at which boards there are


def acquire(address: BoardAddress, wait_s: float) -> Server:
    """A board that will accept one session.

    Args:
        wait_s: seconds to wait while others use all of them.

    Raises:
        BoardUnavailable: no tracker, no board of this key, none that works, or none
            became free.
    """
    if not address.tracker:
        server = Server(address.host, address.port, address.key)
        if reason := QUARANTINE.reason(server.name):
            raise _none_left(address, {server.name: reason})
        return server
    deadline = time.monotonic() + wait_s
    with Tracker(address) as queue, Tracker(address) as status:
        _check_known(address, status)
        queue.request(address.key)
        while time.monotonic() < deadline:
            granted = queue.granted(_LOOK_S)
            if granted is None:
                # Boards may go while we wait, or be found to fail by another thread.
                _check_known(address, status)
            elif QUARANTINE.reason(granted.name) is None:
                return granted
            else:
                # Left alone, the server offers itself anew after some seconds.
                queue.request(address.key)
    raise BoardUnavailable(
        f"no board became free in {wait_s:.0f} s",
        where=str(address),
        do="Others use them: python -m tvm.exec.query_rpc_tracker shows the queue.",
    )


def _check_known(address: BoardAddress, tracker: Tracker) -> None:
    """Raises BoardUnavailable unless there is a board to wait for."""
    servers = tracker.servers()
    known = servers.get(address.key)
    if not known:
        keys = ", ".join(repr(key) for key in servers) or "none"
        raise BoardUnavailable(
            f"no board is registered under the key {address.key!r}; "
            f"keys that the tracker knows: {keys}",
            where=str(address),
            do="On the board: python -m tvm.exec.rpc_server --tracker HOST:PORT "
            '--key KEY  (pip install "apache-tvm[rpc]")',
        )
    reasons = {name: QUARANTINE.reason(name) for name in known}
    bad = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(bad) == len(reasons):
        raise _none_left(address, bad)


def _none_left(address: BoardAddress, reasons: dict[str, str]) -> BoardUnavailable:
    what = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
    return BoardUnavailable(
        f"no board is left: {what}",
        where=str(address),
        do="Restart the boards' RPC servers.",
    )
