"""Counts of the engines' programs by the emulator: ``counts.csv``.

    python -m benchmarks.calibration.count [--recordings DIR] [--again] [SETTING ...]

The engines are not part of this repository. ``GOS_FX_NCNN`` and ``GOS_FX_XNNPACK`` name
aarch64 programs that take a network's name and a number of threads, and call
``clock_gettime`` twice in all, around one inference after a warm-up:

* ncnn 3a74ae4d3 (June 2023, the commit that published the Raspberry Pi's figures), gcc
  12.2, -O3, OpenMP, without the kernels of Armv8.2; the options of its benchncnn.
* XNNPACK 71ff5927b5 (March 2020), its own models and the loop of bench/end2end.cc.

What is emulated is kept in ``--recordings``, so that another issue model needs only the
timing of the blocks again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.calibration.boards import COUNTS, PUBLISHED, rows
from gos_fx.emulator.counts import Recording, ThreadCounts, merge
from gos_fx.emulator.measure import clock_region
from gos_fx.emulator.qemu import record
from gos_fx.emulator.timing import Clock
from gos_fx.targets import get
from gos_fx.targets.target import Target

COLUMNS = ("setting", "program", "threads", "instructions", "l2_misses", "l3_misses")
COLUMNS += ("writebacks", "cycles", "busiest")
_MIB = 1 << 20
_TIMEOUT = 3600.0
_XNNPACK = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")


def _out_of_order(name: str, l2_bytes: int, midr: int) -> Target:
    """An A72 or A57 board: 32 KiB of 2-way L1D, 128-bit loads, no L3."""
    base = get("arm_a53")
    assert base.emulation is not None
    machine = replace(
        base.machine, l1d_ways=2, l2_bytes=l2_bytes, load_bytes_per_cycle=16.0
    )
    big = get("snapdragon_845").emulation
    assert big is not None
    emulation = replace(
        big, qemu_cpu="cortex-a72", midr=midr, hwcaps=base.emulation.hwcaps
    )
    return replace(base, name=name, machine=machine, emulation=emulation)


def _pixel() -> Target:
    """Snapdragon 670 (Pixel 3a): the 845's big core at 2.0 GHz with 1 MB of L3."""
    base = get("snapdragon_845")
    machine = replace(base.machine, cores=2, clock_hz=2.0e9, l3_bytes=_MIB)
    return replace(base, name="snapdragon_670", machine=machine)


@dataclass(frozen=True)
class Setting:
    """A machine, and what is counted on it."""

    target: Target
    engine: str
    programs: tuple[str, ...]
    threads: tuple[int, ...] = (1,)


def settings() -> dict[str, Setting]:
    """By the name in the table."""
    networks = tuple(row["network"] for row in rows(PUBLISHED))
    a72, a57 = 0x410FD083, 0x411FD071  # MIDR of the Raspberry Pi 4 and of the 810
    return {
        "a53": Setting(get("raspberry_pi_3b_plus"), "ncnn", networks, (1, 4)),
        "a72": Setting(_out_of_order("a72", _MIB, a72), "ncnn", networks),
        "a57": Setting(_out_of_order("a57", 2 * _MIB, a57), "ncnn", networks),
        "sdm670": Setting(_pixel(), "xnnpack", _XNNPACK),
        "sdm845": Setting(
            get("snapdragon_845"),
            "ncnn",
            ("mobilenet", "mobilenet_v2", "yolo-fastest-1.1", "squeezenet", "resnet18")
            + ("shufflenet", "mnasnet", "proxylessnasnet"),
        ),
    }


def count(
    setting: str, program: str, threads: int, recordings: Path | None
) -> dict[str, object]:
    """One row of the table."""
    chosen = settings()[setting]
    kept = None
    if recordings is not None:
        kept = recordings / f"{setting}.{threads}.{program}.json.gz"
    if kept is not None and kept.exists():
        recording, counts = _read(kept)
    else:
        command = [_engine(chosen.engine), program, str(threads)]
        run = record(command, chosen.target, "clock:1", timeout=_TIMEOUT)
        recording = run.recording
        segments = clock_region(recording, 1)
        assert segments is not None, f"{command} does not call the clock twice"
        counts = merge(segments)
        if kept is not None:
            _write(kept, recording, counts)
    (work,) = Clock(chosen.target).work(recording, [counts])
    return {
        "setting": setting,
        "program": program,
        "threads": threads,
        "instructions": work.instructions,
        "l2_misses": work.misses[1],
        "l3_misses": work.misses[2] if len(work.misses) > 2 else "",
        "writebacks": work.writebacks,
        "cycles": round(work.cycles),
        "busiest": round(work.busiest),
    }


def _engine(name: str) -> str:
    path = os.environ.get(f"GOS_FX_{name.upper()}")
    if path is None:
        sys.exit(f"GOS_FX_{name.upper()} names no program: see the docstring")
    return path


def _write(path: Path, recording: Recording, counts: dict[int, ThreadCounts]) -> None:
    used = sorted({block for thread in counts.values() for block in thread.blocks})
    data = {
        "code": {block: recording.code[block].hex() for block in used},
        "threads": {
            thread: [found.blocks, found.misses, found.writebacks]
            for thread, found in counts.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        json.dump(data, file)


def _read(path: Path) -> tuple[Recording, dict[int, ThreadCounts]]:
    with gzip.open(path, "rt") as file:
        data = json.load(file)
    index = {block: i for i, block in enumerate(data["code"])}
    code = tuple(bytes.fromhex(text) for text in data["code"].values())
    counts = {
        int(thread): ThreadCounts(
            {index[block]: n for block, n in blocks.items()}, tuple(misses), writebacks
        )
        for thread, (blocks, misses, writebacks) in data["threads"].items()
    }
    return Recording((), code), counts


def _jobs(chosen: list[str]) -> Iterator[tuple[str, str, int]]:
    for name, setting in settings().items():
        if name in chosen or not chosen:
            for threads in setting.threads:
                yield from ((name, program, threads) for program in setting.programs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="SETTING", default=[])
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--again", action="store_true", help="also what is there")
    arguments = parser.parse_args()
    found: dict[tuple[str, str, int], dict[str, object]] = {}
    if COUNTS.exists():
        for row in rows(COUNTS):
            key = (row["setting"], row["program"], int(row["threads"]))
            found[key] = dict(row)
    for job in _jobs(arguments.settings):
        if job in found and not arguments.again:
            continue
        found[job] = count(*job, arguments.recordings)
        print(*found[job].values(), flush=True)
        with open(COUNTS, "w", encoding="utf-8", newline="") as file:
            file.write("# One inference, counted by benchmarks/calibration/count.py.\n")
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found[key] for key in sorted(found))


if __name__ == "__main__":
    main()
