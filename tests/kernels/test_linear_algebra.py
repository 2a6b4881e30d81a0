"""Factorisations against float64, by what defines them: products and orthogonality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import tvm

import gos_fx.instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import Unsupported
from gos_fx.ir.fusion import Kernel
from gos_fx.ir.graph import Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type
from gos_fx.kernels.build import build
from gos_fx.kernels.emulator import run as emulate
from gos_fx.kernels.host import HostModule
from gos_fx.kernels.layout import plain
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.targets.target import get

EPS = 2.0**-23
# Errors may be so many times eps n |a|, |a| the Frobenius norm.
BOUND = 20.0
SQUARE = [(n, n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64)]
ALONE = [(1, 1), (5, 5), (3, 5), (9, 2)]
OBLONG = [(1, 4), (4, 1), (3, 5), (5, 3), (9, 2), (2, 9), (33, 16), (16, 33), (9, 64)]
FEWER = [*SQUARE[:5], (9, 9), (33, 33), *OBLONG[:7]]


def matrices(m: int, n: int) -> dict[str, np.ndarray]:
    """One matrix of each kind, in single precision."""
    rng = np.random.default_rng(100 * m + n)
    k = min(m, n)
    a = rng.standard_normal((m, n))
    left = np.linalg.qr(rng.standard_normal((m, m)))[0][:, :k]
    right = np.linalg.qr(rng.standard_normal((n, n)))[0][:k]
    half = -(-k // 2)
    singular = {
        "ill-conditioned": np.logspace(0, -10, k),
        "two clusters": np.repeat([1.0, 1e-3], [half, k - half]),
        "deficient": np.repeat([1.0, 0.0], [half, k - half]),
    }
    empty = a.copy()
    empty[:, [0, -1]] = 0.0
    found = {
        "normal": a,
        **{name: (left * s) @ right for name, s in singular.items()},
        "graded columns": a * np.logspace(0, -12, n),
        "graded rows": a * np.logspace(0, -12, m)[:, None],
        "large": 1e30 * a,
        "small": 1e-30 * a,
        "zero": np.zeros((m, n)),
        "ones": np.ones((m, n)),
        "unit": np.eye(m, n),
        "empty columns": empty,
    }
    if m == n > 1:
        found["empty diagonal"] = np.where(np.eye(n) > 0, 0.0, a + a.T)
    return {name: x.astype(np.float32) for name, x in found.items()}


def kernel(
    opcode: str, shape: tuple[int, ...], attributes: tuple = (), dtype: str = "float32"
):
    """The function of one instruction, and the shapes of its results."""
    of = Type("map", shape, dtype)
    result = OPCODES[opcode].infer([of], dict(attributes))
    node = Node("y", opcode, ("x",), attributes, result)
    types = {"x": of, "y": result}
    layouts = {name: plain(t.rank) for name, t in types.items()}
    single = Kernel(node, (node,), ("x",), "y")
    function = build_kernel(single, types, get("host").machine, layouts).function
    return function, [tuple(map(int, t.shape)) for t in result.values]


class Compiled:
    """One instruction for matrices of several shapes, compiled in one go."""

    def __init__(self, opcode: str, shapes, attributes: tuple = ()) -> None:
        self.shapes = {}
        functions = {}
        for shape in shapes:
            name = "f_" + "_".join(map(str, shape))
            function, self.shapes[name] = kernel(opcode, shape, attributes)
            functions[name] = function.with_attr("global_symbol", name)
        target = tvm.target.Target(dict(get("host").tvm))
        self.code = tvm.compile(tvm.IRModule(functions), target=target)

    def __call__(self, a: np.ndarray) -> list[np.ndarray]:
        name = "f_" + "_".join(map(str, a.shape))
        outputs = [
            tvm.runtime.tensor(np.full(shape, 7.0, np.float32))
            for shape in self.shapes[name]
        ]
        self.code[name](tvm.runtime.tensor(np.ascontiguousarray(a)), *outputs)
        return [output.numpy().astype(np.float64) for output in outputs]


def results(
    opcode: str, sizes, attributes: tuple = ()
) -> Iterator[tuple[str, np.ndarray, list[np.ndarray]]]:
    """Kind, matrix in float64, results: each shape as a batch of all kinds, some of
    normal matrices alone too."""
    kinds = {size: matrices(*size) for size in sizes}
    stacked = {size: np.stack([*found.values()]) for size, found in kinds.items()}
    shapes = [x.shape for x in stacked.values()]
    single = [size for size in sizes if size in ALONE]
    compiled = Compiled(opcode, [*shapes, *single], attributes)
    for size, found in kinds.items():
        together = compiled(stacked[size])
        for i, (kind, a) in enumerate(found.items()):
            yield f"{kind} {size}", a.astype(np.float64), [y[i] for y in together]
        if size in ALONE:
            alone = found["normal"]
            yield f"normal alone {size}", alone.astype(np.float64), compiled(alone)


class Errors:
    """Those above the bound, in units of eps n |a|."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def note(self, what: str, error: np.ndarray, a: np.ndarray, norm: float) -> None:
        unit = EPS * max(a.shape) * norm
        error = np.max(np.abs(error)) / (unit if unit > 0 else EPS)
        if not error <= BOUND:
            self.found.append(f"{what}: {error:.3g}")

    def product(self, what: str, error: np.ndarray, a: np.ndarray) -> None:
        self.note(what, error, a, float(np.linalg.norm(a)))

    def unit(self, what: str, q: np.ndarray) -> None:
        """Columns of unit length at right angles."""
        self.note(f"{what}, angles", q.T @ q - np.eye(q.shape[1]), q, 1.0)


