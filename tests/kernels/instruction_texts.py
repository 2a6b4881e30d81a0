"""A graph for each form of the instructions that are plain loops."""

from __future__ import annotations

IMAGE = "map[2, 5, 7, 6]"


def unary(result: str, call: str, x: str = IMAGE, more: str = "") -> str:
    """One instruction of ``x`` and other operands."""
    return f"def f(x: {x}{more}) -> {result}:\n    v0 = {call}\n    return v0\n"


def _vector_norms() -> dict[str, str]:
    found = {}
    for ord in ("1", "2", "inf"):
        for axis, result in (("co", "2, 7, 6"), ("wo", "2, 5, 7")):
            call = f'vector_norm(x, ord="{ord}", axis="{axis}")'
            found[f"vector_norm {ord} {axis}"] = unary(f"map[{result}]", call)
    call = 'vector_norm(x, ord="2", axis="ho", keep=True)'
    return {**found, "vector_norm keep": unary("map[2, 5, 1, 6]", call)}


def _kept() -> dict[str, str]:
    found = {}
    for name in ("sum", "mean", "max", "min"):
        for axis, result in (("co", "2, 1, 7, 6"), ("wo", "2, 5, 7, 1")):
            call = f'{name}(x, axis="{axis}", keep=True)'
            found[f"{name} keep {axis}"] = unary(f"map[{result}]", call)
    call = 'weighted_mean(x, share, axis="co", keep=True)'
    weights = ", share: weight[5]"
    return {**found, "weighted": unary("map[2, 1, 7, 6]", call, IMAGE, weights)}


def _pads() -> dict[str, str]:
    amounts = "(0, 1, 2, 0, 3, 1, 0, 2)"
    return {
        f"pad {mode}": unary(
            "map[3, 7, 11, 8]", f'pad(x, amounts={amounts}, mode="{mode}")'
        )
        for mode in ("zeros", "reflect", "replicate", "circular")
    }


def _resizes() -> dict[str, str]:
    found = {}
    for size in ((3, 11), (1, 1), (14, 12)):
        for align in (False, True):
            call = f'resize(x, size={size}, mode="bilinear", align={align})'
            result = f"map[2, 5, {size[0]}, {size[1]}]"
            found[f"bilinear {size} {align}"] = unary(result, call)
    return found


def _densities() -> dict[str, str]:
    found = {}
    for name in ("normal", "laplace", "logistic"):
        call = f'density(x, m, share, distribution="{name}")'
        found[f"{name} channels"] = unary(
            IMAGE, call, IMAGE, ", m: weight[5], share: constant[5]"
        )
        found[f"{name} numbers"] = f"""\
def f(x: map[3, 8], m: map[3, 8]) -> map[3, 8]:
    v0 = scalar(value=0.5)
    v1 = density(x, m, v0, distribution="{name}")
    return v1
"""
    return found


BUNDLES = {
    "gradient image": unary("(map[2, 5, 7, 6], map[2, 5, 7, 6])", "gradient(x)"),
    "gradient pixel": unary(
        "(map[2, 3, 1, 4], map[2, 3, 1, 4])", "gradient(x)", "map[2, 3, 1, 4]"
    ),
    "gradient sequence": unary("(map[2, 5, 4],)", "gradient(x)", "map[2, 5, 4]"),
    "bundle": """\
def f(x: map[2, 5, 7, 6]) -> (map[2, 5, 6, 7], map[2, 5, 7, 6], map[2, 5, 7, 6]):
    v0 = transpose(x, axes=(0, 1, 3, 2))
    v1 = gradient(x)
    v2 = result(v1, index=1)
    v3 = exp(x)
    v4 = bundle(v0, v2, v3)
    return v4
""",
}

