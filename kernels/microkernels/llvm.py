"""Assembly as a function of LLVM, which takes it into the function that calls it."""

from __future__ import annotations

from collections.abc import Sequence

from gos_fx.kernels.microkernels.assembly import GENERAL, Bases, Body
from gos_fx.kernels.microkernels.tile import VECTOR_REGISTERS, Tile

_VECTOR = "<4 x float>"


def function(name: str, tile: Tile, bases: Bases, body: Body) -> str:
    """``void name(ptr acc, ptr x, ptr w, i64 blocks)`` as a module of LLVM.

    The accumulators are the asm's operands in registers of their own, so that LLVM
    keeps them there between two calls. ``noduplicate``: else LLVM unrolls loops around
    the call, as if it were one instruction.
    """
    count = tile.pixels * tile.vectors
    pointers = [f"x{i}" for i in range(len(bases.starts))] + ["w", "n"]
    outputs = [f"={{v{i}}}" for i in range(count)] + ["=&r"] * len(pointers)
    inputs = [str(i) for i in range(len(outputs))]
    clobbers = [
        *(f"~{{v{i}}}" for i in range(count, VECTOR_REGISTERS)),
        *(f"~{{x{i}}}" for i in GENERAL),
        "~{cc}",
        "~{memory}",
    ]
    types = [_VECTOR] * count + ["ptr"] * (len(pointers) - 1) + ["i64"]
    values = [f"%a{i}" for i in range(count)]
    values += [f"%x{i}" for i in range(len(bases.starts))] + ["%w", "%blocks"]
    result = "{" + ", ".join(types) + "}"
    operands = {name: f"${count + i}" for i, name in enumerate(pointers)}
    text = "\\0A".join(
        line.format(**operands).replace("\t", "\\09") for line in lines(body)
    )
    arguments = ", ".join(f"{kind} {value}" for kind, value in zip(types, values))
    constraints = ",".join([*outputs, *inputs, *clobbers])
    code = [
        f"define void @{name}(ptr %acc, ptr %x, ptr %w, i64 %blocks) alwaysinline {{"
    ]
    for i in range(count):
        code.append(f"  %p{i} = getelementptr i8, ptr %acc, i64 {16 * i}")
        code.append(f"  %a{i} = load {_VECTOR}, ptr %p{i}, align 4")
    for i, start in enumerate(bases.starts):
        code.append(f"  %x{i} = getelementptr i8, ptr %x, i64 {start}")
    code.append(
        f'  %r = call {result} asm sideeffect "{text}", "{constraints}"({arguments}) #0'
    )
    for i in range(count):
        code.append(f"  %r{i} = extractvalue {result} %r, {i}")
        code.append(f"  store {_VECTOR} %r{i}, ptr %p{i}, align 4")
    code += ["  ret void", "}", "attributes #0 = { noduplicate nounwind }", ""]
    return "\n".join(code)


def lines(body: Body) -> Sequence[str]:
    """All of the assembly, with its labels."""
    return [*body.prologue, "1:", *body.loop, "2:", *body.epilogue]
