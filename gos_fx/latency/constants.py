"""Constants of the analytical model that no data sheet gives.

They were fitted by ``benchmarks/analytical/fit.py`` to what the emulator counts of the
operators in ``benchmarks/analytical/kernels.csv``; the errors on those that were held
out stand beside them, and ``tests/latency/test_analytical_errors.py`` computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gos_fx.targets.target import Target


@dataclass(frozen=True)
class Constants:
    """Cycles of the issue model, unless said otherwise; see ``issue`` and ``stream``.

    What runs on vectors is counted by vector register. The defaults are those of the
    in-order pipeline of the Cortex-A53.
    """

    # Of all cycles.
    scale: float = 1.0
    # Copies of the input: for each copy in a parallel loop, pixel, turn and vector; for
    # each number that is fetched alone.
    workspace: float = 200.0
    copy_pixel: float = 5.0
    copy_turn: float = 2.0
    copy_vector: float = 3.0
    gather: float = 5.0
    # Dense kernels: each call of a microkernel, and that of steps behind the last four;
    # each register block; each accumulator that is cleared, or waits in memory for the
    # next row of the kernel.
    call_block: float = 16.0
    tail: float = 10.0
    block: float = 30.0
    clear: float = 1.0
    kept: float = 4.0
    # Steps of blocks that are left to LLVM.
    product: float = 1.6
    number: float = 1.0
    chain: float = 1.0
    overlap: float = 1.0
    turn: float = 2.0
    spill: float = 1.5
    # A vector of results, and what it reads beside.
    store: float = 4.0
    cut: float = 3.0
    late: float = 1.0
    # Windows.
    window_overlap: float = 1.0
    window_turn: float = 4.0
    window_gather: float = 3.0
    window_tile: float = 20.0
    window_row: float = 20.0
    average: float = 10.0
    # Winograd's transforms: each operation, each load and store, each loop.
    winograd_add: float = 1.0
    winograd_word: float = 1.0
    winograd_tile: float = 10.0
    # Kernels without a register tile.
    simple: float = 0.9314
    div: float = 27.08
    sqrt: float = 27.95
    exp: float = 39.94
    tanh: float = 55.11
    stream_load: float = 1.933
    stream_store: float = 0.8581
    stream_loop: float = 1.357
    channel: float = 0.5
    row: float = 15.0
    move: float = 3.0
    fold: float = 8.0
    # The same by the plain schedule: under tile nodes, over other axes, maps in memory.
    tile_row: float = 0.1
    element: float = 1.651
    scalar: float = 1.0
    tile_block: float = 19.81
    reduce_step: float = 10.08
    reduce_lane: float = 0.1197
    map_point: float = 1.324
    map_tap: float = 2.018
    # Parts of the last cache that other data may take before a line goes.
    cache_from: float = 0.8983
    cache_to: float = 1.221
    kernel_lines: float = 29.54
    # Of the virtual machine, for each call of a kernel.
    runtime_cycles: float = 2000.0
    runtime_lines: float = 50.0
    # Relative error that holds for 90 % of the held-out operators, and their median.
    error: float = 0.34
    noise: float = 0.08
    # Of every kernel: the call; of each loop that is divided: its start, and that of
    # other threads.
    call: float = 400.0
    start: float = 80.0
    threads: float = 900.0


# Fitted on 347 operators on one thread of the Cortex-A53. On 211 others the median
# error is 8 % and 90 % are within 34 %; on 80 that were drawn afterwards it is 9 %.
FITTED = Constants()

# Out-of-order cores as LLVM's models of them have it: what differs was fitted on 36
# operators for the Snapdragon 845, with a median error of 11 % on 26 others.
OUT_OF_ORDER = replace(
    FITTED,
    scale=0.8,
    overlap=0.25,
    window_overlap=0.25,
    div=14.5,
    exp=53.8,
    error=0.82,
    noise=0.15,
)


def constants_of(target: Target) -> Constants:
    """Those fitted to the issue model by which the target is emulated."""
    own = target.emulation is not None and target.emulation.own_pipeline
    return FITTED if own else OUT_OF_ORDER
