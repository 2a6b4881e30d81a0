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
    # Copies of the input, by line, row, vector or element.
    fill_line: float = 7.807
    fill_call: float = 458.5
    fill_row: float = 0.001961
    fill_vector: float = 3.201
    copy_plane: float = 0.6293
    copy_row: float = 6.844
    copy_vector: float = 0.00127
    phase_element: float = 2.99
    pack_element: float = 1.514
    # Steps of a dense tile or matmul.
    weight_load: float = 0.2136
    input_load: float = 0.1674
    number: float = 1.422
    half: float = 0.5323
    chain: float = 0.3992
    mixed: float = 2.679
    spill_from: float = 1.014
    live_weight: float = 0.05165
    live_input: float = 0.7593
    spill: float = 4.07
    spill_wide: float = 7.752
    shuffle: float = 0.3289
    cut_load: float = 0.001002
    step_ci: float = 2.805
    # Its start and end.
    tile: float = 0.001024
    clear: float = 0.004653
    store_row: float = 3.548
    store_lane: float = 6.614
    store_tail: float = 7.172
    store_vector: float = 7.036
    epilogue_tail: float = 0.3382
    late: float = 1.001
    # Steps of windows.
    window_load: float = 1.047
    window_aliased: float = 1.423
    average: float = 14.31
    window_tap: float = 3.192
    window_number: float = 0.001075
    window_half: float = 0.4267
    window_spill_from: float = 0.5357
    window_spill: float = 3.824
    window_tile: float = 0.003027
    window_store: float = 2.962
    window_tail: float = 1.433
    # Kernels without a register tile.
    simple: float = 1.309
    div: float = 28.16
    sqrt: float = 28.52
    exp: float = 37.99
    tanh: float = 54.05
    stream_load: float = 1.669
    stream_store: float = 0.002934
    stream_loop: float = 4.325
    channel: float = 0.03682
    lane: float = 8.773
    lane_read: float = 0.8734
    lane_channel: float = 3.481
    row: float = 0.001172
    element: float = 0.5908
    cut_element: float = 0.001041
    block: float = 26.56
    reduce_step: float = 0.8804
    reduce_vector: float = 4.62
    reduce_strided: float = 1.269
    reduce_start: float = 0.001316
    reduce_scalar: float = 6.929
    concat: float = 10.01
    concat_inner: float = 5.817
    resize: float = 11.13
    resize_inside: float = 4.683
    transpose: float = 8.839
    transpose_inside: float = 2.637
    map_point: float = 1.311
    map_tap: float = 2.018
    # Parts of the last cache that other data may take before a line goes.
    cache_from: float = 0.9003
    cache_to: float = 1.224
    kernel_lines: float = 25.71
    # Of the virtual machine, for each call of a kernel.
    runtime_cycles: float = 2000.0
    runtime_lines: float = 50.0
    # Relative error that holds for 90 % of the held-out operators, and their median.
    error: float = 0.34
    noise: float = 0.08
    # Of every kernel: the call, and the start of a parallel loop.
    call: float = 480.0


# One thread of the Cortex-A53, 239 operators; 159 others were held out.
FITTED = Constants()

# Out-of-order cores as LLVM's models of them have it: few of the constants, fitted on
# the operators of kernels.csv that were measured for the Snapdragon 845.
OUT_OF_ORDER = replace(
    FITTED,
    scale=0.649,
    mixed=2.14,
    number=1.28,
    spill=1.9,
    step_ci=0.0,
    window_load=0.566,
    div=14.9,
    exp=51.8,
    error=0.47,
    noise=0.2,
)


def constants_of(target: Target) -> Constants:
    """Those fitted to the issue model by which the target is emulated."""
    own = target.emulation is not None and target.emulation.own_pipeline
    return FITTED if own else OUT_OF_ORDER