def test_inverse():
    errors = Errors()
    for what, a, (x,) in results("inverse", SQUARE):
        n = a.shape[0]
        if what.startswith(("normal", "two clusters", "unit")):
            size = float(np.linalg.norm(a) * np.linalg.norm(x))
            errors.note(what, a @ x - np.eye(n), a, size)
        if what.startswith("zero") or (what.startswith("ones") and n > 1):
            assert np.isnan(x).all(), what
    assert not errors.found


def test_det():
    errors = Errors()
    for what, a, (found,) in results("det", SQUARE):
        expected = np.linalg.det(a)
        if 1e-30 < abs(expected) < 1e30 and np.linalg.cond(a) < 1e4:
            size = abs(expected) * np.linalg.cond(a)
            errors.note(what, found - expected, a, float(size))
        elif what.startswith(("zero", "empty columns")):
            assert found == 0.0, what
        elif what.startswith("large (64"):
            assert np.isinf(found), what
    assert not errors.found


def test_cholesky():
    errors = Errors()
    compiled = Compiled("cholesky", [(3, n, n) for n, _ in SQUARE])
    for n, _ in SQUARE:
        kinds = matrices(n, n)
        batch = []
        for kind in ("normal", "graded rows", "ones"):
            a = kinds[kind].astype(np.float64)
            spread = a @ a.T
            size = np.trace(spread) / n
            batch.append((spread + 1e-3 * size * np.eye(n)).astype(np.float32))
        stacked = np.stack(batch)
        above = np.triu(np.ones((n, n), np.float32), 1)  # is not read
        (found,) = compiled(np.tril(stacked) + above)
        for a, low in zip(stacked.astype(np.float64), found, strict=True):
            assert np.array_equal(low, np.tril(low))
            errors.product(f"{n}", low @ low.T - a, a)
    assert not errors.found


def test_qr():
    errors = Errors()
    for what, a, (q, r) in results("qr", [*SQUARE, *OBLONG]):
        assert np.array_equal(r, np.triu(r)), what
        errors.product(what, q @ r - a, a)
        errors.unit(what, q)
        if what.startswith("normal"):  # the signs of LAPACK
            expected = np.sign(np.diag(np.linalg.qr(a)[1]))
            assert np.array_equal(np.sign(np.diag(r)), expected), what
    assert not errors.found


def test_eigh():
    errors = Errors()
    for what, a, (values, vectors) in results("eigh", SQUARE):
        a = (a + a.T) / 2
        assert np.all(np.diff(values) >= 0), what
        errors.product(what, a @ vectors - vectors * values, a)
        errors.product(f"{what}, values", values - np.linalg.eigvalsh(a), a)
        errors.unit(what, vectors)
    assert not errors.found


