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
    copy_pixel: float = 2.213
    copy_turn: float = 1.387
    copy_vector: float = 4.346
    gather: float = 0.6434
    # Dense kernels: each call of a microkernel, and that of steps behind the last four;
    # each register block; each accumulator that waits in memory for the next row of the
    # kernel.
    call_block: float = 13.39
    tail: float = 6.038
    block: float = 12.25
    kept: float = 5.049
    # Steps of blocks that are left to LLVM.
    product: float = 2.068
    chain: float = 1.482
    overlap: float = 0.5316
    turn: float = 1.161
    spill: float = 1.305
    # A vector of results, and what it reads beside.
    store: float = 0.9185
    cut: float = 0.05552
    late: float = 20.37
    # Windows.
    window_overlap: float = 1.16
    window_gather: float = 4.953
    window_tile: float = 30.25
    # Each operation of Winograd's transforms, with what it loads and stores.
    winograd_add: float = 1.857
    # Kernels without a register tile.
    simple: float = 1.266
    div: float = 28.62
    sqrt: float = 29.06
    exp: float = 37.83
    tanh: float = 57.0
    stream_load: float = 1.978
    stream_store: float = 0.4003
    stream_loop: float = 1.722
    row: float = 6.548
    move: float = 0.5546
    fold: float = 1.947
    # The same by the plain schedule: under tile nodes, over other axes, maps in memory.
    tile_row: float = 0.9396
    scalar: float = 1.718
    tile_block: float = 7.19
    reduce_lane: float = 8.75
    map_point: float = 1.446
    map_tap: float = 2.075
    # Parts of the last cache that other data may take before a line goes.
    cache_from: float = 0.8826
    cache_to: float = 1.099
    # Part of what threads crowd out of the shared cache that is fetched again: they do
    # not stay in step, and find some of each other's lines. Set by hand.
    crowded: float = 0.5
    kernel_lines: float = 5.068
    # Of the virtual machine, for each call of a kernel.
    runtime_cycles: float = 2050.0
    runtime_lines: float = 200.0
    # Relative error that holds for 90 % of the held-out operators, and their median.
    error: float = 0.3
    noise: float = 0.04
    # Of every kernel: the call; of each loop that is divided: its start, and that of
    # other threads.
    call: float = 400.0
    start: float = 80.0
    threads: float = 900.0


# Fitted on 257 operators on one thread of the Cortex-A53. On 172 others the median
# error is 3.2 % and 90 % are within 29 %, on 58 at four threads 3.9 % and 35 %; the
# forms were chosen with those at hand. On 80 that were looked at only as a sum it is
# 1.7 % and 30 %. What is far off are tiles of odd sizes that nobody would choose, and
# numbers that move one by one.
FITTED = Constants()

# Out-of-order cores as LLVM's models of them have it: what differs was fitted on 33
# operators for the Snapdragon 845, with a median error of 8 % on 32 others, and 90 %
# within 45 %.
OUT_OF_ORDER = replace(
    FITTED,
    block=0.001,
    scale=0.595,
    overlap=2.75,
    spill=1.17,
    window_overlap=1.5,
    store=2.66,
    div=6.09,
    exp=56.2,
    error=0.45,
    noise=0.09,
)


def constants_of(target: Target) -> Constants:
    """Those fitted to the issue model by which the target is emulated."""
    own = target.emulation is not None and target.emulation.own_pipeline
    return FITTED if own else OUT_OF_ORDER
