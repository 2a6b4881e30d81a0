"""Boards and machines. The package can be called: ``gos_fx.targets()`` lists the names.

Importing ``gos_fx.targets`` binds the package to the name under which the public
function is known; a package that can be called serves as both.
"""

from __future__ import annotations

import sys
from types import ModuleType

from gos_fx.targets import arm, host
from gos_fx.targets.target import Machine, Target, get, names, register

__all__ = ["Machine", "Target", "arm", "get", "host", "names", "register"]


class _Targets(ModuleType):
    def __call__(self) -> tuple[str, ...]:
        """Names of all targets."""
        return names()


sys.modules[__name__].__class__ = _Targets
