"""What depends on constants alone is computed at compile time, by one compiler."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax, te

from gos_fx.kernels import fold


def scaled(name: str, factor: float) -> tvm.tirx.PrimFunc:
    x = te.placeholder((2, 3), "float32", "x")
    y = te.compute((3, 2), lambda i, j: x[j, i] * factor, name=name)
    return te.create_prim_func([x, y])


def test_chains_of_calls_on_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    compile_ = tvm.compile
    monkeypatch.setattr(
        fold.tvm, "compile", lambda *a, **k: compiled.append(a) or compile_(*a, **k)
    )
    weight = np.arange(6, dtype="float32").reshape(2, 3)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))

    def call(function: tvm.ir.GlobalVar, argument: object, shape: tuple) -> relax.Var:
        of = relax.TensorType(shape, "float32")
        return builder.emit(relax.call_tir(function, [argument], of))

    with builder.function("main", [x]):
        with builder.dataflow():
            first = builder.add_func(scaled("a", 2.0), "first")
            turned = call(first, relax.const(weight), (3, 2))
            back = builder.emit(relax.op.reshape(turned, (2, 3)))  # not ours to fold
            call(first, back, (3, 2))
            again = builder.emit(relax.op.add(call(first, x, (3, 2)), turned))
            output = builder.emit_output(again)
        builder.emit_func_output(output)
    module = fold.fold_calls(builder.get())
    assert len(compiled) == 1
    module = relax.transform.DeadCodeElimination()(
        relax.transform.FoldConstant()(module)
    )
    bindings = module["main"].body.blocks[0].bindings
    assert len(bindings) == 3  # the call on x, the sum, the output
    (constant,) = (
        a
        for b in bindings
        if hasattr(b.value, "args")
        for a in b.value.args
        if isinstance(a, fold.GenericConst)
    )
    np.testing.assert_array_equal(constant.value.numpy(), 2 * weight.T)
