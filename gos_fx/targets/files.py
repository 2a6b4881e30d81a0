"""Targets of users: JSON files, and names given at run time."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gos_fx.errors import BadOption, UnknownTarget
from gos_fx.targets import target as table
from gos_fx.targets.record import target_from_json, target_to_json
from gos_fx.targets.target import Target
from gos_fx.targets.validate import check_target

SUFFIX = ".json"
_LARGEST = 1 << 20  # bytes of a record; one takes some thousand


def load_target(path: str | os.PathLike[str]) -> Target:
    """The target in a JSON file, as ``gos-fx calibrate`` writes it. Runs no code.

    Raises:
        UnknownTarget: there is no such file, or it cannot be read.
        BadOption: it holds no target, or one with an impossible value.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise BadOption(
                f"a record of more than {_LARGEST} bytes is none of a target",
                where=str(path),
                do="Write one with gos-fx calibrate.",
            )
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnknownTarget(
            f"there is no target: {error.strerror}",
            where=str(path),
            do="Give the file that gos-fx calibrate wrote, or one of gos-fx targets.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadOption(
            f"this is not JSON: {error}",
            where=str(path),
            do="Write a target's record with gos-fx calibrate.",
        ) from error
    try:
        return target_from_json(data)
    except BadOption as error:
        raise BadOption(error.what, f"{path}, {error.where}", error.do) from error


def save_target(target: Target, path: str | os.PathLike[str]) -> None:
    """Write the file that :func:`load_target` reads, whole or not at all.

    Raises:
        BadOption: it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(target_to_json(target), indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BadOption(
            f"the target cannot be written: {error.strerror}",
            where=str(path),
            do="Name a file in a directory that can be written.",
        ) from error


def register_target(target: Target) -> Target:
    """Make a target known by its name, in this process, and return it.

    Raises:
        BadOption: the name is that of another target, or a value is impossible.
    """
    if not isinstance(target, Target):
        raise BadOption(
            f"{type(target).__name__} is not a target",
            where="argument target",
            do="gos_fx.load_target(path) reads one from a file.",
        )
    check_target(target)
    if target.name in table.names():
        if table.get(target.name) == target:
            return target
        raise BadOption(
            f"another target is called {target.name!r}",
            where="argument target",
            do="Give it another name: dataclasses.replace(target, name=...).",
        )
    return table.register(target)
