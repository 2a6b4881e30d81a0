"""The operators that the analytical model is fitted and judged on.

A family is a kind of kernel. Shapes are those of ResNet-18, MobileNet v2 and v3 and
Inception v3, primes, and some that are drawn; schedules are the default ones, and drawn
ones of which many are bad, since the search ranks those too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import prod

from benchmarks.analytical.texts import (
    chain,
    convolution,
    low_rank,
    pool,
    product,
    separable_block,
    shuffle,
)

SEED = 3


def families() -> Iterator[tuple[str, str]]:
    """Name of the family and text of every operator, always the same ones."""
    yield from _dense()
    yield from _windows()
    yield from _products()
    yield from _streams()
    yield from _scheduled(random.Random(SEED))
    yield from _drawn(random.Random(SEED + 1))


def _dense() -> Iterator[tuple[str, str]]:
    for c, m, size, stride in (
        (64, 64, 56, 1),
        (128, 128, 28, 1),
        (256, 256, 14, 1),
        (512, 512, 7, 1),
        (64, 128, 56, 2),
        (256, 512, 14, 2),
        (17, 31, 23, 1),
        (8, 16, 112, 1),
        (80, 192, 35, 1),
        (16, 16, 8, 1),
        (37, 53, 13, 2),
        (32, 10, 30, 1),
    ):
        yield "conv3x3", convolution((c, m), size, 3, stride)
    for c, m, size, stride in (
        (32, 16, 112, 1),
        (16, 96, 112, 1),
        (24, 144, 56, 1),
        (144, 24, 56, 1),
        (192, 32, 28, 1),
        (64, 384, 14, 1),
        (576, 96, 14, 1),
        (160, 960, 7, 1),
        (320, 1280, 7, 1),
        (64, 128, 56, 2),
        (256, 512, 14, 2),
        (41, 67, 19, 1),
        (96, 8, 35, 1),
        (13, 3, 40, 1),
        (1280, 32, 1, 1),
        (240, 64, 1, 1),
        (768, 192, 17, 1),
    ):
        yield "conv1x1", convolution((c, m), size, 1, stride)
    for c, m, size, k, stride in (
        (48, 64, 35, 5, 1),
        (16, 24, 28, 5, 2),
        (11, 19, 29, 5, 1),
        (32, 32, 24, 7, 1),
        (8, 8, 56, 7, 2),
        (6, 16, 14, 5, 1),
    ):
        yield "conv5x5", convolution((c, m), size, k, stride)
    for m, size, k, stride, pad in (
        (64, 224, 7, 2, 3),
        (32, 224, 3, 2, 1),
        (16, 128, 3, 2, 1),
        (32, 149, 3, 1, 0),
        (32, 32, 3, 1, 1),
        (24, 96, 5, 2, 2),
    ):
        yield "first", convolution((3, m), size, k, stride, padding=pad)
    yield "first", convolution((1, 6), 28, 5)
    yield "first", convolution((1, 8), 8, 3)
    for c, m, size, d in ((64, 64, 28, 2), (32, 48, 33, 3), (128, 128, 14, 2)):
        yield "dilated", convolution((c, m), size, 3, dilation=d)
    yield "dilated", convolution((24, 24), 41, 3, dilation=2, padding=0)
    for c, m, size, groups in (
        (64, 64, 28, 2),
        (128, 128, 28, 32),
        (96, 96, 14, 8),
        (240, 120, 7, 5),
        (128, 256, 14, 4),
    ):
        yield "grouped", convolution((c, m), size, 3, groups=groups)
    yield "grouped", convolution((120, 240), 14, 1, groups=3)
    for c, m, size, kernel in (
        (128, 192, 17, (1, 7)),
        (128, 192, 17, (7, 1)),
        (64, 64, 28, (1, 3)),
        (64, 64, 28, (3, 1)),
        (384, 384, 8, (3, 1)),
        (16, 24, (1, 500), (1, 5)),
        (24, 32, (1, 127), (1, 3)),
    ):
        yield "separable", convolution((c, m), size, kernel)
    for tail in (
        ("relu(v{}, slope=0.1)",),
        ("add(v{}, y)", "relu(v{}, slope=0.0)"),
        ("sigmoid(v{})",),
        ("tanh(v{})",),
        ("add(v{}, y)",),
        (),
    ):
        yield "epilogue", convolution((32, 64), 28, 3, tail=tail)
        yield "epilogue", convolution((96, 48), 14, 1, tail=tail)
    yield "epilogue", convolution((48, 48), 20, 3, n=2, aggregation="mean")
    yield "epilogue", convolution((40, 24), 9, 3, n=4)
    for c, m, size in ((8, 8, 14), (16, 4, 9), (24, 24, 20)):
        text = convolution((c, m), size, 3, aggregation="max")
        yield "maps", text
    yield "maps", convolution((12, 12), 28, 1, aggregation="min")


def _windows() -> Iterator[tuple[str, str]]:
    for c, size, k, stride in (
        (32, 112, 3, 1),
        (96, 112, 3, 2),
        (144, 56, 3, 1),
        (144, 56, 3, 2),
        (192, 28, 3, 1),
        (384, 14, 3, 1),
        (576, 14, 3, 2),
        (960, 7, 3, 1),
        (72, 56, 5, 2),
        (120, 28, 5, 1),
        (480, 14, 5, 1),
        (960, 7, 5, 1),
        (17, 31, 3, 1),
        (29, 23, 3, 2),
        (8, 9, 7, 1),
        (64, 64, 3, 1),
    ):
        tail = ("relu(v{}, slope=0.0)",) if c % 3 else ()
        text = convolution((c, c), size, k, stride, groups=c, tail=tail)
        yield "depthwise", text
    yield "depthwise", convolution((32, 32), 28, 3, groups=32, dilation=2)
    yield "depthwise", convolution((48, 48), 28, (3, 1), groups=48)
    yield "depthwise", convolution((48, 48), 28, (1, 3), groups=48)
    yield "depthwise", convolution((24, 48), 28, 3, groups=24)
    yield "depthwise", convolution((48, 16), 28, 3, groups=16)
    for c, size, k, stride, pad in (
        (64, 112, 3, 2, 1),
        (64, 56, 2, 2, 0),
        (192, 35, 3, 1, 1),
        (128, 28, 2, 2, 0),
        (16, 13, 3, 2, 0),
        (288, 35, 3, 2, 0),
        (37, 17, 2, 1, 0),
        (6, 24, 2, 2, 0),
    ):
        yield "max_pool", pool("max_pool", c, size, k, stride, pad)
    for c, size, k, stride, pad in (
        (64, 56, 2, 2, 0),
        (192, 35, 3, 1, 1),
        (128, 28, 3, 2, 0),
        (768, 17, 3, 1, 1),
        (23, 19, 3, 2, 1),
    ):
        yield "avg_pool", pool("avg_pool", c, size, k, stride, pad)
    for c, size in ((512, 7), (1280, 7), (2048, 8), (96, 28), (31, 11)):
        yield "avg_pool", pool("avg_pool", c, size, size, size)


def _products() -> Iterator[tuple[str, str]]:
    for rows, k, columns in (
        (1, 512, 1000),
        (1, 1280, 1000),
        (1, 2048, 1000),
        (1, 960, 240),
        (1, 64, 10),
        (1, 77, 43),
        (8, 256, 256),
        (4, 784, 100),
        (64, 64, 64),
        (5, 33, 19),
        (197, 192, 192),
        (128, 512, 128),
        (31, 1000, 8),
    ):
        yield "linear", product((rows, k), (k, columns), weight=True)
    yield "linear", product((7, 120), (120, 84), weight=True, tail="tanh(v{})")
    yield "linear", product((2, 49, 96), (96, 288), weight=True)
    for left, right in (
        ((3, 197, 64), (3, 64, 197)),
        ((3, 197, 197), (3, 197, 64)),
        ((8, 49, 32), (8, 32, 49)),
        ((4, 64, 64), (4, 64, 64)),
        ((12, 17, 13), (12, 13, 29)),
        ((1, 128, 96), (1, 96, 128)),
        ((6, 1, 64), (6, 64, 100)),
    ):
        yield "batched", product(left, right, weight=False)


def _streams() -> Iterator[tuple[str, str]]:
    large, middle, small, odd = (
        (1, 96, 112, 112),
        (1, 64, 56, 56),
        (1, 32, 14, 14),
        (1, 13, 17, 19),
    )
    for shape in (large, middle, small, odd, (1, 1000), (2, 49, 96)):
        yield "elementwise", chain(shape, "relu(x, slope=0.0)")
        yield "elementwise", chain(shape, "add(x, y)")
        yield "transcendental", chain(shape, "sigmoid(x)")
    for shape in (middle, small, odd):
        yield "elementwise", chain(shape, "add(x, y)", "relu(v0, slope=0.0)")
        yield "elementwise", chain(shape, "relu(x, slope=0.1)")
        yield "elementwise", chain(shape, "hadamard(x, b)", "add(v0, b)")
        yield "elementwise", chain(shape, "sub(x, y)", "hadamard(v0, v0)")
        yield "elementwise", chain(shape, 'mean(x, y, axis="")')
        yield "elementwise", chain(shape, 'max(x, y, axis="")', "add(v0, x)")
        yield "transcendental", chain(shape, "exp(x)")
        yield "transcendental", chain(shape, "tanh(x)")
        yield "transcendental", chain(shape, "hadamard(x, x)", "sqrt(v0)")
        yield "transcendental", chain(shape, "div(x, y)")
        yield "transcendental", chain(shape, "sigmoid(x)", "hadamard(v0, x)")
        yield "transcendental", chain(shape, "exp(x)", "add(v0, b)", "sqrt(v1)")
    for shape in ((1, 1000), (64, 10), (3, 197, 197), (1, 8, 28, 28), (16, 49)):
        yield "softmax", chain(shape, 'softmax(x, axis="co")')
    yield "softmax", chain((1, 16, 24, 24), 'softmax(x, axis="wo")')
    yield "softmax", chain((1, 16, 24, 24), 'softmax(x, axis="ho")')
    for opcode in ("sum", "mean", "max", "min"):
        for shape, axis in (
            ((1, 64, 56, 56), "wo"),
            ((1, 64, 28, 28), "co"),
            ((1, 37, 20, 30), "ho"),
            ((2, 197, 96), "t"),
        ):
            names = {3: ("n", "t", "co"), 4: ("n", "co", "ho", "wo")}[len(shape)]
            left = tuple(s for s, a in zip(shape, names, strict=True) if a != axis)
            yield (
                "reduction",
                chain(shape, f'{opcode}(x, axis="{axis}")', result=left),
            )
    for shape, axes in (
        ((1, 64, 28, 28), (0, 2, 3, 1)),
        ((1, 28, 28, 64), (0, 3, 1, 2)),
        ((1, 64, 28, 28), (0, 1, 3, 2)),
        ((3, 197, 64), (0, 2, 1)),
        ((2, 7, 11, 13), (0, 3, 2, 1)),
        ((64, 100), (1, 0)),
    ):
        result = tuple(shape[i] for i in axes)
        yield "transpose", chain(shape, f"transpose(x, axes={axes})", result=result)
    for shape, name, at in (
        ((1, 64, 28, 28), "co", 1),
        ((1, 96, 56, 56), "co", 1),
        ((1, 16, 14, 14), "wo", 3),
        ((1, 24, 17, 17), "ho", 2),
    ):
        result = tuple(s * 2 if i == at else s for i, s in enumerate(shape))
        line = f'concat(x, y, axis="{name}")'
        yield "concat", chain(shape, line, result=result)
        result = tuple(s * 3 if i == at else s for i, s in enumerate(shape))
        line = f'concat(x, y, x, axis="{name}")'
        yield "concat", chain(shape, line, result=result)
    for c, size, out in ((32, 14, 28), (64, 28, 56), (16, 31, 17), (8, 13, 39)):
        shape, result = (1, c, size, size), (1, c, out, out)
        yield "resize", chain(shape, f"resize(x, size=({out}, {out}))", result=result)
    for groups, c, size in ((2, 116, 28), (3, 240, 14)):
        yield "shuffle", shuffle(groups, c, size)
    yield "block", separable_block(64, 128, 28)
    yield "block", separable_block(32, 64, 56)
    yield "block", low_rank(64, 64, 28, 16)
    yield "block", low_rank(256, 256, 14, 48)


_SIZES = (1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16, 24, 28, 32, 48, 64)


def _scheduled(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Tiles and unroll factors that the search may draw, good and bad."""
    dense = (
        ((64, 64), 28, 3, 1),
        ((32, 48), 19, 3, 1),
        ((64, 96), 14, 1, 1),
        ((24, 32), 30, 3, 2),
        ((144, 24), 28, 1, 1),
        ((3, 32), 64, 3, 2),
        ((16, 16), 17, 5, 1),
    )
    for _ in range(50):
        channels, size, k, stride = rng.choice(dense)
        out = -(-size // stride)
        loops = {"co": channels[1], "ho": out, "wo": out}
        factors = {"ci": channels[0], "kh": k, "kw": k, "ho": out, "wo": out}
        schedule = _draw(rng, loops, factors)
        text = convolution(channels, size, k, stride, schedule=schedule)
        yield "scheduled_dense", text
    for _ in range(20):
        c, size, k, stride = rng.choice(
            ((32, 56, 3, 1), (48, 28, 3, 2), (96, 14, 5, 1), (64, 28, 3, 1))
        )
        out = -(-size // stride)
        loops = {"co": c, "ho": out, "wo": out}
        schedule = _draw(rng, loops, {"kh": k, "ho": out, "co": c}, most=64)
        text = convolution((c, c), size, k, stride, groups=c, schedule=schedule)
        yield "scheduled_depthwise", text
    for _ in range(20):
        rows, k, columns = rng.choice(
            ((1, 512, 256), (64, 64, 64), (49, 96, 96), (8, 256, 100))
        )
        loops = {"n": rows, "co": columns}
        schedule = _draw(rng, loops, {"ci": k, "n": rows, "co": columns})
        text = product((rows, k), (k, columns), weight=True, schedule=schedule)
        yield "scheduled_matmul", text
    for _ in range(20):
        shape = rng.choice(((1, 32, 28, 28), (1, 64, 56, 56), (1, 24, 17, 19)))
        line = rng.choice(
            (
                ("relu(x, slope=0.0)",),
                ("add(x, y)",),
                ("sigmoid(x)",),
                ('softmax(x, axis="co")',),
                ("hadamard(x, b)", "add(v0, y)"),
            )
        )
        loops = {"co": shape[1], "ho": shape[2], "wo": shape[3]}
        schedule = _draw(rng, loops, loops, most=256)
        yield "scheduled_stream", chain(shape, *line, schedule=schedule)


def _draw(
    rng: random.Random, loops: dict[str, int], factors: dict[str, int], most: int = 512
) -> str:
    """Tile nodes of at most ``most`` elements, and perhaps an unroll node."""
    while True:
        named = rng.sample(sorted(loops), rng.randint(1, len(loops)))
        tile = {
            loop: rng.choice([s for s in _SIZES if s <= loops[loop]])
            for loop in sorted(named)
        }
        if prod(tile.values()) <= most:
            break
    text = f"tile({', '.join(f'{k}={v}' for k, v in tile.items())})"
    if rng.random() < 0.5:
        loop = rng.choice(sorted(factors))
        legal = [f for f in range(2, 9) if factors[loop] % f == 0]
        if legal:
            text += f"; unroll({loop}={rng.choice(legal)})"
    return text


def unseen() -> Iterator[tuple[str, str]]:
    """Operators drawn when forms and constants were settled: nothing was fitted."""
    yield from _drawn(random.Random(SEED + 3))


def _drawn(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Shapes that nobody chose; many are odd."""
    for _ in range(20):
        channels = (rng.randint(3, 160), rng.randint(8, 160))
        size = (rng.randint(6, 40), rng.randint(6, 40))
        kernel, stride = rng.choice((1, 1, 3, 3, 5)), rng.choice((1, 1, 2))
        yield "drawn_dense", convolution(channels, size, kernel, stride)
    for _ in range(12):
        c, k, stride = rng.randint(8, 200), rng.choice((3, 5)), rng.choice((1, 2))
        size = (rng.randint(7, 60), rng.randint(7, 60))
        yield "drawn_depthwise", convolution((c, c), size, k, stride, groups=c)
    for _ in range(8):
        rows, k, columns = rng.randint(1, 64), rng.randint(16, 512), rng.randint(8, 512)
        yield "drawn_linear", product((rows, k), (k, columns), weight=True)
    for _ in range(10):
        shape = (1, rng.randint(3, 96), rng.randint(5, 60), rng.randint(5, 60))
        line = rng.choice(("relu(x, slope=0.0)", "add(x, y)", "sigmoid(x)", "tanh(x)"))
        yield "drawn_stream", chain(shape, line)
    scheduled = list(_scheduled(rng))
    for family, text in rng.sample(scheduled, 30):
        yield f"drawn_{family}", text
