"""Each kernel of some networks beside the roofs of its target.

    python -m benchmarks.kernels --networks resnet18,mobilenet_v2 --on arm_a53 host

compiles every operator of the networks alone, as it is compiled inside them, on one
thread, and gives two shares for it:

- ``fma``: multiply-adds that the kernel executes (tails included; those of a Winograd
  convolution, not of the direct one) over those that the core could issue meanwhile. On
  an emulated target the time are the cycles of its issue model, on this machine wall
  clock, and the core's rate is measured with ``fma_roof.c``.
- ``memory``: the time in which operands and results could pass at the target's DRAM
  rate over the kernel's latency; small operands stay in caches and exceed one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from pathlib import Path
from statistics import median

import torch

from benchmarks.torchvision_models import network
from gos_fx.ir.fusion import Kernel, partition
from gos_fx.ir.graph import Graph
from gos_fx.kernels import emulator
from gos_fx.kernels.default_tiles import default_tile
from gos_fx.kernels.dense_tiles import dense_plan, dense_sizes
from gos_fx.kernels.packaged import package_operator
from gos_fx.kernels.tiles import concrete, extents, is_dense, is_windowed
from gos_fx.kernels.winograd_tiles import winograd_plan
from gos_fx.latency.source import open_source
from gos_fx.passes.operators import find_operators
from gos_fx.pipeline import prepare
from gos_fx.targets import Target, get
from gos_fx.targets.target import Machine

NETWORKS = ("resnet18", "mobilenet_v2", "mobilenet_v3_large", "inception_v3")
_ROOF = Path(__file__).parent / "fma_roof.c"
_SIZES = {"inception_v3": 299}


@dataclass(frozen=True)
class Row:
    """One kernel.

    Attributes:
        fmas: multiply-adds on numbers that are executed.
        bytes: of operands and results, each once.
        seconds: latency of the kernel alone, operands in caches, weights not.
        issue_seconds: in which the core only issues instructions; None if not known.
        fma, memory: shares of the roofs.
    """

    on: str
    family: str
    shape: str
    count: int
    fmas: int
    bytes: int
    seconds: float
    issue_seconds: float | None
    fma: float
    memory: float


def kernels_of(names: list[str]) -> dict[str, tuple[Graph, int]]:
    """Text of each operator with one kernel -> its graph, how many there are."""
    found: dict[str, tuple[Graph, int]] = {}
    for name in names:
        size = _SIZES.get(name, 224)
        traced = prepare(network(name), (torch.zeros(1, 3, size, size),))
        for operator in find_operators(traced):
            if operator.template is None:
                continue
            graph = operator.concrete
            maps = [k for k in partition(graph) if k.nodes[-1].type.role == "map"]
            if len(maps) == 1 and _family(maps[0], graph):
                count = found.get(graph.text, (graph, 0))[1]
                found[graph.text] = graph, count + 1
    return found


def _family(kernel: Kernel, graph: Graph) -> str:
    types = graph.types
    if kernel.anchor.opcode == "matmul":
        rows = extents(kernel, types)["n"]
        return "matvec" if rows == 1 else "matmul"
    if is_dense(kernel, types):
        sizes = dense_sizes(kernel, types)
        if sizes.groups > 1:
            return "grouped"
        taps = "x".join(map(str, sizes.taps))
        return f"dense {taps}"
    if is_windowed(kernel, types) and kernel.anchor.opcode == "cross_correlation":
        taps = "x".join(map(str, concrete(types[kernel.anchor.operands[1]])[2:]))
        return f"depthwise {taps}"
    return ""


def executed(kernel: Kernel, graph: Graph, machine: Machine) -> tuple[str, int]:
    """The form of a kernel, and the multiply-adds that it executes."""
    types = graph.types
    sizes = extents(kernel, types)
    if not is_dense(kernel, types) and kernel.anchor.opcode != "matmul":
        return "", prod(sizes.values())
    dense = dense_sizes(kernel, types)
    if is_dense(kernel, types):
        winograd = winograd_plan(kernel, types, machine)
        if winograd is not None:
            tiles = winograd.chunks * winograd.chunk
            channels = winograd.groups * winograd.group
            return (
                f" F({winograd.form.outputs})",
                winograd.points * tiles * channels * winograd.inputs,
            )
    tile = default_tile(kernel, types, machine)
    names = tuple(tile)
    block = (
        {loop: tile[loop] for loop in ("ho", "wo", "co")}
        if is_dense(kernel, types)
        else {"ho": 1, "wo": tile[names[-2]], "co": tile[names[-1]]}
    )
    if dense.is_flat and dense.rows > 1:
        block = {**block, "ho": 1, "wo": block["ho"] * block["wo"]}
        dense = replace(dense, rows=1, columns=dense.rows * dense.columns)
    plan = dense_plan(dense, block, machine)
    pixels = plan.row_blocks * plan.ho * plan.column_blocks * plan.wo
    channels = ceil(dense.outputs / plan.co) * plan.co
    return "", dense.batch * pixels * channels * dense.steps


def measured(graph: Graph, count: int, target: Target, rate: float | None) -> Row:
    """One operator on one thread; ``rate``: FMAs per second of this machine's core."""
    machine = replace(target.machine, cores=1)
    (kernel,) = (k for k in partition(graph) if k.nodes[-1].type.role == "map")
    form, fmas = executed(kernel, graph, machine)
    values = [*(graph.types[name] for name in kernel.inputs), kernel.nodes[-1].type]
    size = 4 * sum(prod(concrete(value)) for value in values)
    issue: float | None = None
    if target.emulation is not None:
        with tempfile.TemporaryDirectory() as folder:
            package = package_operator(graph, target, Path(folder), 1)
            works = emulator.measure(package, threads=1, alone=True)[:-1]
        fit = target.emulation.fit(1)
        issue = sum(w.serial + w.parallel for w in works) / machine.clock_hz
        seconds = fit.issue * issue + fit.line_s * sum(w.lines for w in works)
        share = fmas / machine.lanes / machine.fma_per_cycle / machine.clock_hz / issue
    else:
        assert rate is not None
        seconds = open_source("host", target, 1).operator(graph).seconds
        share = fmas / rate / seconds
    source = concrete(graph.types[kernel.anchor.operands[0]])
    result = concrete(kernel.nodes[-1].type)
    stride = kernel.anchor.attrs.get("stride", (1, 1))[0]
    shape = f"{_sizes(source)} -> {_sizes(result)}" + (f" /{stride}" * (stride > 1))
    return Row(
        on=target.name,
        family=_family(kernel, graph) + form,
        shape=shape,
        count=count,
        fmas=fmas,
        bytes=size,
        seconds=seconds,
        issue_seconds=issue,
        fma=share,
        memory=size / machine.dram_bytes_per_s_1 / seconds,
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))


