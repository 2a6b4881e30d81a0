"""Prints the constants for ``gos_fx/targets/arm.py``, rounded as they stand there.

python -m benchmarks.calibration.records
"""

from __future__ import annotations

import math

from benchmarks.calibration import boards, snapdragon
from gos_fx.targets.target import Fit


def record(fit: Fit) -> str:
    """One line of the target's file; the error is rounded up."""
    error = math.ceil(100 * fit.error) / 100
    line = f"{1e9 * fit.line_s:.4g}e-9"
    return f"Fit({fit.threads}, {fit.issue:.4g}, {line}, {error:g}, {fit.noise:.2g})"


def main() -> None:
    print("_A53_FITS")
    for threads in (1, 4):
        print(f"    {record(boards.raspberry_pi(threads).fit(threads, ''))}")
    print("_SDM845_FITS")
    for fit in snapdragon.calibrate().fits:
        print(f"    {record(fit)}")


if __name__ == "__main__":
    main()
