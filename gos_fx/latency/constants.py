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
    fill_line: float = 7.844
    fill_call: float = 209.4
    fill_row: float = 0.001001
    fill_vector: float = 0.001274
    copy_plane: float = 0.002784
    copy_row: float = 19.46
    copy_vector: float = 0.001001
    phase_element: float = 2.924
    pack_element: float = 1.428
    # Steps of a dense tile or matmul.
    weight_load: float = 0.4959
    input_load: float = 0.2353
    number: float = 1.413
    half: float = 0.5255
    chain: float = 0.3946
    mixed: float = 1.804
    spill_from: float = 1.395
    live_weight: float = 0.001068
    live_input: float = 2.006
    spill: float = 3.326
    spill_wide: float = 7.341
    tails: float = 0.2921
    shuffle: float = 2.085
    uneven: float = 0.2518
    cut_load: float = 0.001025
    step_ci: float = 2.115
    # Its start and end.
    tile: float = 0.002237
    clear: float = 0.001
    store_row: float = 3.461
    store_lane: float = 4.42
    store_tail: float = 6.175
    store_vector: float = 0.001012
    epilogue_tail: float = 0.001118
    late: float = 1.001
    # Steps of windows.
    window_load: float = 1.135
    window_aliased: float = 1.411
    average: float = 11.93
    window_tap: float = 3.394
    window_number: float = 0.001
    window_half: float = 0.4185
    window_spill_from: float = 0.777
    window_spill: float = 3.408
    window_tile: float = 0.001002
    window_store: float = 2.706
    window_tail: float = 3.328
    # Kernels without a register tile.
    simple: float = 0.9314
    div: float = 27.08
    sqrt: float = 27.95
    exp: float = 39.94
    tanh: float = 55.11
    stream_load: float = 1.933
    stream_store: float = 0.8581
    stream_loop: float = 1.357
    channel: float = 0.001098
    scalar: float = 0.51
    lane: float = 9.134
    lane_read: float = 0.3624
    lane_channel: float = 3.563
    row: float = 0.001
    element: float = 1.651
    cut_element: float = 0.001
    block: float = 19.81
    reduce_step: float = 10.08
    reduce_vector: float = 0.008462
    reduce_strided: float = 0.1197
    reduce_start: float = 0.001001
    reduce_scalar: float = 6.785
    concat: float = 10.01
    concat_inner: float = 5.817
    resize: float = 11.13
    resize_inside: float = 4.683
    transpose: float = 8.839
    transpose_inside: float = 2.637
    map_point: float = 1.324
    map_tap: float = 2.018
    # Parts of the last cache that other data may take before a line goes.
    cache_from: float = 0.8983
    cache_to: float = 1.221
    # Part of what threads crowd out of the shared cache that is fetched again: they do
    # not stay in step, and find some of each other's lines. Set by hand on ResNet-18.
    crowded: float = 0.72
    kernel_lines: float = 29.54
    # Of the virtual machine, for each call of a kernel.
    runtime_cycles: float = 2000.0
    runtime_lines: float = 50.0
    # Relative error that holds for 90 % of the held-out operators, and their median.
    error: float = 0.34
    noise: float = 0.08
    # Of every kernel: the call, and the start of a parallel loop.
    call: float = 480.0


# Fitted on 347 operators on one thread of the Cortex-A53. On 211 others the median
# error is 8 % and 90 % are within 34 %; on 80 that were drawn afterwards it is 9 %.
FITTED = Constants()

# Out-of-order cores as LLVM's models of them have it: what differs was fitted on 36
# operators for the Snapdragon 845, with a median error of 11 % on 26 others.
OUT_OF_ORDER = replace(
    FITTED,
    scale=0.637,
    mixed=1.37,
    number=1.37,
    spill=2.0,
    step_ci=0.0,
    window_load=0.291,
    div=14.5,
    exp=53.8,
    error=0.82,
    noise=0.15,
)


def constants_of(target: Target) -> Constants:
    """Those fitted to the issue model by which the target is emulated."""
    own = target.emulation is not None and target.emulation.own_pipeline
    return FITTED if own else OUT_OF_ORDER