def core_rate(lanes: int) -> float:
    """FMAs per second of one core of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fma_roof"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", f"-DLANES={lanes}"]
        compiler = [sys.executable, "-m", "ziglang", "cc"]
        subprocess.run([*compiler, *flags, str(_ROOF), "-o", str(program)], check=True)
        done = subprocess.run(
            [str(program), "2"], check=True, capture_output=True, text=True
        )
    return float(done.stdout)


def table(rows: list[Row]) -> Iterator[str]:
    """Markdown: medians by target and family, over kernels and by time."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.on, row.family].append(row)
    yield "| on | kernel | shapes | FMA roof, median | lowest | memory roof, median |"
    yield "|---|---|---|---|---|---|"
    for (on, family), found in sorted(groups.items()):
        shares = [row.fma for row in found]
        memory = median(row.memory for row in found)
        yield (
            f"| {on} | {family} | {len(found)} | {median(shares):.0%} "
            f"| {min(shares):.0%} | {memory:.0%} |"
        )


def main() -> None:
    """Measure, print the table, and write all rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--on", nargs="+", default=["arm_a53", "host"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    graphs = kernels_of(options.networks.split(","))
    rows = []
    for name in options.on:
        target = get(name)
        is_here = target.emulation is None
        rate = core_rate(target.machine.lanes) if is_here else None
        for graph, count in graphs.values():
            row = measured(graph, count, target, rate)
            rows.append(row)
            print(
                f"{row.on} {row.family:16} {row.shape:32} fma {row.fma:4.0%} "
                f"memory {row.memory:4.0%} {row.seconds * 1e3:8.3f} ms",
                file=sys.stderr,
            )
    print("\n".join(table(rows)))
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
