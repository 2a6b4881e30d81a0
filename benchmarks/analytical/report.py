"""What the analytical model is worth: errors on held-out operators and on networks.

python -m benchmarks.analytical.report [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.analytical import networks
from benchmarks.analytical.errors import HELD_OUT, errors, is_held_out, measured
from benchmarks.analytical.kernels import UNSEEN, read
from gos_fx.latency import planning
from gos_fx.latency.analytical import AnalyticalSource
from gos_fx.targets import get

TARGETS = ("arm_a53", "raspberry_pi_3b_plus")
_SETTINGS = (
    ("arm_a53", 1),
    ("arm_a53", 4),
    ("snapdragon_845", 1),
    ("snapdragon_845", 4),
)


def operator_errors() -> dict[str, Any]:
    """By target and threads, on operators on which no constant was fitted.

    The forms were chosen with those at hand; of the "unseen" ones nothing was.
    """
    return {
        f"{target}:{threads}": asdict(errors(found))
        for target, threads in _SETTINGS
        if (found := measured(target, threads, held_out=True))
    } | {"arm_a53:1 unseen": asdict(errors(read(UNSEEN)))}


def family_errors(target: str = "arm_a53") -> dict[str, Any]:
    """By family, held-out operators only."""
    every = [one for one in measured(target) if is_held_out(one)]
    families = sorted({one.family for one in every})
    return {
        family: asdict(errors([one for one in every if one.family == family]))
        for family in families
    }


def network_errors() -> dict[str, Any]:
    """Relative errors of whole networks, and of what runs between operators."""
    counted = networks.read()
    found: dict[str, Any] = {}
    for key, rows in counted.items():
        name, threads = key.split(":")
        for board in TARGETS:
            target = get(board)
            said = AnalyticalSource(target, int(threads)).network(networks.traced(name))
            between = {k: v for k, v in rows.items() if k not in said.operators}
            glue = sum(estimate.seconds for estimate in said.others.values())
            emulated = networks.seconds(rows, target, int(threads))
            emulated_glue = networks.seconds(between, target, int(threads))
            found[f"{key}:{board}"] = {
                "analytical_s": said.total.seconds,
                "emulator_s": emulated,
                "error": said.total.seconds / emulated - 1,
                "between_error": glue / emulated_glue - 1,
                "between_share": emulated_glue / emulated,
            }
    return found


def milliseconds() -> dict[str, float]:
    """CPU time of the first estimate of an operator, nothing cached."""
    source = AnalyticalSource(get("arm_a53"), 4)
    graphs = [one.graph for one in measured("arm_a53", 1)]
    planning.forget()
    times = []
    for graph in graphs:
        before = time.process_time()
        source.operator(graph)
        times.append(1e3 * (time.process_time() - before))
    times.sort()
    return {
        "median": statistics.median(times),
        "quantile_90": times[int(0.9 * len(times))],
    }


def analytical_errors() -> dict[str, Any]:
    """All of it, as plain data."""
    return {
        "held_out_families": sorted(HELD_OUT),
        "operators": operator_errors(),
        "families": family_errors(),
        "networks": network_errors(),
        "milliseconds": milliseconds(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    path = parser.parse_args().json
    found = analytical_errors()
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'held out':24} count  median  90 %   worst   tau")
    for part in ("operators", "families"):
        for name, row in found[part].items():
            print(
                f"{name:24} {row['count']:5} {row['median']:7.3f} "
                f"{row['quantile_90']:6.3f} {row['worst']:7.2f} {row['tau']:6.3f}"
            )
    for name, row in found["networks"].items():
        print(
            f"{name:40} {1e3 * row['emulator_s']:8.1f} ms, error {row['error']:+.3f}; "
            f"{row['between_share']:.2f} between, error {row['between_error']:+.3f}"
        )
    print("ms an operator:", found["milliseconds"])


if __name__ == "__main__":
    main()
