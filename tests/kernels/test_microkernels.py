"""Microkernels: their numbers under qemu, their cycles, and what LLVM makes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gos_fx.emulator.pipeline import block_cycles
from gos_fx.errors import BadOption
from gos_fx.kernels.link import zig
from gos_fx.kernels.microkernels import (
    LANES,
    STEPS,
    Microkernel,
    bound,
    largest,
    tile_kernel,
)

BLOCKS = (1, 2, 3, 7)
SIGNATURE = "(float *, const float *, const float *, int64_t, const float *)"
DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
typedef void kernel%s;
%s
static kernel *const kernels[] = {%s};

static float *numbers(int32_t count) {
    /* The last one ends a page before memory that must not be touched. */
    size_t size = ((size_t)count * 4 + 4095) / 4096 * 4096;
    char *at = mmap(0, size + 4096, 3, 0x22, -1, 0);
    munmap(at + size, 4096);
    float *first = (float *)(at + size) - count;
    if (fread(first, 4, count, stdin) != (size_t)count) exit(1);
    return first;
}

int main(void) {
    int32_t head[5]; /* kernel, accumulators, x, w, blocks */
    while (fread(head, 4, 5, stdin) == 5) {
        float *acc = numbers(head[1]), *x = numbers(head[2]), *w = numbers(head[3]);
        float *bias = numbers(head[1]);
        kernels[head[0]](acc, x, w, head[4], bias);
        fwrite(acc, 4, head[1], stdout);
    }
    return 0;
}
"""


def offsets_of(pixels: int, kind: str, rng: np.random.Generator) -> tuple[int, ...]:
    """In a row, of three channels, or far apart and at odd multiples of four."""
    if kind == "row":
        return tuple(256 * p for p in range(pixels))
    if kind == "three channels":
        return tuple(24 * p for p in range(pixels))
    return tuple(4 * int(i) for i in rng.integers(0, 30000, pixels))


def sample() -> list[Microkernel]:
    rng = np.random.default_rng(0)
    kernels = []
    for vectors in (1, 2, 3, 4, 6):
        for pixels in range(1, largest(vectors) + 1):
            for kind in ("row", "three channels", "far"):
                offsets = offsets_of(pixels, kind, rng)
                kernels.append(tile_kernel(vectors, offsets))
        for start in ("zero", "bias"):
            kernels.append(tile_kernel(vectors, (0, 64), start=start))
        for tail, pixels in product((1, 2, 3), range(1, largest(vectors) + 1)):
            offsets = offsets_of(pixels, "far", rng)
            kernels.append(tile_kernel(vectors, offsets, tail=tail))
            kernels.append(tile_kernel(vectors, offsets, in_order=False, tail=tail))
        for start in ("add", "zero", "bias"):
            offsets = offsets_of(largest(vectors), "far", rng)
            kernels.append(tile_kernel(vectors, offsets, start=start))
            kernels.append(tile_kernel(vectors, offsets, in_order=False, start=start))
    return kernels


def program(kernels: list[Microkernel], folder: Path) -> Path:
    """Reads cases from stdin and writes their accumulators to stdout."""
    unique = {kernel.name: kernel for kernel in kernels}
    code = "\n".join(kernel.llvm_ir for kernel in unique.values())
    attributes = "attributes #0 = { noduplicate nounwind }\n"
    (folder / "k.ll").write_text(code.replace(attributes, "") + attributes)
    declared = "\n".join(f"void {name}{SIGNATURE};" for name in unique)
    names = ", ".join(f"(kernel *){kernel.name}" for kernel in kernels)
    text = DRIVER.replace("<unistd.h>", "<sys/mman.h>") % (SIGNATURE, declared, names)
    (folder / "driver.c").write_text(text)
    target = ("cc", "-target", "aarch64-linux-musl", "-O1")
    ignore = ("-Wno-override-module", "-c")
    zig([*target, *ignore, str(folder / "k.ll"), "-o", str(folder / "k.o")], "kernels")
    files = [str(folder / name) for name in ("driver.c", "k.o")]
    zig([*target, "-static", *files, "-o", str(folder / "driver")], "driver")
    return folder / "driver"


