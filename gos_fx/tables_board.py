"""What the commands about boards found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gos_fx.tables import Found, milliseconds, table

if TYPE_CHECKING:
    from rich.console import Console


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def show_calibration(out: Console, found: Found) -> None:
    for fit in found["fits"]:
        calibration = fit["calibration"]
        threads = fit["threads"]
        title = f"{found['target']}, {threads} thread{'s' if threads > 1 else ''}"
        if calibration is None:
            out.print(f"{title}: {fit['source']}, error {percent(fit['error'])}")
            continue
        rows = [
            (
                row["name"],
                milliseconds(row["measured_s"]),
                milliseconds(row["predicted_s"]),
                percent(row["error"]),
            )
            for row in calibration["programs"]
        ]
        columns = ("program|", "ms measured", "ms without it", "error")
        out.print(table(title, columns, rows))
        out.print(
            f"issue {fit['issue']:.4g}, {1e9 * fit['line_s']:.4g} ns per line. Each "
            f"left out of the fit: median {percent(calibration['median'])}, worst "
            f"{percent(calibration['worst'])}, Kendall tau {calibration['tau']:.3f}. "
            f"Stated error {percent(fit['error'])}."
        )
    out.print(f"Saved in {found['output']}: give that path as --target.")


def show_doctor(out: Console, found: Found) -> None:
    rows = [
        (check["name"], check["state"], check["found"], check["needed_for"])
        for check in found["checks"]
    ]
    out.print(table("", ("|", "state|", "found|", "needed for|"), rows))
    for check in found["checks"]:
        if check["do"]:
            out.print(f"{check['name']}: {check['do']}")
