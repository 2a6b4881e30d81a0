"""Tables of the boards' errors, for ``benchmarks.latency_sources``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.calibration import boards, snapdragon
from gos_fx.emulator.calibrate import (
    Calibration,
    Constants,
    Program,
    calibrate,
    fit,
    kendall_tau,
)

Rows = Sequence[Mapping[str, Any]]


def raspberry_pi() -> Iterator[tuple[str, Rows]]:
    """Each network by constants that were fitted without it."""
    rows = []
    for threads in (1, 4):
        for kind, programs in (
            ("the study's", boards.study_programs(boards.PI, threads)),
            ("ours", boards.programs(boards.PI, threads)),
        ):
            found = calibrate(programs)
            medians = boards.halves(programs)
            rows.append(
                {
                    "counts": kind,
                    "threads": threads,
                    **summary(found),
                    "half by half %": percent(float(np.median(medians))),
                    "worst half %": percent(max(medians)),
                    **constants(found),
                }
            )
    yield "Raspberry Pi 3B+ (ncnn's table), each network left out", rows
    yield (
        "Networks that are not in the study, by constants of those that are",
        _unseen(),
    )
    yield "The same constants on other boards with this core", _other_boards()
    yield "Raspberry Pi 3B+, our counts, network by network", _networks()


def _unseen() -> Rows:
    known = {program.name for program in boards.study_programs(boards.PI)}
    rows = []
    for threads in (1, 4):
        programs = boards.programs(boards.PI, threads)
        found = fit([p for p in programs if p.name in known])
        rows.append(
            {
                "threads": threads,
                **_errors(found, [p for p in programs if p.name not in known]),
            }
        )
    return rows


def _other_boards() -> Rows:
    rows = []
    for threads in (1, 4):
        found = boards.raspberry_pi(threads).constants
        other = boards.programs(boards.RK3399_LITTLE, threads)
        rows.append({"board": "rk3399", "threads": threads, **_errors(found, other)})
    return rows


def _errors(found: Constants, unseen: Sequence[Program]) -> dict[str, Any]:
    predicted = np.array([found.seconds(program) for program in unseen])
    measured = np.array([program.seconds for program in unseen])
    errors = predicted / measured - 1
    return {
        "networks": len(unseen),
        "median %": percent(float(np.median(np.abs(errors)))),
        "worst %": percent(float(np.max(np.abs(errors)))),
        "bias %": percent(float(np.median(errors))),
        "tau": kendall_tau(predicted, measured),
    }


def _networks() -> Rows:
    found = {threads: boards.raspberry_pi(threads) for threads in (1, 4)}
    rows = []
    for i, program in enumerate(found[1].programs):
        row: dict[str, Any] = {"network": program.name}
        for threads, calibration in found.items():
            row[f"ms, {threads} threads"] = 1e3 * calibration.programs[i].seconds
            row[f"error %, {threads} threads"] = percent(float(calibration.errors[i]))
        rows.append(row)
    return rows


def out_of_order() -> Iterator[tuple[str, Rows]]:
    """Each board by constants that were fitted on the others."""
    found = boards.out_of_order()
    rows = []
    for board in boards.OUT_OF_ORDER:
        others = fit([p for p in found.programs if p.board != board.name])
        mine = [p for p in found.programs if p.board == board.name]
        rows.append({"board": board.name, **_errors(others, mine)})
    rows.append({"board": "all", **summary(found), **constants(found)})
    yield "Out-of-order cores (ncnn's table), each board left out", rows


def snapdragon_845() -> Iterator[tuple[str, Rows]]:
    """Public figures of the chip by constants fitted on the others."""
    found = snapdragon.calibrate()
    prior = snapdragon.prior()
    errors = {
        "prior": found.errors([prior.seconds(f.program) for f in found.used]),
        "fit": found.errors([found.scale.seconds(f.program) for f in found.used]),
        "without it": found.errors(found.without_figure),
        "without its board": found.errors(found.without_board),
    }
    rows: list[dict[str, Any]] = []
    for i, figure in enumerate(found.used):
        row = _figure(figure)
        for name, off in errors.items():
            row[f"{name} %"] = percent(float(off[i]))
        rows.append(row)
    yield "Snapdragon 845 and its core: public figures, and errors of predictions", rows
    yield (
        "Constants of the Snapdragon 845",
        [
            {
                "issue": found.scale.issue,
                "ns per line, 1 thread": 1e9 * found.scale.line_s,
                "ns per line, 4 threads": 1e9 * found.scale.line_all_s,
                "stated error %": percent(found.error),
            }
        ],
    )
    unused = [
        {
            **_figure(figure),
            "ms predicted, 4 cores": 1e3 * found.scale.seconds(figure.program),
            "not used": figure.role,
        }
        for figure in snapdragon.figures()
        if figure.role != "fit"
    ]
    yield "Figures that are not of its four big cores", unused


def _figure(figure: snapdragon.Figure) -> dict[str, Any]:
    program = figure.program
    return {
        "network": program.name,
        "engine": figure.engine,
        "board": program.board,
        "threads": program.threads,
        "ms": 1e3 * program.seconds,
    }


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
