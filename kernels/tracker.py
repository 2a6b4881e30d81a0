"""A client of TVM's RPC tracker that never waits longer than it is told to.

TVM's own (``tvm.rpc.connect_tracker``) tries for a minute to reach a tracker that is
not there, waits without end for a board of a key that nobody has, and does not say
which server it gave. The protocol is described in ``tvm/rpc/tracker.py``.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gos_fx.errors import BoardUnavailable
from gos_fx.targets.target import BoardAddress

_MAGIC = 0x2F271
_SUCCESS, _REQUEST, _SUMMARY = 0, 4, 6
_REPLY_S = 20.0  # a tracker answers from memory
_MAX_REPLY = 1 << 24  # bytes
_START = (
    "Start it: python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port {port}  "
    '(pip install "apache-tvm[rpc]")'
)


@dataclass(frozen=True)
class Server:
    """A board's RPC server, and the key of the one session that it will accept."""

    host: str
    port: int
    match_key: str

    @property
    def name(self) -> str:
        """``"host:port"``."""
        return f"{self.host}:{self.port}"


class Tracker:
    """A connection to the tracker of an address; a context manager.

    Raises:
        BoardUnavailable: nothing answers there, or what answers is no tracker.
    """

    def __init__(self, address: BoardAddress) -> None:
        self._address = address
        try:
            self._socket = socket.create_connection(
                (address.host, address.port), timeout=_REPLY_S
            )
        except OSError as error:
            raise self._unavailable(f"there is no tracker: {error}") from error
        try:
            self._socket.sendall(struct.pack("<i", _MAGIC))
            if struct.unpack("<i", self._receive(4))[0] != _MAGIC:
                raise self._unavailable("what answers is not TVM's tracker")
        except OSError as error:
            self._socket.close()
            raise self._unavailable(f"the tracker is silent: {error}") from error
        except BoardUnavailable:
            self._socket.close()
            raise

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def servers(self) -> dict[str, tuple[str, ...]]:
        """``"host:port"`` of the servers that the tracker knows, by key.

        Raises:
            BoardUnavailable: the tracker went away.
        """
        found: dict[str, list[str]] = {}
        for server in self._ask([_SUMMARY])["server_info"]:
            # The key is "server:KEY"; the key itself may have colons.
            key = server["key"].partition(":")[2]
            host, port = server["addr"]
            found.setdefault(key, []).append(f"{host}:{port}")
        return {key: tuple(sorted(names)) for key, names in sorted(found.items())}

    def request(self, key: str) -> None:
        """Queue for a board; :meth:`granted` says when there is one.

        The place in the queue lasts as long as the connection.

        Raises:
            BoardUnavailable: the tracker went away.
        """
        self._send([_REQUEST, key, "", 1])

    def granted(self, seconds: float) -> Server | None:
        """The board that was queued for, None if none became free in this time.

        Raises:
            BoardUnavailable: the tracker went away.
        """
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return None
        except OSError as error:
            raise self._unavailable(f"the tracker went away: {error}") from error
        finally:
            self._socket.settimeout(_REPLY_S)
        host, port, match_key = self._reply()
        return Server(str(host), int(port), str(match_key))

    def _ask(self, message: list[Any]) -> Any:
        self._send(message)
        return self._reply()

    def _send(self, message: list[Any]) -> None:
        data = json.dumps(message).encode()
        try:
            self._socket.sendall(struct.pack("<i", len(data)) + data)
        except OSError as error:
            raise self._unavailable(f"the tracker went away: {error}") from error

    def _reply(self) -> Any:
        try:
            size = struct.unpack("<i", self._receive(4))[0]
            if not 0 < size <= _MAX_REPLY:
                raise ValueError(f"a reply of {size} bytes")
            code, value = json.loads(self._receive(size))
            if code != _SUCCESS:
                raise ValueError(f"code {code}")
            return value
        except (OSError, ValueError, TypeError) as error:
            raise self._unavailable(f"the tracker went away: {error}") from error

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise OSError("connection closed")
            data += part
        return data

    def _unavailable(self, what: str) -> BoardUnavailable:
        return BoardUnavailable(
            what, where=str(self._address), do=_START.format(port=self._address.port)
        )