TEXTS = {
    "matvec": unary("map[2, 5, 7]", "matvec(x, y)", IMAGE, ", y: map[2, 5, 6]"),
    "matvec of a weight": unary(
        "map[3, 4]", "matvec(w, x)", "map[3, 6]", ", w: weight[4, 6]"
    ),
    "matvec with a vector": unary(
        "map[2, 5, 7]", "matvec(x, w)", IMAGE, ", w: weight[6]"
    ),
    "dot": unary("map[2, 5, 7]", "dot(x, y)", IMAGE, f", y: {IMAGE}"),
    "dot of weights": unary("weight[()]", "dot(w, w)", IMAGE, ", w: weight[9]"),
    "trace": unary("map[2, 5]", "trace(x)", "map[2, 5, 6, 6]"),
    "trace of one": unary("map[()]", "trace(x)", "map[6, 6]"),
    "kron": unary("map[2, 8, 18]", "kron(x, y)", "map[2, 4, 6]", ", y: weight[2, 3]"),
    "kron of two": unary(
        "map[2, 8, 18]", "kron(x, y)", "map[2, 4, 6]", ", y: map[2, 2, 3]"
    ),
    "outer": unary("map[3, 6, 4]", "outer(x, y)", "map[3, 6]", ", y: map[3, 4]"),
    "outer of images": unary(
        "map[2, 5, 7, 6, 4]", "outer(x, y)", IMAGE, ", y: map[2, 5, 7, 4]"
    ),
    "norm 1": unary("map[2, 5]", 'matrix_norm(x, ord="1")'),
    "norm inf": unary("map[2, 5]", 'matrix_norm(x, ord="inf")'),
    "frobenius": unary("map[2, 5]", "frobenius_norm(x)"),
    "frobenius of one": unary("map[()]", "frobenius_norm(x)", "map[6, 3]"),
    "partial ho": unary(IMAGE, 'partial_derivative(x, axis="ho")'),
    "partial co": unary(IMAGE, 'partial_derivative(x, axis="co")'),
    "partial of two": unary(
        "map[3, 2]", 'partial_derivative(x, axis="co")', "map[3, 2]"
    ),
    "chain": unary(IMAGE, "chain_rule(x, y)", IMAGE, ", y: map[2, 1, 7, 1]"),
    "posterior": """\
def f(x: map[2, 5, 7, 6], p: constant[5]) -> map[2, 5, 7, 6]:
    v0 = exp(x)
    v1 = exp(p)
    v2 = posterior(v0, v1, axis="co")
    return v2
""",
    "flip": unary(IMAGE, 'flip(x, axis="co")'),
    "flip wo": unary(IMAGE, 'flip(x, axis="wo")'),
    "slice": unary("map[2, 5, 3, 6]", "slice(x, axis=2, start=1, size=3, step=2)"),
    "cast": unary("map[2, 5, 7, 6, int32]", 'cast(x, dtype="int32")'),
    "erf": unary(IMAGE, "erf(x)"),
    "made": """\
def f(x: map[2, 4, 4]) -> map[2, 4, 4]:
    v0 = identity(size=4)
    v1 = matmul(x, v0)
    v2 = zeros(shape=(4,))
    v3 = add(v1, v2)
    v4 = scalar(value=3.0)
    v5 = zeros(shape=(2, 4, 1))
    v6 = hadamard(v4, v5)
    v7 = sub(v3, v6)
    v8 = div(v4, v7)
    return v8
""",
    "number of a map": """\
def f(x: map[3, 3], w: weight[2, 2]) -> map[3, 3]:
    v0 = trace(x)
    v1 = add(x, v0)
    v2 = trace(w)
    v3 = hadamard(v1, v2)
    v4 = exp(v0)
    v5 = sub(v3, v4)
    return v5
""",
    "broadcast": """\
def f(x: map[2, 5, 7, 6]) -> map[2, 5, 7, 6]:
    v0 = mean(x, axis="wo", keep=True)
    v1 = max(x, axis="co", keep=True)
    v2 = sub(v1, v0)
    v3 = add(x, v2)
    v4 = sum(v3, v0, v1, axis="")
    return v4
""",
    "taps outside of an image": """\
def f(x: map[1, 6, 2, 4], w: weight[18, 1, 3, 1]) -> map[1, 18, 1, 2, 3]:
    v0 = cross_correlation(x, w, stride=(1, 2), dilation=(1, 1), groups=6, \
padding=(2, 2, 2, 0), \
group_dilation=((1, 2), (2, 1), (1, 2), (2, 2), (2, 2), ((3, 1), 2)))
    return v0
""",
    "tile of what moves": """\
def f(x: map[2, 3, 4, 5]) -> map[3, 5, 4, 2]:
    v0 = transpose(x, axes=(1, 3, 2, 0))
    v1 = tile(v0, co=4)
    v2 = exp(v1)
    return v2
""",
    "product in an image": """\
def f(x: map[2, 3, 5, 6], w: weight[6, 7]) -> map[2, 3, 5, 7]:
    v0 = matmul(x, w)
    v1 = exp(v0)
    v2 = max_pool(v1, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
    return v2
""",
    **_vector_norms(),
    **_kept(),
    **_pads(),
    **_resizes(),
    **_densities(),
}