def test_svd():
    errors = Errors()
    for what, a, (u, s, vh) in results("svd", [*SQUARE, *OBLONG]):
        assert np.all(np.diff(s) <= 0) and np.all(s >= 0), what
        errors.product(what, (u * s) @ vh - a, a)
        errors.product(f"{what}, s", s - np.linalg.svd(a, compute_uv=False), a)
        errors.unit(f"{what}, u", u)
        errors.unit(f"{what}, v", vh.T)
    assert not errors.found


def test_pinv():
    errors = Errors()
    known = ("normal", "deficient", "unit", "zero", "ones", "two clusters")
    for what, a, (x,) in results("pinv", FEWER):
        if what.startswith(known):
            expected = np.linalg.pinv(a, rcond=max(a.shape) * EPS)
            size = np.linalg.norm(expected)
            condition = max(1.0, size * np.linalg.norm(a))
            errors.note(what, x - expected, a, float(size * condition))
    assert not errors.found


def test_matrix_rank():
    for what, a, (found,) in results("matrix_rank", FEWER):
        s = np.linalg.svd(a, compute_uv=False)
        least = max(a.shape) * EPS * s[0]
        border = np.abs(s - least) < 0.25 * least
        if s[0] == 0 or not border.any():
            assert found == np.sum(s > least), what


@pytest.mark.parametrize(("ord", "reference"), [("2", 2), ("nuclear", "nuc")])
def test_matrix_norm(ord, reference):
    errors = Errors()
    for what, a, (found,) in results("matrix_norm", FEWER, (("ord", ord),)):
        errors.product(what, found - np.linalg.norm(a, reference), a)
    assert not errors.found


ALL = {
    **dict.fromkeys(
        ("inverse", "det", "cholesky", "eigh", "qr", "svd", "pinv", "matrix_rank"), ()
    ),
    "matrix_norm": (("ord", "nuclear"),),
}


@pytest.mark.parametrize("opcode", ALL)
def test_bad_matrices(opcode):
    """What is not finite gives what is not a number, and leaves its neighbours be."""
    good = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]], np.float32)
    batch = np.stack([good] * 11)
    for i in range(9):
        batch[i].flat[i] = (np.nan, np.inf, -np.inf)[i % 3]
    batch[9] = np.nan
    compiled = Compiled(opcode, [batch.shape], ALL[opcode])
    for found in compiled(batch):
        assert np.isnan(found[:10]).all()
        assert np.isfinite(found[10]).all()


def test_indefinite_matrices():
    batch = np.stack([np.diag(x) for x in ([1, -1], [0, 1], [-1, 1], [2, 1])])
    (found,) = Compiled("cholesky", [batch.shape])(batch.astype(np.float32))
    assert np.isnan(found[:3]).all()
    np.testing.assert_allclose(found[3], np.sqrt(batch[3]), rtol=1e-6)


# Each gives what the operand was, or one number for each of its matrices.
NETWORKS = {
    "inverse": "v0 = inverse(x)\n    v1 = matmul(v0, x)\n    v2 = matmul(x, v1)",
    "cholesky": """v0 = transpose(x, axes=(0, 1, 3, 2))
    v1 = matmul(x, v0)
    v2 = cholesky(v1)
    v3 = transpose(v2, axes=(0, 1, 3, 2))
    v4 = matmul(v2, v3)
    v5 = sub(v4, v1)
    v6 = add(x, v5)""",
    "eigh": """v0 = eigh(x)
    v1 = result(v0, index=0)
    v2 = result(v0, index=1)
    v3 = reshape(v1, shape=(3, 2, 1, 5))
    v4 = hadamard(v2, v3)
    v5 = transpose(v2, axes=(0, 1, 3, 2))
    v6 = matmul(v4, v5)
    v7 = transpose(x, axes=(0, 1, 3, 2))
    v8 = sub(x, v7)
    v9 = scalar(value=0.5)
    v10 = hadamard(v8, v9)
    v11 = add(v6, v10)""",
    "qr": """v0 = qr(x)
    v1 = result(v0, index=0)
    v2 = result(v0, index=1)
    v3 = matmul(v1, v2)""",
    "svd": """v0 = svd(x)
    v1 = result(v0, index=0)
    v2 = result(v0, index=1)
    v3 = result(v0, index=2)
    v4 = reshape(v2, shape=(3, 2, 1, 5))
    v5 = hadamard(v1, v4)
    v6 = matmul(v5, v3)""",
    "pinv": "v0 = pinv(x)\n    v1 = matmul(v0, x)\n    v2 = matmul(x, v1)",
    "det": "v0 = det(x)\n    v1 = relu(v0, slope=0.1)",
    "matrix_rank": "v0 = matrix_rank(x)",
    "norm 2": 'v0 = matrix_norm(x, ord="2")',
    "norm nuclear": 'v0 = matrix_norm(x, ord="nuclear")',
}
# Of an image: the operand lies with its channels last.
IMAGE = """\
def image(x: map[2, 3, 6, 6], w: weight[3, 3, 1, 1]) -> map[2, 3, 6, 6]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), groups=1, \
padding=(0, 0, 0, 0))
    v1 = sum(v0, axis="ci")
    v2 = svd(v1)
    v3 = result(v2, index=0)
    v4 = result(v2, index=1)
    v5 = result(v2, index=2)
    v6 = reshape(v4, shape=(2, 3, 1, 6))
    v7 = hadamard(v3, v6)
    v8 = matmul(v7, v5)
    v9 = max_pool(v8, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
    return v9
"""
OF_WEIGHTS = """\
def folded(x: map[2, 4], w: weight[4, 4]) -> map[2, 4]:
    v0 = svd(w)
    v1 = result(v0, index=2)
    v2 = result(v0, index=0)
    v3 = matmul(v2, v1)
    v4 = matmul(x, v3)
    v5 = inverse(w)
    v6 = matmul(v4, v5)
    v7 = det(w)
    v8 = div(v6, v7)
    return v8
"""


