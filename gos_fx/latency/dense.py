"""Dense kernels and Winograd's: cycles of register blocks, lines of chunks.

A register block takes its microkernel's cycles, or those of LLVM's loops, and the time
to clear, finish and store it. Misses are not here but the lines that come from DRAM: a
hit in L2 costs what the target's ``Fit`` says on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

from gos_fx.ir.fusion import Kernel
from gos_fx.ir.types import Type
from gos_fx.kernels.microkernels import STEPS, bound
from gos_fx.kernels.tiles import concrete
from gos_fx.latency.constants import Constants
from gos_fx.latency.lines import gone
from gos_fx.latency.planning import Copy, DenseForm
from gos_fx.latency.work import FLOAT_BYTES, Loop, Stage, Sweep, Work
from gos_fx.targets.target import Machine

# Multiply-adds from which the code generator makes a kernel parallel
# (kernels/schedules/register_block.py).
PARALLEL_WORK = 1 << 15
# The widest vector of a copy (kernels/schedules/register_block.py).
_COPIED = 16


def dense_work(
    kernel: Kernel,
    types: Mapping[str, Type],
    form: DenseForm,
    machine: Machine,
    epilogue: float,
    c: Constants,
) -> Work:
    """Of a dense convolution or matrix product.

    Args:
        machine: with as many cores as there are threads.
        epilogue: cycles for each vector of results, stores left out.
    """
    is_parallel = form.sizes.work >= PARALLEL_WORK
    parts = form.parts if is_parallel else 1
    sums = form.blocks * block_cycles(form, machine, c)
    sums += _results(form, machine, epilogue, c)
    loops = []
    for copy in form.copies:
        cycles = _copied(copy, machine, c)
        if copy.inside:
            sums += cycles + (c.workspace * copy.count if is_parallel else 0.0)
        else:
            rows = form.sizes.batch * form.plan.rows
            loops.append(Loop(cycles, rows if is_parallel else 1))
    loops.append(Loop(sums, parts))
    threads = machine.cores if parts > 1 else 1
    stages, again = _lines(kernel, types, form, machine, threads, c)
    return Work(tuple(loops), stages, again)


def block_cycles(form: DenseForm, machine: Machine, c: Constants) -> float:
    """Sums of one register block."""
    plan, lanes = form.plan, machine.lanes
    pixels = plan.ho * plan.wo
    if form.calls:
        vectors = plan.co // lanes
        block = STEPS * vectors * pixels / bound(vectors, pixels)
        around = c.block
        if plan.by_taps:
            around += c.kept * vectors * pixels * form.calls
        tail = c.tail if form.run % STEPS else 0.0
        call = c.call_block + form.run / STEPS * block + tail
        return form.calls * call + around
    width = gcd(plan.co, lanes)
    vectors = plan.co // width
    steps = form.sizes.inputs * prod(form.sizes.taps)
    around = c.block
    if plan.by_taps:
        around += c.kept * vectors * pixels * form.sizes.taps[0]
    step = step_cycles(vectors, pixels, width, machine, c)
    return steps * (step + c.turn / form.unroll) + around


def step_cycles(
    vectors: int, pixels: int, width: int, machine: Machine, c: Constants
) -> float:
    """One step of the reduction as LLVM makes it, with vectors of ``width`` channels.

    A core that issues in order waits for each load; for others the longest of issue,
    loads and latency counts, and a part of the rest.
    """
    products = vectors * pixels
    word = vector_words(machine, width)
    latency = c.chain * machine.fma_latency_cycles
    if machine.in_order:
        step = max(c.product * products, latency)
    else:
        issue = products / machine.fma_per_cycle
        loads = vectors * word
        step = max(issue, loads, latency) + c.overlap * min(issue, loads)
        step = max(step, issue / c.scale)  # as many FMAs as there can be
    live = products + 2 * vectors + 4
    spilled = max(0, min(products, live - machine.vector_registers))
    return step + c.spill * word * spilled


def _results(form: DenseForm, machine: Machine, epilogue: float, c: Constants) -> float:
    """Epilogues and stores: by the vectors that divide all the channels."""
    sizes, plan = form.sizes, form.plan
    width = gcd(gcd(plan.co, sizes.outputs), machine.lanes)
    pixels = sizes.batch * plan.rows * plan.columns
    vectors = pixels * sizes.outputs / width
    cut = plan.rows % plan.ho > 0 or plan.columns % plan.wo > 0
    store = c.store + epilogue + (c.cut if cut or sizes.outputs % plan.co else 0.0)
    return vectors * store


def vector_words(machine: Machine, width: int | None = None) -> float:
    """Cycles of loading one SIMD register, or ``width`` numbers of it."""
    words = machine.simd_bits / 8 / machine.load_bytes_per_cycle
    if width is None or width == machine.lanes:
        return words
    return max(1.0, words * width / machine.lanes)


def _copied(copy: Copy, machine: Machine, c: Constants) -> float:
    """By vectors of channels, each pixel with a question whether it is inside."""
    if copy.scattered:
        return c.gather * copy.elements
    width = max(w for w in range(1, _COPIED + 1) if copy.channels % w == 0)
    turns = copy.channels // width
    vectors = turns * -(-width // machine.lanes)
    if width == 1:  # LLVM makes vectors of what it may, and leaves the rest
        turns = copy.channels // (2 * machine.lanes)
        vectors = 2 * turns + copy.channels % (2 * machine.lanes)
    each = c.copy_pixel + c.copy_turn * turns + c.copy_vector * vectors
    return copy.count * copy.pixels * each


def _lines(
    kernel: Kernel,
    types: Mapping[str, Type],
    form: DenseForm,
    machine: Machine,
    threads: int,
    c: Constants,
) -> tuple[tuple[Stage, ...], float]:
    """Each chunk of pixels passes by all weights of its channels, block by block."""
    anchor, per = kernel.anchor, machine.line_bytes / FLOAT_BYTES
    x, w = anchor.operands[:2]
    sizes = form.sizes
    late = [n for n in kernel.inputs if n not in (x, w) and types[n].role == "map"]
    lines = {name: prod(concrete(types[name])) / per for name in {x, w, *late}}
    out = sizes.batch * sizes.rows * sizes.columns * sizes.outputs / per
    maps = [name for name in (x, w, *late) if types[name].role == "map"]
    stages: list[Stage] = [[Sweep(n, lines[n], True) for n in dict.fromkeys(maps)]]
    lines[x] *= _read_share(form, machine)
    is_shared = machine.l3_bytes is not None or machine.l2_shared
    busy = min(threads, form.chunks) if is_shared else 1
    again = 0.0
    names, pixels = {x: x, w: w}, lines[x] / form.chunks
    touched = pixels
    for copy in form.copies:
        made, source = copy.elements / per, copy.source
        if copy.inside:  # scratch, which is new to the cache, and may push out itself
            one = made / copy.count
            stages.append([Sweep(f"scratch {source}", busy * one, True)])
            piece = busy * (one + lines[source] / form.chunks)
            again += 2.0 * made * gone(piece, machine, c)
        else:
            names[source] = f"copy of {source}"
            target = Sweep(names[source], made, True)
            stages.append([Sweep(source, lines[source]), target])
            lines[names[source]] = made
        if source == x:
            pixels = made / form.chunks
            touched += pixels
    main = [Sweep(n, lines[n]) for n in dict.fromkeys((names[x], names[w], *late))]
    stages.append([*main, Sweep(kernel.output, out, True)])
    written = out * (1 + len(late)) / form.chunks
    # Weights come once more for each chunk, or once for the chunks of all threads.
    shares = sizes.batch if types[w].role == "map" and sizes.batch > 1 else 1
    weights = lines[names[w]] / shares
    passes = max(1.0, form.chunks / shares / min(threads, form.chunks / shares))
    part = gone(weights + busy * (touched + written), machine, c)
    again += shares * (passes - 1.0) * weights * part
    # The pixels of a chunk come again for each block of channels.
    per_block = (weights + written) / form.channel_blocks
    if form.plan.by_taps:
        per_block /= sizes.taps[0]
    sharing = threads if form.plan.by_channels and machine.l2_shared else 1
    part = gone(busy * pixels + sharing * per_block, machine, c)
    blocks = form.channel_blocks / sizes.groups
    again += (blocks - 1.0) * part * form.chunks * pixels
    return tuple(stages), again


def _read_share(form: DenseForm, machine: Machine) -> float:
    """The part of the input's lines that is read where a stride leaves pixels out."""
    sizes = form.sizes
    share = min(1.0, sizes.taps[0] / sizes.stride[0])
    if FLOAT_BYTES * sizes.inputs * sizes.groups >= machine.line_bytes:
        share *= min(1.0, sizes.taps[1] / sizes.stride[1])
    return 1.0 if any(copy.inside for copy in form.copies) else share
