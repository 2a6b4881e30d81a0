"""Texts of operators, from their sizes."""

from __future__ import annotations

Shape = tuple[int, ...]
Pair = tuple[int, int]


def operator(
    inputs: dict[str, str], lines: list[str], shape: Shape, schedule: str = ""
) -> str:
    """A graph whose last line gives ``shape``; ``schedule`` as ``tile(co=8)``."""
    sizes = f"map[{', '.join(map(str, shape))}]"
    given = ", ".join(f"{name}: {of}" for name, of in inputs.items())
    body = [*lines]
    for part in filter(None, schedule.split(";")):
        opcode, arguments = part.strip().split("(", 1)
        body.append(f"{opcode}(v{len(body) - 1}, {arguments}")
    code = [f"    v{i} = {line}" for i, line in enumerate(body)]
    head = f"def operator({given}) -> {sizes}:"
    return "\n".join([head, *code, f"    return v{len(body) - 1}", ""])


def convolution(
    channels: Pair,
    size: int | Pair,
    kernel: int | Pair = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    n: int = 1,
    tail: tuple[str, ...] = ("relu(v{}, slope=0.0)",),
    schedule: str = "",
    aggregation: str = "sum",
) -> str:
    """Convolution and bias, then ``tail``; padded to keep its size unless told."""
    rows, columns = (size, size) if isinstance(size, int) else size
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    inputs, outputs = channels
    pads = [dilation * (k - 1) // 2 if padding is None else padding for k in kernel]
    out = tuple(
        (extent + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        for extent, pad, k in zip((rows, columns), pads, kernel, strict=True)
    )
    shape = (n, outputs, *out)
    lines = [
        f"cross_correlation(x, w, stride=({stride}, {stride}), "
        f"dilation=({dilation}, {dilation}), groups={groups}, "
        f"padding=({pads[0]}, {pads[0]}, {pads[1]}, {pads[1]}))",
        f'{aggregation}(v0, axis="ci")',
        "add(v1, b)",
    ]
    given = {
        "x": f"map[{n}, {inputs}, {rows}, {columns}]",
        "w": f"weight[{outputs}, {inputs // groups}, {kernel[0]}, {kernel[1]}]",
        "b": f"weight[{outputs}]",
    }
    for line in tail:
        if "y" in line.split("(")[1]:
            given["y"] = f"map[{', '.join(map(str, shape))}]"
        lines.append(line.format(len(lines) - 1))
    return operator(given, lines, shape, schedule)


def product(
    left: Shape, right: Shape, *, weight: bool, tail: str = "", schedule: str = ""
) -> str:
    """A matrix product; the right operand is a weight or another map."""
    shape = (*(left[:-2] or right[:-2]), left[-2], right[-1])
    given = {
        "x": f"map[{', '.join(map(str, left))}]",
        "w": f"{'weight' if weight else 'map'}[{', '.join(map(str, right))}]",
    }
    lines = ["matmul(x, w)"]
    if tail:
        lines.append(tail.format(0))
    return operator(given, lines, shape, schedule)


def chain(
    shape: Shape, *lines: str, result: Shape | None = None, schedule: str = ""
) -> str:
    """Instructions on maps ``x``, ``y`` of one shape and a weight ``b`` per channel."""
    sizes = f"map[{', '.join(map(str, shape))}]"
    text = " ".join(line.split("(", 1)[1] for line in lines)
    given = {"x": sizes}
    if "y" in text:
        given["y"] = sizes
    if "b)" in text:
        given["b"] = f"weight[{shape[1] if len(shape) > 2 else shape[-1]}]"
    return operator(given, list(lines), result or shape, schedule)


def pool(
    kind: str, channels: int, size: int, kernel: int, stride: int, padding: int = 0
) -> str:
    out = (size + 2 * padding - kernel) // stride + 1
    more = ", include_pad=False" if kind == "avg_pool" else ""
    line = (
        f"{kind}(x, kernel=({kernel}, {kernel}), stride=({stride}, {stride}){more}, "
        f"padding=({padding}, {padding}, {padding}, {padding}))"
    )
    return chain((1, channels, size, size), line, result=(1, channels, out, out))


def shuffle(groups: int, c: int, size: int) -> str:
    shape = (1, c, size, size)
    lines = (
        f"reshape(x, shape=(1, {groups}, {c // groups}, {size}, {size}))",
        "transpose(v0, axes=(0, 2, 1, 3, 4))",
        f"reshape(v1, shape=(1, {c}, {size}, {size}))",
    )
    return chain(shape, *lines)


def _pair(c: int, m: int, size: int, weights: tuple[Shape, Shape], groups: int) -> str:
    one, two = weights
    lines = []
    for i, (name, w) in enumerate((("x", one), ("v1", two))):
        pads = ((w[2] - 1) // 2,) * 2 + ((w[3] - 1) // 2,) * 2
        lines += [
            f"cross_correlation({name}, {'wu'[i]}, stride=(1, 1), dilation=(1, 1), "
            f"groups={groups if i == 0 else 1}, padding={pads})",
            f'sum(v{2 * i}, axis="ci")',
        ]
    given = {
        "x": f"map[1, {c}, {size}, {size}]",
        "w": f"weight[{', '.join(map(str, one))}]",
        "u": f"weight[{', '.join(map(str, two))}]",
    }
    return operator(given, [*lines, "relu(v3, slope=0.0)"], (1, m, size, size))


def separable_block(c: int, m: int, size: int) -> str:
    return _pair(c, m, size, ((c, 1, 3, 3), (m, c, 1, 1)), c)


def low_rank(c: int, m: int, size: int, rank: int) -> str:
    return _pair(c, m, size, ((rank, c, 3, 1), (m, rank, 1, 3)), 1)
