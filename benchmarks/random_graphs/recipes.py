"""How operands and attributes of each instruction are drawn.

Most follow from the declaration: operands of fitting roles, ranks and dtypes, and
attributes by kind, choices and range. Recipes are for what must fit each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gos_fx.instructions  # noqa: F401  (fills the table of instructions)
from benchmarks.random_graphs.generator import Draw, Dropped
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.opcode import OPCODES, Operand
from gos_fx.ir.types import AXES, channel_axis

Recipe = Callable[[Draw], str]
RECIPES: dict[str, Recipe] = {}
FLOAT = ("float32",)
TRAINED = ("map", "weight", "constant")
VALUE = Operand(dtypes=FLOAT)
MAP = Operand(("map",), dtypes=FLOAT)
MATRIX = Operand(TRAINED, (2, 3, 4), FLOAT)
# Largest operand of an exponential, smallest divisor.
_MOST_POWER, _LEAST_DIVISOR = 4.0, 0.3


def recipe(*opcodes: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    def declare(function: Callable[..., str]) -> Callable[..., str]:
        for opcode in opcodes:
            RECIPES[opcode] = function
        return function

    return declare


def append(draw: Draw, opcode: str) -> str:
    """One instruction of this kind, and what it needs.

    Raises:
        Dropped: nothing fitted this time.
    """
    if opcode in RECIPES:
        return RECIPES[opcode](draw, opcode)  # type: ignore[call-arg]
    return _declared(draw, opcode)


def _declared(draw: Draw, opcode: str) -> str:
    """Operands that broadcast to the first, attributes of legal values."""
    declaration = OPCODES[opcode]
    _, takes = declaration.operand(0)
    first = draw.accepted(
        Operand(takes.roles, takes.ranks, tuple({*takes.dtypes} & {*FLOAT}))
    )
    operands = [first]
    count = (
        draw.rng.randint(2, 3) if declaration.variadic else len(declaration.operands)
    )
    attributes = drawn_attributes(draw, opcode, draw.types[first].rank)
    if declaration.variadic and (attributes.get("axis") or "axis" not in attributes):
        count = 1
    operands += [beside(draw, first) for _ in range(count - 1)]
    draw.rng.shuffle(operands)
    if count > 1 and attributes.get("axis") == "":
        attributes.pop("keep", None)
    return draw.emit(opcode, *operands, **attributes)


def beside(draw: Draw, first: str) -> str:
    """A value that broadcasts with another: of its shape, along its channels, of axes
    of size one, a number; from the graph or new."""
    type = draw.types[first]
    kind = draw.rng.choice(("same", "same", "channels", "ones", "number", "new"))
    if kind == "number" or type.rank == 0:
        return draw.emit("scalar", value=round(draw.rng.uniform(0.5, 2.0), 3))
    if kind == "same":
        return draw.accepted(
            VALUE, lambda v: draw.types[v].shape == type.shape and v != first
        )
    if kind == "channels" and 2 <= type.rank <= 5:
        size = int(type.shape[channel_axis(type.rank)])  # type: ignore[arg-type]
        found = [
            v
            for v, t in draw.types.items()
            if t.shape == (size,) and t.role != "map" and t.dtype in FLOAT
        ]
        if found and draw.rng.random() < 0.5:
            return draw.rng.choice(found)
        return draw.input("weight", (size,))
    shape = [int(dim) for dim in type.shape]  # type: ignore[arg-type]
    if kind == "ones":
        shape = [n if draw.rng.random() < 0.5 else 1 for n in shape]
    return draw.input(draw.rng.choice(("weight", "constant")), shape)


def drawn_attributes(draw: Draw, opcode: str, rank: int) -> dict[str, Any]:
    found = {}
    for key, attribute in OPCODES[opcode].attributes.items():
        if attribute.optional and draw.rng.random() < 0.5:
            continue
        found[key] = _drawn(draw, attribute, rank)
    return found


def _drawn(draw: Draw, attribute: Attribute, rank: int) -> Any:
    rng = draw.rng
    match attribute.kind:
        case "flag":
            return rng.random() < 0.5
        case "axis":
            axes = AXES.get(rank, ())
            if attribute.default == "":  # aggregations also take several values
                axes = (*axes, "", "")
            if not axes:
                raise Dropped("a value without axes")
            return rng.choice(axes)
        case "real" if not attribute.choices:
            low = -2.0 if attribute.low is None else attribute.low
            high = 2.0 if attribute.high is None else attribute.high
            return round(rng.uniform(low, high), 3)
    if not attribute.choices:
        raise Dropped(f"no recipe for a {attribute.kind}")
    return rng.choice(attribute.choices)


def sizes(draw: Draw, name: str) -> list[int]:
    return [int(dim) for dim in draw.types[name].shape]  # type: ignore[arg-type]


def turned(draw: Draw, name: str) -> str:
    """The last two axes exchanged."""
    rank = draw.types[name].rank
    return draw.emit("transpose", name, axes=(*range(rank - 2), rank - 1, rank - 2))


# --- numbers ------------------------------------------------------------------


@recipe("scalar")
def scalar(draw: Draw, opcode: str) -> str:
    """A number, and what meets it: a value, or another number first."""
    a = draw.emit(opcode, value=round(draw.rng.uniform(-2.0, 2.0), 3))
    if draw.rng.random() < 0.2:
        b = draw.emit(opcode, value=round(draw.rng.uniform(0.5, 2.0), 3))
        a = draw.emit(draw.rng.choice(("add", "sub", "hadamard", "div")), a, b)
    x = draw.accepted(VALUE, lambda v: draw.types[v].role != "scalar")
    pair = (x, a) if draw.rng.random() < 0.5 else (a, x)
    reader = draw.rng.choice(("add", "sub", "hadamard", "max", "min", "chain_rule"))
    more = {"axis": ""} if reader in ("max", "min") else {}
    return draw.emit(reader, *pair, **more)


@recipe("exp")
def exponential(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    value = draw.values[x]
    most = value if isinstance(value, float) else float(value.max())
    return draw.emit("exp", x if most < _MOST_POWER else draw.emit("tanh", x))


@recipe("sqrt")
def root(draw: Draw, opcode: str) -> str:
    return draw.emit("sqrt", draw.positive(draw.accepted(VALUE)))


@recipe("div")
def quotient(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    other = beside(draw, x)
    if draw.rng.random() < 0.3:
        x, other = other, x
    value = draw.values[other]
    low = abs(value) if isinstance(value, float) else float(value.abs().min())
    return draw.emit(
        "div", x, other if low > _LEAST_DIVISOR else draw.positive(other, 0.2)
    )


@recipe("density")
def density(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE)
    mean, scale = beside(draw, x), draw.positive(beside(draw, x), 0.2)
    return draw.emit(opcode, x, mean, scale, **drawn_attributes(draw, opcode, 0))


@recipe("posterior")
def posterior(draw: Draw, opcode: str) -> str:
    likelihood = draw.positive(draw.accepted(Operand(TRAINED, (2, 3, 4, 5), FLOAT)))
    prior = draw.positive(beside(draw, likelihood))
    rank = draw.types[likelihood].rank
    return draw.emit(opcode, likelihood, prior, **drawn_attributes(draw, opcode, rank))


@recipe("weighted_mean")
def weighted_mean(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (1, 2, 3, 4, 5), FLOAT))
    attributes = drawn_attributes(draw, opcode, draw.types[x].rank)
    place = AXES[draw.types[x].rank].index(attributes["axis"])
    w = draw.input("weight", (sizes(draw, x)[place],), positive=True)
    return draw.emit(opcode, x, w, **attributes)


# --- convolution and pooling --------------------------------------------------


@recipe("cross_correlation")
def cross_correlation(draw: Draw, opcode: str) -> str:
    x, rng = draw.image(), draw.rng
    channels = sizes(draw, x)[1]
    groups = rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
    taps = rng.randint(1, 3), rng.randint(1, 3)
    runs = [n for n in range(2, groups + 1) if groups % n == 0]
    more: dict[str, Any] = {"dilation": tuple(_gaps(rng, k) for k in taps)}
    if runs and rng.random() < 0.5:
        more["dilation"] = (1, 1)
        more["group_dilation"] = tuple(
            tuple(_gaps(rng, k) for k in taps) for _ in range(rng.choice(runs))
        )
    w = draw.input(
        rng.choice(("weight", "weight", "constant")),
        (groups * rng.randint(1, 3), channels // groups, *taps),
    )
    maps = draw.emit(
        opcode,
        x,
        w,
        stride=(rng.randint(1, 2), rng.randint(1, 2)),
        groups=groups,
        padding=tuple(rng.randint(0, 2) for _ in range(4)),
        **more,
    )
    if rng.random() < 0.2:
        return maps
    if rng.random() < 0.2:
        share = draw.input("weight", (channels // groups,), positive=True)
        return draw.emit("weighted_mean", maps, share, axis="ci")
    found = draw.emit(rng.choice(("sum", "sum", "mean", "max")), maps, axis="ci")
    if rng.random() < 0.5:
        return draw.emit("add", found, draw.input("weight", (sizes(draw, found)[1],)))
    return found


def _gaps(rng: Any, taps: int) -> Any:
    if taps > 1 and rng.random() < 0.3:
        return tuple(rng.randint(1, 3) for _ in range(taps - 1))
    return rng.randint(1, 2)


@recipe("max_pool", "avg_pool")
def pool(draw: Draw, opcode: str) -> str:
    x, rng = draw.image(), draw.rng
    kernel = rng.randint(1, 3), rng.randint(1, 3)
    padding = tuple(rng.randint(0, kernel[i // 2] - 1) for i in range(4))
    more = {"include_pad": rng.random() < 0.5} if opcode == "avg_pool" else {}
    stride = rng.randint(1, 2), rng.randint(1, 2)
    return draw.emit(opcode, x, kernel=kernel, stride=stride, padding=padding, **more)


# --- movement -----------------------------------------------------------------


@recipe("reshape")
def reshape(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(dtypes=FLOAT), lambda v: draw.types[v].rank > 0)
    shape = sizes(draw, x)
    for _ in range(draw.rng.randint(1, 3)):
        if len(shape) < 5 and draw.rng.random() < 0.5:
            at = draw.rng.randrange(len(shape))
            parts = [k for k in range(1, shape[at] + 1) if shape[at] % k == 0]
            part = draw.rng.choice(parts)
            shape[at : at + 1] = [part, shape[at] // part]
        elif len(shape) > 1:
            at = draw.rng.randrange(len(shape) - 1)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
    return draw.emit(opcode, x, shape=tuple(shape))


@recipe("transpose")
def transpose(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 1)
    axes = list(range(draw.types[x].rank))
    draw.rng.shuffle(axes)
    return draw.emit(opcode, x, axes=tuple(axes))


@recipe("slice")
def slice_(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    axis = draw.rng.randrange(draw.types[x].rank)
    extent = sizes(draw, x)[axis]
    start, step = draw.rng.randrange(extent), draw.rng.randint(1, 3)
    size = draw.rng.randint(1, (extent - 1 - start) // step + 1)
    return draw.emit(opcode, x, axis=axis, start=start, size=size, step=step)


@recipe("pad")
def pad(draw: Draw, opcode: str) -> str:
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    mode = draw.rng.choice(OPCODES[opcode].attributes["mode"].choices)
    amounts = []
    for extent in sizes(draw, x):
        most = {"reflect": extent - 1, "circular": extent}.get(mode, 2)
        amounts += [
            draw.rng.choice((0, draw.rng.randint(0, min(most, 2)))) for _ in "ab"
        ]
    return draw.emit(opcode, x, amounts=tuple(amounts), mode=mode)


@recipe("resize")
def resize(draw: Draw, opcode: str) -> str:
    more = drawn_attributes_without(draw, opcode, "size")
    if more.get("mode") != "bilinear":
        more.pop("align", None)
    size = draw.extent(), draw.extent()
    return draw.emit(opcode, draw.image(), size=size, **more)


def drawn_attributes_without(draw: Draw, opcode: str, *left_out: str) -> dict[str, Any]:
    attributes = OPCODES[opcode].attributes
    found = {}
    for key, attribute in attributes.items():
        if key not in left_out and not (attribute.optional and draw.rng.random() < 0.5):
            found[key] = _drawn(draw, attribute, 4)
    return found


@recipe("concat")
def concat(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (1, 2, 3, 4, 5), FLOAT))
    type = draw.types[x]
    place = draw.rng.randrange(type.rank)

    def fits(name: str) -> bool:
        other = draw.types[name]
        mine, its = list(type.shape), list(other.shape)
        if other.rank != type.rank or other.role != type.role:
            return False
        mine[place] = its[place] = 0
        return mine == its

    others = [draw.accepted(VALUE, fits) for _ in range(draw.rng.randint(1, 2))]
    return draw.emit(opcode, x, *others, axis=AXES[type.rank][place])


@recipe("gather")
def gather(draw: Draw, opcode: str) -> str:
    rows = draw.extent(2)
    table = draw.input("weight", (rows, draw.extent()))
    shape = draw.shape(draw.rng.randint(1, 3))
    role = "map" if draw.maps < 3 else "constant"
    indices = draw.indices(role, shape, rows)
    if draw.rng.random() < 0.3:
        indices = draw.emit("flip", indices, axis=AXES[len(shape)][-1])
    return draw.emit(opcode, table, indices)


@recipe("cast")
def cast(draw: Draw, opcode: str) -> str:
    """To other numbers, something there, and back."""
    x = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    there = draw.emit(
        opcode, x, dtype=draw.rng.choice(("float32", "float16", "float64"))
    )
    if draw.rng.random() < 0.7:
        there = draw.emit(draw.rng.choice(("tanh", "sigmoid")), there)
    return draw.emit(opcode, there, dtype="float32")


# --- linear algebra -----------------------------------------------------------


@recipe("matmul")
def matmul(draw: Draw, opcode: str) -> str:
    a = draw.accepted(MATRIX)
    *batch, rows, columns = sizes(draw, a)
    if draw.rng.random() < 0.3:
        return draw.emit(opcode, a, turned(draw, a))
    other = draw.extent()
    if draw.rng.random() < 0.5:
        return draw.emit(opcode, a, draw.input("weight", (columns, other)))
    shape = [*(batch if draw.rng.random() < 0.3 else ()), other, rows]
    return draw.emit(opcode, draw.input("weight", shape), a)


@recipe("matvec")
def matvec(draw: Draw, opcode: str) -> str:
    if draw.rng.random() < 0.5:
        a = draw.accepted(MATRIX)
        *batch, _, columns = sizes(draw, a)
        kept = batch if draw.rng.random() < 0.5 else []
        return draw.emit(opcode, a, draw.input("weight", (*kept, columns)))
    x = draw.accepted(Operand(TRAINED, (1, 2, 3), FLOAT))
    a = draw.input("weight", (draw.extent(), sizes(draw, x)[-1]))
    return draw.emit(opcode, a, x)


@recipe("dot", "outer")
def of_vectors(draw: Draw, opcode: str) -> str:
    a = draw.accepted(Operand(TRAINED, (1, 2, 3, 4), FLOAT))
    *batch, size = sizes(draw, a)
    kept = batch if draw.rng.random() < 0.6 else []
    other = size if opcode == "dot" else draw.extent()
    b = draw.input("weight", (*kept, other))
    pair = (a, b) if draw.rng.random() < 0.5 else (b, a)
    return draw.emit(opcode, *pair)


@recipe("kron")
def kron(draw: Draw, opcode: str) -> str:
    a = draw.accepted(MATRIX)
    b = draw.input("weight", (draw.rng.randint(1, 3), draw.rng.randint(1, 3)))
    pair = (a, b) if draw.rng.random() < 0.5 else (b, a)
    return draw.emit(opcode, *pair)


@recipe("identity")
def identity(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, size=draw.extent())


@recipe("zeros")
def zeros(draw: Draw, opcode: str) -> str:
    like = draw.accepted(VALUE, lambda v: draw.types[v].rank > 0)
    found = draw.emit(opcode, shape=draw.types[like].shape)
    pair = (like, found) if draw.rng.random() < 0.5 else (found, like)
    reader = draw.rng.choice(("add", "sub", "hadamard", "max", "min"))
    more = {"axis": ""} if reader in ("max", "min") else {}
    return draw.emit(reader, *pair, **more)


def square(draw: Draw) -> str:
    """A square matrix, positive definite unless one is there that is not."""
    if draw.rng.random() < 0.3:
        return draw.accepted(MATRIX, lambda v: len({*draw.types[v].shape[-2:]}) == 1)
    a = draw.accepted(MATRIX)
    product = draw.emit("matmul", a, turned(draw, a))
    *batch, size, _ = sizes(draw, product)
    unit = draw.emit("identity", size=size)
    if batch:
        unit = draw.emit("reshape", unit, shape=(*[1] * len(batch), size, size))
    return draw.emit("add", product, unit)


@recipe("inverse", "det", "trace", "pinv", "matrix_rank")
def of_square(draw: Draw, opcode: str) -> str:
    is_any = opcode in ("pinv", "matrix_rank") and draw.rng.random() < 0.5
    return draw.emit(opcode, draw.accepted(MATRIX) if is_any else square(draw))


@recipe("cholesky")
def cholesky(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, square(draw))


@recipe("matrix_norm")
def matrix_norm(draw: Draw, opcode: str) -> str:
    return draw.emit(opcode, draw.accepted(MATRIX), **drawn_attributes(draw, opcode, 2))


@recipe("eigh")
def eigh(draw: Draw, opcode: str) -> str:
    """Eigenvalues, or v diag(w) v^T: vectors have a sign of their own."""
    both = draw.emit(opcode, square(draw))
    values = draw.emit("result", both, index=0)
    if draw.rng.random() < 0.4:
        return values
    vectors = draw.emit("result", both, index=1)
    left = _scaled(draw, vectors, values)
    return draw.reconstruct("matmul", left, turned(draw, vectors))


def _scaled(draw: Draw, vectors: str, values: str) -> str:
    """Each column times its value."""
    *batch, size = sizes(draw, values)
    row = draw.emit("reshape", values, shape=(*batch, 1, size))
    return draw.emit("hadamard", vectors, row)


@recipe("svd")
def svd(draw: Draw, opcode: str) -> str:
    """Singular values, or u diag(s) vh."""
    three = draw.emit(opcode, draw.accepted(MATRIX))
    values = draw.emit("result", three, index=1)
    if draw.rng.random() < 0.4:
        return values
    left = _scaled(draw, draw.emit("result", three, index=0), values)
    return draw.reconstruct("matmul", left, draw.emit("result", three, index=2))


@recipe("qr")
def qr(draw: Draw, opcode: str) -> str:
    """q r, or the squares of r."""
    both = draw.emit(opcode, draw.accepted(MATRIX))
    right = draw.emit("result", both, index=1)
    if draw.rng.random() < 0.4:
        return draw.reconstruct("hadamard", right, right)
    return draw.reconstruct("matmul", draw.emit("result", both, index=0), right)


@recipe("gradient")
def gradient(draw: Draw, opcode: str) -> str:
    x = draw.accepted(Operand(TRAINED, (2, 3, 4), FLOAT))
    both = draw.emit(opcode, x)
    parts = len(draw.types[both].parts)
    taken = [draw.emit("result", both, index=i) for i in range(parts)]
    return taken[-1]


# --- bundles and scans --------------------------------------------------------


@recipe("bundle", "result")
def bundle(draw: Draw, opcode: str) -> str:
    """Two values together, and each out again."""
    a = draw.accepted(VALUE, lambda v: not isinstance(draw.values[v], float))
    b = draw.accepted(VALUE, lambda v: not isinstance(draw.values[v], float))
    both = draw.emit("bundle", a, b)
    draw.emit("result", both, index=0)
    return draw.emit("result", both, index=1)


@recipe("scan")
def scan(draw: Draw, opcode: str) -> str:
    from benchmarks.random_graphs.cells import scanned

    return scanned(draw)


OPCODES_TO_DRAW = tuple(name for name in OPCODES if not OPCODES[name].schedule)


# --- one output ---------------------------------------------------------------


def combine(draw: Draw) -> str:
    """One value that depends on all that nobody has read."""
    ends = [_plain(draw, name) for name in list(draw.unread)]
    maps = [name for name in ends if draw.types[name].role == "map"]
    if not maps:
        raise Dropped("no map is left")
    rows = [_row(draw, name) for name in maps[1:]]
    last = maps[0]
    others = [name for name in ends if name not in maps]
    if others or rows:
        last = _row(draw, last)
    for name in others:
        last = _joined(draw, last, _row(draw, name))
    if not rows:
        return last
    if draw.rng.random() < 0.4:
        return draw.emit("bundle", last, *rows)
    if len(rows) > 1 or draw.rng.random() < 0.5:
        return draw.emit("concat", last, *rows, axis="co")
    return _joined(draw, last, rows[0])


def _plain(draw: Draw, name: str) -> str:
    """A single precision number, whatever it was."""
    if name in draw.ambiguous:
        raise Dropped("a factor is left")
    if draw.types[name].is_bundle:
        parts = range(len(draw.types[name].parts))
        raise Dropped(f"a bundle of {len(parts)} is left")
    if draw.types[name].dtype != "float32":
        return draw.emit("cast", name, dtype="float32")
    return name


def _row(draw: Draw, name: str) -> str:
    """All elements as ``[1, n]``."""
    type = draw.types[name]
    if type.rank == 2 and type.shape[0] == 1:
        return name
    return draw.emit("reshape", name, shape=(1, int(type.elements)))  # type: ignore[arg-type]


def _joined(draw: Draw, a: str, b: str) -> str:
    """Each element of one with the mean of the other."""
    return draw.emit("add", a, draw.emit("mean", b, axis="co", keep=True))