def texts() -> dict[str, str]:
    found = {"image": IMAGE, "weights": OF_WEIGHTS}
    for name, body in NETWORKS.items():
        last = body.rsplit("    ", 1)[-1].split(" ")[0]
        is_number = name in ("det", "matrix_rank") or name.startswith("norm")
        result = "map[3, 2]" if is_number else "map[3, 2, 5, 5]"
        found[name] = (
            f"def f(x: map[3, 2, 5, 5]) -> {result}:\n    {body}\n    return {last}\n"
        )
    return found


def test_of_weights_is_done_at_compile_time(operators, tmp_path):
    module = operators({"weights": OF_WEIGHTS})
    result = build(module, module.example_inputs(), get("host"), tmp_path)
    names = [kernel["function"] for kernel in result.kernels]
    assert len(names) == 2 and all(name.startswith("gos_matmul") for name in names)


def test_other_precision_is_refused():
    with pytest.raises(Unsupported, match="svd of float64 has no kernel"):
        kernel("svd", (3, 3), dtype="float64")


def wrong(names, expected, found) -> list[str]:
    bad = []
    for name, a, b in zip(names, expected, found, strict=True):
        error = (a - torch.as_tensor(b)).abs().max() / max(1.0, float(a.abs().max()))
        if not error <= 2e-5:
            bad.append(f"{name}: {error:.1e}")
    return bad


def test_in_networks(operators, make_package, tmp_path):
    module = operators(texts())
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = HostModule.from_package(package, 1)(*inputs)
    assert not wrong(texts(), expected, found)
    again = HostModule.from_package(package, 2)(*inputs)
    for one, two in zip(found, again, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(two))


@pytest.mark.qemu
def test_arm_a53(qemu, operators, make_package, tmp_path):
    module = operators(texts())
    inputs = module.example_inputs()
    package = make_package(module, inputs, "arm_a53", tmp_path)
    expected = [y.detach() for y in module(*inputs)]
    found = emulate(package, [x.numpy() for x in inputs], threads=2)
    assert not wrong(texts(), expected, found)


def test_several_threads_give_the_same(operators, make_package, tmp_path):
    """Enough matrices to be worth several threads."""
    text = """\
def f(x: map[40, 12, 9]) -> map[40, 9]:
    v0 = svd(x)
    v1 = result(v0, index=1)
    return v1
"""
    module = operators({"svd": text})
    inputs = module.example_inputs()
    package = make_package(module, inputs, "host", tmp_path)
    one, two = (HostModule.from_package(package, n)(*inputs) for n in (1, 2))
    one, two = (
        torch.as_tensor(y[0] if isinstance(y, tuple) else y) for y in (one, two)
    )
    assert torch.equal(one, two)
    torch.testing.assert_close(one, torch.linalg.svdvals(inputs[0]))
