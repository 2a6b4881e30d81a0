"""Assembly as a function of LLVM, which takes it into the function that calls it."""

from __future__ import annotations

from gos_fx.kernels.microkernels.assembly import GENERAL, Body
from gos_fx.kernels.microkernels.tile import VECTOR_REGISTERS, Tile

_VECTOR = "<4 x float>"


def function(name: str, tile: Tile, body: Body, start: str) -> str:
    """The module of LLVM with this function alone.

    The accumulators are the asm's operands in registers of their own, so that LLVM
    keeps them there between two calls. ``noduplicate``: else LLVM unrolls loops around
    the call, as if it were one instruction.

    Args:
        name: of the function.
        tile: its accumulators.
        body: its code.
        start: see :func:`gos_fx.kernels.microkernels.tile_kernel`.
    """
    count = tile.pixels * tile.vectors
    pointers = {
        **{f"x{i}": f"%x{i}" for i in range(len(body.starts))},
        "w": "%w0",
        **({"b": "%bias"} if start == "bias" else {}),
    }
    names = [*pointers, "n"]
    types = ["ptr"] * len(pointers) + ["i64"]
    values = [*pointers.values(), "%blocks"]
    outputs = [f"={{v{i}}}" for i in range(count)] + ["=&r"] * len(names)
    inputs = [str(count + i) for i in range(len(names))]
    accumulators = [f"%a{i}" for i in range(count)]
    operands = list(zip(types, values))
    if start == "add":
        inputs = [*map(str, range(count)), *inputs]
        operands = [(_VECTOR, value) for value in accumulators] + operands
    clobbers = [
        *(f"~{{v{i}}}" for i in range(count, VECTOR_REGISTERS)),
        *(f"~{{x{i}}}" for i in GENERAL),
        "~{cc}",
        "~{memory}",
    ]
    result = "{" + ", ".join([_VECTOR] * count + types) + "}"
    numbers = {name: f"${count + i}" for i, name in enumerate(names)}
    text = "\\0A".join(
        line.format(**numbers).replace("\t", "\\09") for line in _lines(body)
    )
    constraints = ",".join([*outputs, *inputs, *clobbers])
    arguments = ", ".join(" ".join(operand) for operand in operands)
    bias = ", ptr %bias" if start == "bias" else ""
    code = [f"define void @{name}(ptr %acc, ptr %x, ptr %w, i64 %blocks{bias}) {{"]
    for i, value in enumerate(accumulators):
        code.append(f"  %p{i} = getelementptr i8, ptr %acc, i64 {16 * i}")
        if start == "add":
            code.append(f"  {value} = load {_VECTOR}, ptr %p{i}, align 4")
    for i, offset in enumerate(body.starts):
        code.append(f"  %x{i} = getelementptr i8, ptr %x, i64 {offset}")
    code.append(f"  %w0 = getelementptr i8, ptr %w, i64 {body.weights}")
    code.append(
        f'  %r = call {result} asm sideeffect "{text}", "{constraints}"({arguments}) #0'
    )
    for i in range(count):
        code.append(f"  %r{i} = extractvalue {result} %r, {i}")
        code.append(f"  store {_VECTOR} %r{i}, ptr %p{i}, align 4")
    code += ["  ret void", "}", "attributes #0 = { noduplicate nounwind }", ""]
    return "\n".join(code)


def _lines(body: Body) -> list[str]:
    return [*body.prologue, "1:", *body.loop, "2:", *body.epilogue]
