"""The process that talks to boards: ``python -m gos_fx.kernels.remote_worker``.

A call of TVM's RPC cannot be interrupted, so it must not happen in the process of
the search. This one reads jobs from its standard input, a JSON object on each line, and
forks for each: the session ends with the child, whatever happened in it. Events go to
the standard output, a JSON object on each line; ``within`` is the number of seconds in
which the next one is to be expected.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serve the jobs of the standard input until it ends."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what TVM prints must not get between the events
    warnings.filterwarnings("ignore")

    def say(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        from tvm import rpc  # noqa: F401  (once, for all children)
    except ImportError as error:
        say(failed="extra", message=str(error))
        return
    say(ready=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _serve(json.loads(line), say)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            say(failed="board", message="the connection to the board broke")


def _serve(job: dict[str, Any], say: Callable[..., None]) -> None:
    from gos_fx.kernels.remote_session import Fault, Session

    # If whoever started this died while a call hangs, nobody else would end it.
    faulthandler.dump_traceback_later(job["session_s"], exit=True)
    try:
        say(done=Session(job, say).result())
    except Fault as fault:
        say(failed=fault.kind, message=fault.message)
    except Exception as error:
        say(failed="bug", message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
