"""Tables of the boards' errors, for ``benchmarks.latency_sources``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.calibration import boards
from gos_fx.emulator.calibrate import Calibration, kendall_tau

Rows = Sequence[Mapping[str, Any]]


def raspberry_pi() -> Iterator[tuple[str, Rows]]:
    """Each network by constants that were fitted without it."""
    found = {threads: boards.raspberry_pi(threads) for threads in (1, 4)}
    rows = []
    for threads, calibration in found.items():
        medians = boards.halves(threads)
        rows.append(
            {
                "threads": threads,
                **summary(calibration),
                "half predicts half, median %": percent(float(np.median(medians))),
                "worst half %": percent(max(medians)),
                **constants(calibration),
            }
        )
    yield "Raspberry Pi 3B+ (ncnn's table), each network left out", rows
    networks = []
    for i, program in enumerate(found[1].programs):
        row: dict[str, Any] = {"network": program.name}
        for threads, calibration in found.items():
            row[f"ms, {threads} threads"] = 1e3 * calibration.programs[i].seconds
            row[f"error %, {threads} threads"] = percent(float(calibration.errors[i]))
        networks.append(row)
    yield "The same, network by network", networks


def out_of_order() -> Iterator[tuple[str, Rows]]:
    """Each board by constants that were fitted on the others."""
    found = boards.out_of_order()
    rows = []
    for board in boards.OUT_OF_ORDER:
        mine = [i for i, p in enumerate(found.programs) if p.board == board.name]
        errors = found.errors[mine]
        order = kendall_tau(np.array(found.predicted)[mine], found.measured[mine])
        rows.append(
            {
                "board": board.name,
                "networks": len(mine),
                "median %": percent(float(np.median(np.abs(errors)))),
                "worst %": percent(float(np.max(np.abs(errors)))),
                "bias %": percent(float(np.median(errors))),
                "tau": order,
            }
        )
    rows.append({"board": "all", **summary(found), **constants(found)})
    yield "Out-of-order cores (ncnn's table), each board left out", rows


def summary(found: Calibration) -> dict[str, Any]:
    """Errors of what was left out."""
    return {
        "networks": len(found.programs),
        "median %": percent(found.median),
        "worst %": percent(found.worst),
        "tau": found.tau,
        "90 % within %": percent(found.covering),
        "noise %": percent(found.noise),
    }


def constants(found: Calibration) -> dict[str, float]:
    return {
        "issue": found.constants.issue,
        "ns per line": 1e9 * found.constants.line_s,
    }


def percent(share: float) -> float:
    return round(100 * share, 1)
