"""A target as plain data and back: what packages, workers and files hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gos_fx.errors import BadOption
from gos_fx.targets.target import (
    BoardAddress,
    Emulation,
    Energy,
    Fit,
    Machine,
    Target,
)
from gos_fx.targets.validate import check_target


def target_to_json(target: Target) -> dict[str, Any]:
    """Numbers, strings, lists and dicts only."""
    return {**asdict(target), "tvm": dict(target.tvm)}


def target_from_json(data: Mapping[str, Any]) -> Target:
    """Inverse of :func:`target_to_json`, for data that nobody has looked at.

    Raises:
        BadOption: a field is missing, unknown or impossible; the message names it.
    """
    try:
        fields = {**data, "machine": Machine(**data["machine"])}
        if (emulation := data["emulation"]) is not None:
            fits = tuple(Fit(**fit) for fit in emulation["fits"])
            fields["emulation"] = Emulation(**{**emulation, "fits": fits})
        if (energy := data.get("energy")) is not None:
            fields["energy"] = Energy(**energy)
        if (board := data.get("board")) is not None:
            fields["board"] = BoardAddress(**board)
        target = Target(**fields)
    except (KeyError, TypeError) as error:
        raise BadOption(
            f"this is not the record of a target: {error}",
            where="target",
            do="Write one with gos-fx calibrate.",
        ) from error
    check_target(target)
    return target
