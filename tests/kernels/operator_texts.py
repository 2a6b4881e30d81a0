"""Graph texts over odd shapes: primes, single pixels, tails, strides, groups."""

from __future__ import annotations

import random


def convolution(
    *,
    n: int = 1,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    aggregation: str = "sum",
    schedule: tuple[str, ...] = (),
) -> str:
    """A convolution with bias and leaky ReLU, and schedule nodes behind it."""
    inputs, outputs = channels
    top, bottom, left, right = padding
    pads = (top + bottom, left + right)
    rows, columns = (
        (size[d] + pads[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
        for d in (0, 1)
    )
    shares = ""
    call = f'{aggregation}(v0, axis="ci")'
    if aggregation == "weighted_mean":
        shares = f", share: weight[{inputs // groups}]"
        call = 'weighted_mean(v0, share, axis="ci")'
    result = f"map[{n}, {outputs}, {rows}, {columns}]"
    lines = [
        f"def conv(x: map[{n}, {inputs}, {size[0]}, {size[1]}], "
        f"w: weight[{outputs}, {inputs // groups}, {kernel[0]}, {kernel[1]}], "
        f"b: weight[{outputs}]{shares}) -> {result}:",
        f"    v0 = cross_correlation(x, w, stride={stride}, dilation={dilation}, "
        f"groups={groups}, padding={padding})",
        f"    v1 = {call}",
        "    v2 = add(v1, b)",
        "    v3 = relu(v2, slope=0.1)",
    ]
    last = 3
    for node in schedule:
        opcode, arguments = node.split("(", 1)
        lines.append(f"    v{last + 1} = {opcode}(v{last}, {arguments}")
        last += 1
    return "\n".join([*lines, f"    return v{last}", ""])


def random_convolution(seed: int) -> str:
    """A convolution of random odd shape with random schedule nodes."""
    rng = random.Random(seed)
    groups = rng.choice([1, 1, 1, 2, 3])
    inputs = groups * rng.randint(1, 6)
    outputs = groups * rng.randint(1, 9)
    kernel = (rng.randint(1, 4), rng.randint(1, 4))
    dilation = (rng.randint(1, 2), rng.randint(1, 3))
    padding = tuple(rng.randint(-1, 2) for _ in range(4))
    size = (rng.randint(12, 19), rng.randint(12, 19))
    stride = (rng.randint(1, 2), rng.randint(1, 3))
    schedule = []
    if rng.random() < 0.7:
        loops = rng.sample(["co", "ho", "wo"], rng.randint(1, 3))
        sizes = ", ".join(f"{loop}={rng.randint(1, 9)}" for loop in sorted(loops))
        schedule.append(f"tile({sizes})")
    if rng.random() < 0.5:
        loop = rng.choice(["ci", "kh", "kw", "ho", "wo", "co"])
        schedule.append(f"unroll({loop}={rng.randint(2, 4)})")
    return convolution(
        n=rng.randint(1, 2),
        channels=(inputs, outputs),
        size=size,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        padding=padding,  # type: ignore[arg-type]
        aggregation=rng.choice(["sum", "sum", "mean", "weighted_mean"]),
        schedule=tuple(schedule),
    )


NAMED = {
    "plain": convolution(channels=(16, 32), size=(14, 14)),
    "primes": convolution(channels=(7, 13), size=(17, 11)),
    "one_pixel": convolution(
        channels=(5, 3), size=(1, 1), kernel=(1, 1), padding=(0, 0, 0, 0)
    ),
    "one_channel": convolution(channels=(1, 1), size=(9, 8)),
    "pointwise": convolution(
        channels=(24, 40), size=(7, 7), kernel=(1, 1), padding=(0, 0, 0, 0)
    ),
    "strided": convolution(channels=(8, 16), size=(15, 15), stride=(2, 2)),
    "dilated": convolution(
        channels=(6, 9), size=(13, 13), dilation=(2, 2), padding=(2, 2, 2, 2)
    ),
    "depthwise": convolution(channels=(11, 11), size=(14, 14), groups=11),
    "depthwise_strided": convolution(
        channels=(8, 8), size=(13, 15), stride=(2, 2), groups=8
    ),
    "depthwise_twice": convolution(channels=(4, 8), size=(9, 9), groups=4),
    "grouped": convolution(channels=(12, 20), size=(8, 8), groups=4),
    "grouped_mean": convolution(
        channels=(12, 20), size=(8, 8), groups=4, aggregation="mean"
    ),
    "cropped": convolution(channels=(4, 8), size=(12, 12), padding=(-1, -1, 0, -2)),
    "uneven_padding": convolution(
        channels=(4, 8), size=(9, 9), kernel=(2, 4), padding=(0, 1, 1, 2)
    ),
    "tail_tile": convolution(
        channels=(6, 11),
        size=(10, 13),
        schedule=("tile(co=4, ho=3, wo=5)", "unroll(ci=2)"),
    ),
    "tile_larger_than_loop": convolution(
        channels=(3, 5), size=(4, 4), schedule=("tile(co=64, wo=32)",)
    ),
    "huge_tile": convolution(
        channels=(4, 100),
        size=(20, 40),
        schedule=("tile(co=100, ho=20, wo=40)", "unroll(ci=4, kh=3)"),
    ),
    "huge_tile_unrolled": convolution(
        channels=(2, 128),
        size=(9, 70),
        schedule=("tile(co=128, ho=1, wo=35)", "unroll(ho=9, wo=2)"),
    ),
    "tiled_depthwise": convolution(
        channels=(6, 6),
        size=(10, 13),
        groups=6,
        schedule=("tile(co=4, ho=3, wo=5)",),
    ),
    "maximum_of_maps": convolution(channels=(3, 4), size=(7, 7), aggregation="max"),
    "linear": """\
def linear(x: map[1, 77], w: weight[43, 77], b: weight[43]) -> map[1, 43]:
    v0 = transpose(w, axes=(1, 0))
    v1 = matmul(x, v0)
    v2 = add(v1, b)
    return v2
""",
    "linear_batch": """\
def linear(x: map[5, 33], w: weight[33, 19]) -> map[5, 19]:
    v0 = matmul(x, w)
    v1 = tanh(v0)
    v2 = tile(v1, co=8, n=3)
    return v2
""",
    "attention": """\
def attention(x: map[2, 7, 12], y: map[2, 12, 7]) -> map[2, 7, 12]:
    v0 = matmul(x, y)
    v1 = softmax(v0, axis="co")
    v2 = matmul(v1, x)
    return v2
""",
    "weight_from_the_left": """\
def left(x: map[3, 6, 10], w: weight[4, 6]) -> map[3, 4, 10]:
    v0 = matmul(w, x)
    v1 = sigmoid(v0)
    return v1
""",
    "matmul_of_images": """\
def images(x: map[1, 3, 5, 6], w: weight[6, 4]) -> map[1, 3, 5, 4]:
    v0 = matmul(x, w)
    v1 = exp(v0)
    return v1
""",
    "pools": """\
def pools(x: map[1, 5, 13, 11]) -> map[1, 5, 6, 5]:
    v0 = max_pool(x, kernel=(3, 3), stride=(2, 2), padding=(0, 0, 0, 0))
    v1 = avg_pool(v0, kernel=(3, 3), stride=(1, 1), include_pad=False, \
padding=(1, 1, 1, 1))
    v2 = avg_pool(v1, kernel=(3, 3), stride=(1, 1), include_pad=True, \
padding=(1, 1, 1, 1))
    v3 = max_pool(v2, kernel=(2, 2), stride=(1, 1), padding=(1, 0, 0, 1))
    return v3
""",
    "subsampled": """\
def subsampled(x: map[2, 3, 4, 11]) -> map[2, 3, 2, 4]:
    v0 = max_pool(x, kernel=(1, 1), stride=(3, 3), padding=(0, 0, 0, 0))
    v1 = sigmoid(v0)
    return v1
""",
    "global_average": """\
def average(x: map[2, 9, 7, 7]) -> map[2, 9]:
    v0 = avg_pool(x, kernel=(7, 7), stride=(7, 7), include_pad=False, \
padding=(0, 0, 0, 0))
    v1 = reshape(v0, shape=(2, 9))
    return v1
""",
    "aggregations": """\
def aggregations(x: map[2, 6, 5, 7], y: map[2, 6, 5, 7], share: weight[7]) \
-> map[2, 6]:
    v0 = max(x, y, axis="")
    v1 = mean(v0, x, axis="")
    v2 = min(v1, y, axis="")
    v3 = sum(v2, x, y, axis="")
    v4 = weighted_mean(v3, share, axis="wo")
    v5 = max(v4, axis="co")
    return v5
""",
    "moves": """\
def moves(x: map[1, 4, 6, 5]) -> map[1, 12, 7, 3]:
    v0 = transpose(x, axes=(0, 1, 3, 2))
    v1 = resize(v0, size=(7, 3))
    v2 = resize(x, size=(7, 3))
    v3 = concat(v1, v2, v1, axis="co")
    v4 = tile(v3, co=5, wo=3)
    return v4
""",
    "arithmetic": """\
def arithmetic(x: map[1, 4, 6, 5], a: weight[4], b: weight[4]) -> map[1, 4, 6, 5]:
    v0 = exp(x)
    v1 = hadamard(v0, a)
    v2 = sub(v1, x)
    v3 = hadamard(v2, v2)
    v4 = sqrt(v3)
    v5 = add(v4, b)
    v6 = hadamard(a, b)
    v7 = div(v5, v0)
    v8 = sub(v7, v6)
    v9 = unroll(v8, ho=2)
    return v9
""",
    "residual": """\
def residual(x: map[1, 8, 9, 9], y: map[1, 8, 9, 9], w: weight[8, 8, 3, 3]) \
-> map[1, 8, 9, 9]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, \
padding=(1, 1, 1, 1))
    v1 = sum(v0, axis="ci")
    v2 = tile(v1, co=8, wo=3)
    v3 = add(v2, y)
    v4 = relu(v3, slope=0.0)
    return v4
""",
    "six_axes": """\
def shuffle(x: map[1, 8, 3, 5]) -> map[1, 2, 6, 10]:
    v0 = reshape(x, shape=(1, 2, 2, 2, 3, 5))
    v1 = transpose(v0, axes=(0, 1, 4, 2, 5, 3))
    v2 = reshape(v1, shape=(1, 2, 6, 10))
    return v2
""",
    "only_a_tile": """\
def only_a_tile(x: map[1, 3, 8, 8]) -> map[1, 3, 8, 8]:
    v0 = tile(x, wo=4)
    return v0
""",
    "tiled_input": """\
def tiled_input(x: map[1, 3, 8, 8]) -> map[1, 3, 8, 8]:
    v0 = tile(x, wo=4)
    v1 = relu(v0, slope=0.0)
    return v1
""",
}
