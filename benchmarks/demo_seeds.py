"""The demo's search over several seeds: how much accuracy is lost on unseen images.

python -m benchmarks.demo_seeds [--seeds 5] [--out build/demo_seeds.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.demo import EPSILON, report_of, train_and_optimize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/demo_seeds.json"))
    arguments = parser.parse_args()
    console = Console()
    table = Table(
        "seed", "test before", "test after", "drop", "95 % interval", "speedup"
    )
    reports = []
    for seed in range(arguments.seeds):
        report = report_of(train_and_optimize(seed))
        reports.append(report)
        low, high = report["test_drop_interval_95"]
        table.add_row(
            str(seed),
            f"{report['baseline']['metric_test']:.2%}",
            f"{report['optimized']['metric_test']:.2%}",
            f"{report['test_drop']:+.2%}",
            f"[{low:+.2%}, {high:+.2%}]",
            f"{report['speedup']:.2f}x",
        )
        console.print(f"seed {seed}: done")
    drops = [report["test_drop"] for report in reports]
    summary = {
        "epsilon": EPSILON,
        "median_test_drop": statistics.median(drops),
        "median_speedup": statistics.median(r["speedup"] for r in reports),
        "reports": reports,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(summary, indent=1) + "\n")
    console.print(table)
    console.print(
        f"median drop {summary['median_test_drop']:+.2%} (epsilon {EPSILON:.0%}), "
        f"median speed-up {summary['median_speedup']:.2f}x (analytical)"
    )


if __name__ == "__main__":
    main()