@pytest.mark.qemu
def test_numbers(qemu, tmp_path):
    kernels, rng = sample(), np.random.default_rng(1)
    data, expected = [], []
    for number, kernel in enumerate(kernels):
        for blocks in BLOCKS:
            steps, lanes = STEPS * blocks + kernel.tail, LANES * kernel.vectors
            first = [offset // 4 for offset in kernel.offsets]
            acc, bias = rng.standard_normal((2, len(first), lanes)).astype("f4")
            x = rng.standard_normal(max(first) + steps).astype("f4")
            w = rng.standard_normal((steps, lanes)).astype("f4")
            head = np.array([number, acc.size, x.size, w.size, blocks], "i4")
            data += [part.tobytes() for part in (head, acc, x, w, bias)]
            before = {"add": acc, "zero": 0 * acc, "bias": bias[0]}[kernel.start]
            rows = np.stack([x[i : i + steps] for i in first]).astype("f8")
            expected.append(before + rows @ w)
    command = [qemu, "-cpu", "cortex-a53", str(program(kernels, tmp_path))]
    done = subprocess.run(command, input=b"".join(data), capture_output=True)
    assert done.returncode == 0
    found = np.frombuffer(done.stdout, "f4")
    assert found.size == sum(e.size for e in expected)
    wrong = []
    for number, e in enumerate(expected):
        error = np.abs(found[: e.size].reshape(e.shape) - e).max()
        found = found[e.size :]
        if not error < 1e-4:
            kernel, blocks = kernels[number // len(BLOCKS)], BLOCKS[number % 4]
            wrong.append((kernel.name, kernel.start, kernel.tail, blocks, error))
    assert not wrong


@pytest.mark.parametrize("vectors", range(1, 9))
def test_loops_reach_their_bound(vectors):
    for pixels in range(1, largest(vectors) + 1):
        kernel = tile_kernel(vectors, tuple(256 * p for p in range(pixels)))
        share = kernel.fmas / kernel.loop_cycles
        # A loop of few instructions has no room for its counter and pointers.
        least = 0.85 if kernel.fmas < 16 or pixels == 1 else 0.97
        assert least * bound(vectors, pixels) <= share <= bound(vectors, pixels)
        if pixels > 2:
            assert kernel.overhead <= 24


def test_bound():
    assert bound(2, 8) == 64 / (64 + 8 + 8)
    assert bound(2, 10) == 80 / 98
    assert bound(4, 1) == 16 / (2 * 17)  # the load path
    assert bound(1, 1) == 4 / 16  # one addition after the other
    assert [largest(v) for v in (1, 2, 3, 4, 5, 6, 8)] == [15, 10, 7, 5, 4, 4, 3]


def test_pixels_out_of_reach_have_a_pointer_of_their_own():
    near = tile_kernel(2, (0, 256, 512))
    assert near.body.starts == (-16,)
    far = tile_kernel(2, (0, 100_000, 4, 100_008))
    assert far.body.starts == (-16, 4 - 16, 100_000 - 16)
    assert far.loop_cycles == tile_kernel(2, (0, 64, 128, 192)).loop_cycles


def test_the_name_follows_from_the_code():
    script = (
        "from gos_fx.kernels.microkernels import tile_kernel\n"
        "print(tile_kernel(2, (0, 64, 128)).name, tile_kernel(4, (0,)).name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    near, one = tile_kernel(2, (0, 64, 128)), tile_kernel(4, (0,))
    assert done.stdout.split() == [near.name, one.name]
    assert near.name != tile_kernel(2, (0, 64, 132)).name
    assert near.name != tile_kernel(2, (0, 64, 128), start="zero").name


def test_what_is_refused():
    with pytest.raises(BadOption, match="do not fit into registers"):
        tile_kernel(2, tuple(range(0, 88, 8)))
    with pytest.raises(BadOption, match="0 pixels"):
        tile_kernel(2, ())
    with pytest.raises(BadOption, match="start='one'"):
        tile_kernel(2, (0,), start="one")
    with pytest.raises(BadOption, match="tail=4"):
        tile_kernel(2, (0,), tail=4)


# Rows and columns of a padded map, channels, rows and columns of the window, output
# channels, rows and columns of the tile, vectors, stride.
LAYERS = {
    "3x3": (12, 18, 16, 3, 3, 16, 1, 8, 2, 1),
    "3x3 strided, a tile of two rows": (13, 9, 8, 3, 3, 16, 2, 2, 4, 2),
    "1x1": (8, 8, 32, 1, 1, 24, 2, 4, 2, 1),
    "1x1 from zero": (8, 8, 32, 1, 1, 24, 2, 4, 2, 1, "zero"),
    "1x1 from a bias": (8, 8, 32, 1, 1, 24, 2, 4, 2, 1, "bias"),
    "three channels": (14, 10, 3, 7, 7, 8, 1, 4, 2, 1),
    "one pixel": (1, 1, 64, 1, 1, 32, 1, 1, 4, 1),
}


def convolution(layer):
    """A scheduled function ``x, w, b -> max(x * w + b, 0)`` around a microkernel."""
    from tvm import s_tir, te
    from tvm.script import tirx as T

    from gos_fx.kernels.microkernels.insert import insert

    height, width, channels, kh, kw, outputs, rows, columns, vectors, s, *start = layer
    lanes, steps = LANES * vectors, kw * channels
    high, wide = (height - kh) // s + 1, (width - kw) // s + 1
    x = te.placeholder((1, height, width, channels), "float32", "x")
    w = te.placeholder((outputs // lanes, kh, steps, lanes), "float32", "w")
    b = te.placeholder((outputs,), "float32", "b")
    rh, rk = te.reduce_axis((0, kh)), te.reduce_axis((0, steps))
    acc = te.compute(
        (outputs // lanes, high // rows, wide // columns, rows, columns, lanes),
        lambda o, i, j, r, p, c: te.sum(
            x[
                0,
                (i * rows + r) * s + rh,
                (j * columns + p) * s + rk // channels,
                rk % channels,
            ]
            * w[o, rh, rk, c],
            axis=[rh, rk],
        ),
        name="acc",
    )
    out = te.compute(
        (1, high, wide, outputs),
        lambda n, i, j, c: te.max(
            acc[c // lanes, i // rows, j // columns, i % rows, j % columns, c % lanes]
            + (T.float32(0) if start == ["bias"] else b[c]),
            T.float32(0),
        ),
        name="out",
    )
    shapes = [tuple(map(int, one.shape)) for one in (x, w, b, out)]
    sch = s_tir.Schedule(te.create_prim_func([x, w, b, out]))
    block, last = sch.get_sblock("acc"), sch.get_sblock("out")
    _, i, j, c = sch.get_loops(last)
    (i0, i1), (j0, j1), (c0, c1) = (
        sch.split(loop, [None, size])
        for loop, size in ((i, rows), (j, columns), (c, lanes))
    )
    sch.reorder(i0, c0, j0, i1, j1, c1)
    sch.parallel(i0)
    sch.compute_at(block, j0, preserve_unit_loops=True)
    sch.unroll(i1)
    sch.unroll(j1)
    sch.vectorize(c1)
    *_, r, p, c, over_rows, over_steps = sch.get_loops(block)
    sch.reorder(over_rows, over_steps, r, p, c)
    offsets = tuple(
        4 * channels * s * (r * width + p) for r in range(rows) for p in range(columns)
    )
    how = {"start": start[0] if start else "add", "tail": steps % STEPS}
    kernel = tile_kernel(vectors, offsets, **how)
    if start:
        bias = sch.mod["main"].params[2]
        insert(sch, over_rows, kernel, steps, lambda at: bias[at["o"] * lanes])
        return sch.mod["main"], kernel, shapes
    first = sch.decompose_reduction(block, over_rows)
    *_, r, p, c = sch.get_loops(first)
    sch.unroll(r)
    sch.unroll(p)
    sch.vectorize(c)
    insert(sch, over_steps, kernel, steps)
    return sch.mod["main"], kernel, shapes


def reference(layer, x, w, b):
    height, width, channels, kh, kw, outputs, _, _, _, s, *_ = layer
    high, wide = (height - kh) // s + 1, (width - kw) // s + 1
    weights = w.astype("f8").transpose(1, 2, 0, 3).reshape(kh, kw * channels, outputs)
    result = np.zeros((1, high, wide, outputs)) + b
    for i in range(high):
        for j in range(wide):
            window = x[0, i * s : i * s + kh, j * s : j * s + kw]
            result[0, i, j] += np.einsum("rk,rko->o", window.reshape(kh, -1), weights)
    return np.maximum(result, 0)


@pytest.mark.qemu
@pytest.mark.parametrize("name", LAYERS)
def test_convolution(qemu, tmp_path, name):
    """Through TVM, its runtime and the emulator."""
    import tvm
    from tvm import relax

    from gos_fx.kernels.emulator import run
    from gos_fx.kernels.link import shared_library_linker
    from gos_fx.kernels.package import TensorSpec, save_package
    from gos_fx.targets.target import get

    layer, target = LAYERS[name], get("arm_a53")
    function, _, shapes = convolution(layer)
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype("f4") for shape in shapes[:3])
    builder, variable = relax.BlockBuilder(), relax.Var("x", tensor(shapes[0]))
    with builder.function("main", [variable]):
        with builder.dataflow():
            callee = builder.add_func(function.without_attr("global_symbol"), "layer")
            arguments = [variable, relax.const(w), relax.const(b)]
            call = relax.call_tir(callee, arguments, tensor(shapes[3]))
            output = builder.emit_output(call)
        builder.emit_func_output(output)
    library = tmp_path / "model.so"
    tvm.compile(builder.get(), tvm.target.Target(dict(target.tvm))).export_library(
        str(library), fcompile=shared_library_linker(target.link_triple)
    )
    specs = [
        TensorSpec("x", shapes[0], "float32"),
        TensorSpec("y", shapes[3], "float32"),
    ]
    package = save_package(tmp_path, library, target, specs[:1], specs[1:], threads=1)
    (found,) = run(package, [x], threads=2)
    np.testing.assert_allclose(found, reference(layer, x, w, b), rtol=1e-4, atol=1e-4)


def tensor(shape):
    from tvm import relax

    return relax.TensorType(shape, "float32")


def assembly_of(function) -> list[str]:
    import tvm

    from gos_fx.targets.target import get

    target = tvm.target.Target(dict(get("arm_a53").tvm))
    text = tvm.compile(function, target=target).mod.inspect_source("asm")
    return [line.split("//")[0].rstrip() for line in text.splitlines()]


def loops_of(lines: list[str]) -> list[list[str]]:
    """Everything between a label and a jump back to it, shortest first."""
    labels: dict[str, int] = {}
    loops = []
    for i, line in enumerate(lines):
        if match := re.match(r"(\.L\w+):", line):
            labels[match[1]] = i
        elif (match := re.match(r"\tb\.\w+\t(\.L\w+)", line)) and match[1] in labels:
            loops.append(lines[labels[match[1]] : i + 1])
    return sorted(loops, key=len)


def instructions(lines: list[str]) -> list[str]:
    return [line[1:] for line in lines if re.match(r"\t[a-z]", line)]


def test_what_llvm_makes_of_it():
    """The loop is as it was made, accumulators stay in registers around it."""
    function, kernel, _ = convolution((58, 58, 64, 3, 3, 64, 1, 8, 2, 1))
    lines = assembly_of(function)
    loops = [loop for loop in loops_of(lines) if any("fmla" in line for line in loop)]
    inner, over_rows, over_tiles = (instructions(loop) for loop in loops[:3])
    assert sum("fmla" in line for line in inner) == kernel.fmas == 64
    assert block_cycles(inner) == kernel.loop_cycles == 80
    # Prologue, loop and epilogue, once: nothing was unrolled.
    assert sum("fmla" in line for line in over_tiles) == 2 * kernel.fmas
    assert not [line for line in over_tiles if "sp" in line]
    moved = [line for line in over_rows if re.match(r"(ld|st)r?p?\t[qd]\d", line)]
    assert not moved
    assert not [line for line in lines if "AllocWorkspace" in line and "bl" in line]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ((*LAYERS["3x3"], "zero"), "144 steps, not 48"),
        ((*LAYERS["1x1"], "add"), "no place for a kernel that starts with 'add'"),
    ],
)
def test_no_place_for_a_kernel(layer, reason):
    with pytest.raises(ValueError, match=reason):
        convolution(layer)
