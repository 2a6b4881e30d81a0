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
    workspace: float = 6066.0
    copy_pixel: float = 0.001
    copy_turn: float = 2.398
    copy_vector: float = 1.868
    gather: float = 0.6401
    # Dense kernels: each call of a microkernel, and that of steps behind the last four;
    # each register block; each accumulator that is cleared, or waits in memory for the
    # next row of the kernel.
    call_block: float = 29.4
    tail: float = 0.001
    block: float = 0.001
    clear: float = 0.001
    kept: float = 4.938
    # Steps of blocks that are left to LLVM.
    product: float = 2.082
    number: float = 0.001
    chain: float = 1.414
    overlap: float = 5.148
    turn: float = 1.177
    spill: float = 1.305
    # A vector of results, and what it reads beside.
    store: float = 0.6065
    cut: float = 0.001
    late: float = 0.873
    # Windows.
    window_overlap: float = 1.166
    window_turn: float = 0.001
    window_gather: float = 4.926
    window_tile: float = 31.22
    window_row: float = 0.001
    average: float = 0.001
    # Winograd's transforms: each operation, each load and store, each loop.
    winograd_add: float = 1.86
    winograd_word: float = 0.001
    winograd_tile: float = 0.001
    # Kernels without a register tile.
    simple: float = 1.306
    div: float = 28.72
    sqrt: float = 29.04
    exp: float = 37.85
    tanh: float = 56.93
    stream_load: float = 1.954
    stream_store: float = 0.4002
    stream_loop: float = 1.713
    channel: float = 0.001
    row: float = 6.629
    move: float = 0.5618
    fold: float = 1.89
    # The same by the plain schedule: under tile nodes, over other axes, maps in memory.
    tile_row: float = 0.7719
    element: float = 0.001
    scalar: float = 1.692
    tile_block: float = 7.11
    reduce_step: float = 0.001
    reduce_lane: float = 8.739
    map_point: float = 1.444
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
# error is 2.8 % and 90 % are within 28 %, on 58 at four threads 3.6 % and 35 %; on 80
# that were drawn from the same generator and never fitted 1.9 % and 29 %. What is far
# off are tiles of odd sizes that nobody would choose, and numbers that move one by one.
FITTED = Constants()

# Out-of-order cores as LLVM's models of them have it: what differs was fitted on 33
# operators for the Snapdragon 845, with a median error of 6 % on 32 others, and 90 %
# within 56 %.
OUT_OF_ORDER = replace(
    FITTED,
    scale=0.594,
    overlap=2.77,
    number=0.001,
    spill=1.16,
    window_overlap=1.53,
    store=2.35,
    div=6.2,
    exp=56.2,
    error=0.56,
    noise=0.07,
)


def constants_of(target: Target) -> Constants:
    """Those fitted to the issue model by which the target is emulated."""
    own = target.emulation is not None and target.emulation.own_pipeline
    return FITTED if own else OUT_OF_ORDER
