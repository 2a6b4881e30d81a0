"""Graph texts of windows and of kernels that sum nothing, over odd shapes.

Before and behind each window is a ``resize`` to the same size, which is a kernel of its
own: the maps between have their channels side by side.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
AXES = {2: ("n", "co"), 3: ("n", "t", "co"), 4: ("n", "co", "ho", "wo")}


def _size(
    size: Pair, taps: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> Pair:
    rows, columns = (
        (
            size[d]
            + padding[2 * d]
            + padding[2 * d + 1]
            - dilation[d] * (taps[d] - 1)
            - 1
        )
        // stride[d]
        + 1
        for d in (0, 1)
    )
    return rows, columns


def _map(shape: Sequence[int]) -> str:
    return f"map[{', '.join(map(str, shape))}]"


def _between(n: int, channels: Pair, size: Pair, end: Pair, lines: list[str]) -> str:
    """The lines, which make ``v`` of ``x0``, between two kernels."""
    before, behind = channels
    return "\n".join(
        [
            f"def f(x: {_map((n, before, *size))}WEIGHTS) -> "
            f"{_map((n, behind, *end))}:",
            f"    x0 = resize(x, size={size})",
            *(f"    {line}" for line in lines),
            f"    y = resize(v, size={end})",
            "    return y",
            "",
        ]
    )


def depthwise(
    *,
    n: int = 1,
    channels: int,
    size: Pair,
    taps: Pair = (3, 3),
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    padding: Padding = (1, 1, 1, 1),
    multiplier: int = 1,
    tile: str = "",
) -> str:
    """A depth-wise convolution with bias and leaky ReLU."""
    end = _size(size, taps, stride, dilation, padding)
    outputs = channels * multiplier
    lines = [
        f"v0 = cross_correlation(x0, w, stride={stride}, dilation={dilation}, "
        f"groups={channels}, padding={padding})",
        'v1 = sum(v0, axis="ci")',
        "v2 = add(v1, b)",
        f"{'v3' if tile else 'v'} = relu(v2, slope=0.1)",
        *([f"v = tile(v3, {tile})"] if tile else []),
    ]
    weights = f", w: weight[{outputs}, 1, {taps[0]}, {taps[1]}], b: weight[{outputs}]"
    text = _between(n, (channels, outputs), size, end, lines)
    return text.replace("WEIGHTS", weights)


def pool(
    *,
    n: int = 1,
    channels: int,
    size: Pair,
    taps: Pair = (3, 3),
    stride: Pair = (1, 1),
    padding: Padding = (1, 1, 1, 1),
    include_pad: bool | None = None,
) -> str:
    """The greatest, or the average where it is said whether padding counts."""
    end = _size(size, taps, stride, (1, 1), padding)
    opcode = "max_pool" if include_pad is None else "avg_pool"
    more = "" if include_pad is None else f", include_pad={include_pad}"
    lines = [
        f"v0 = {opcode}(x0, kernel={taps}, stride={stride}, padding={padding}{more})",
        "v = relu(v0, slope=0.1)",
    ]
    return _between(n, (channels, channels), size, end, lines).replace("WEIGHTS", "")


def random_window(seed: int) -> str:
    """A window of random odd shape."""
    rng = random.Random(seed)
    n, channels = rng.randint(1, 3), rng.choice((1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33))
    taps = rng.choice(((3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (3, 1), (7, 7), (9, 4)))
    stride = rng.choice(((1, 1), (1, 1), (2, 2), (1, 2), (3, 1)))
    size = (rng.randint(1, 19), rng.randint(1, 19))
    is_pool = rng.random() < 0.5
    dilation = (1, 1) if is_pool else rng.choice(((1, 1), (1, 1), (2, 2), (1, 3)))
    most = [tap // 2 * d for tap, d in zip(taps, dilation)]
    low = 0 if is_pool else -1
    padding = tuple(rng.randint(low, max(0, most[i // 2])) for i in range(4))
    if min(_size(size, taps, stride, dilation, padding)) < 1:  # type: ignore[arg-type]
        return random_window(seed + 1000)
    shape = {"n": n, "channels": channels, "size": size, "taps": taps}
    shape |= {"stride": stride, "padding": padding}
    if is_pool:
        return pool(**shape, include_pad=rng.choice((None, True, False)))  # type: ignore[arg-type]
    tile = (
        f"co={rng.choice((1, 3, 4, 8))}, ho={rng.randint(1, 5)}, wo={rng.randint(1, 9)}"
    )
    return depthwise(
        **shape,  # type: ignore[arg-type]
        dilation=dilation,
        multiplier=rng.choice((1, 1, 1, 2, 3)),
        tile=tile if rng.random() < 0.3 else "",
    )


WINDOWS = {
    "one pixel": depthwise(channels=5, size=(1, 1)),
    "one channel": depthwise(channels=1, size=(9, 8)),
    "primes": depthwise(n=2, channels=13, size=(17, 11)),
    "no tail": depthwise(channels=16, size=(28, 28)),
    "overlapping vectors": depthwise(channels=20, size=(14, 14)),
    "strided": depthwise(channels=24, size=(15, 16), stride=(2, 2)),
    "five": depthwise(
        channels=12, size=(14, 14), taps=(5, 5), padding=(2, 2, 2, 2), n=3
    ),
    "five strided": depthwise(
        channels=8, size=(14, 15), taps=(5, 5), stride=(2, 2), padding=(2, 2, 2, 2)
    ),
    "seven": depthwise(channels=8, size=(9, 20), taps=(7, 7), padding=(3, 3, 3, 3)),
    "large": depthwise(channels=4, size=(40, 40), taps=(3, 19), padding=(1, 1, 9, 9)),
    "far apart": depthwise(
        channels=8, size=(19, 19), dilation=(5, 6), padding=(5, 5, 6, 6)
    ),
    "cropped": depthwise(channels=8, size=(12, 12), padding=(-1, -1, 0, -2)),
    "only padding": depthwise(channels=4, size=(2, 2), padding=(4, 4, 4, 4)),
    "twice": depthwise(channels=6, size=(9, 9), multiplier=2),
    "tiled": depthwise(channels=12, size=(13, 13), tile="co=8, ho=3, wo=5"),
    "huge tile": depthwise(channels=64, size=(20, 40), tile="co=64, ho=20, wo=40"),
    "greatest": pool(n=2, channels=11, size=(13, 12), stride=(2, 2)),
    "average inside": pool(channels=16, size=(9, 9), include_pad=False),
    "average": pool(channels=7, size=(9, 9), include_pad=True),
    "global average": pool(
        channels=37, size=(7, 7), taps=(7, 7), padding=(0, 0, 0, 0), include_pad=True
    ),
    "large average": pool(
        channels=5, size=(30, 31), taps=(20, 9), padding=(5, 3, 4, 4), include_pad=False
    ),
}


def random_stage(seed: int) -> str:
    """A kernel without windows: a chain, an aggregation, softmax, or moved data."""
    rng = random.Random(seed)
    shape = rng.choice(
        (
            *((3, 17), (1, 1), (2, 1000), (2, 7, 13), (1, 5, 33), (3, 1, 1)),
            *((1, 50, 100), (1, 5, 3, 7), (2, 17, 4, 4), (3, 1, 9, 2), (1, 72, 6, 5)),
            *((1, 3, 1, 1), (1, 40, 30, 31)),
        )
    )
    rank = len(shape)
    x, at = _map(shape), rng.randrange(rank)
    kind = rng.choice(("chain", "channels", "sum", "softmax", "concat", "transpose"))
    names, end, lines = "", shape, []
    if kind == "chain":
        names = f", y: {x}"
        lines = ['v0 = max(x, y, axis="")', "v1 = hadamard(v0, y)", "v = tanh(v1)"]
    elif kind == "channels":
        names = f", b: weight[{shape[1] if rank == 4 else shape[-1]}]"
        lines = ["v0 = add(x, b)", "v = relu(v0, slope=0.1)"]
    elif kind == "sum" and rank > 2:
        at = max(1, at)
        opcode = rng.choice(("sum", "mean", "max", "min"))
        end = (*shape[:at], *shape[at + 1 :])
        lines = [f'v0 = {opcode}(x, axis="{AXES[rank][at]}")', "v = exp(v0)"]
    elif kind == "concat":
        parts = [rng.randint(1, 40) for _ in range(rng.randint(1, 3))]
        end = (*shape[:at], shape[at] + sum(parts), *shape[at + 1 :])
        shapes = [(*shape[:at], part, *shape[at + 1 :]) for part in parts]
        names = "".join(f", x{i}: {_map(part)}" for i, part in enumerate(shapes))
        others = ", ".join(f"x{i}" for i in range(len(parts)))
        lines = [f'v0 = concat(x, {others}, axis="{AXES[rank][at]}")']
        lines.append("v = relu(v0, slope=0.1)")
    elif kind == "transpose":
        order = rng.sample(range(rank), rank)
        end = tuple(shape[i] for i in order)
        lines = [
            "v0 = exp(x)",
            f"v = transpose(v0, axes=({', '.join(map(str, order))}))",
        ]
    else:
        lines = [f'v0 = softmax(x, axis="{AXES[rank][at]}")', "v = add(v0, x)"]
    body = "".join(f"    {line}\n" for line in lines)
    return f"def f(x: {x}{names}) -> {_map(end)}:\n{body}    return v\n"
