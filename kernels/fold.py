"""What kernels compute from constants alone, evaluated when the network is compiled.

TVM's ``FoldConstant`` does the same with a compiler for each function; here one makes
the code of all, for this machine, and spends little on what runs once.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.ir.expr import GenericConst

_FOR_ONCE = {"kind": "llvm", "opt-level": 1}
_CALL = "relax.call_tir"


def fold_calls(module: Any) -> Any:
    """The module with calls of kernels on constants in ``main`` evaluated.

    Their results are bound to the variables of the calls; ``FoldConstant`` puts them
    in the place of those.
    """
    found = _on_constants(module["main"].body)
    calls = [value for value in found.values() if isinstance(value, relax.Call)]
    if not calls:
        return module
    names = {call.args[0].name_hint for call in calls}
    code = {name: module[name].with_attr("global_symbol", name) for name in names}
    functions = tvm.compile(
        tvm.IRModule(code), target=tvm.target.Target(dict(_FOR_ONCE))
    )
    results: dict[Any, Any] = {}
    constants: dict[Any, Any] = {}
    for variable, value in found.items():
        if isinstance(value, relax.TupleGetItem):
            results[variable] = results[value.tuple_value][value.index]
            constants[value] = relax.const(results[variable])
            continue
        arguments = [_known(x, results) for x in value.args[1]]
        together = isinstance(value.ty, relax.TupleType)
        outputs = [_empty(of) for of in (value.ty.fields if together else [value.ty])]
        functions[value.args[0].name_hint](*arguments, *outputs)
        results[variable] = outputs if together else outputs[0]
        made = [relax.const(output) for output in outputs]
        constants[value] = relax.Tuple(made) if together else made[0]
    folder = _Folder(module, constants)
    main = module.get_global_var("main")
    module[main] = folder.visit_expr(module[main])
    return module


def _empty(of: Any) -> Any:
    shape = [int(size) for size in of.shape.values]
    return tvm.runtime.empty(shape, str(of.dtype))


def _known(argument: Any, results: dict[Any, Any]) -> Any:
    found = results.get(argument)
    return argument.value if found is None else found


def _on_constants(body: Any) -> dict[Any, Any]:
    """Calls, and parts of their results, by the variable that they are bound to, in
    order of execution."""
    found: dict[Any, Any] = {}
    for block in body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.TupleGetItem) and value.tuple_value in found:
                found[binding.var] = value
            if getattr(getattr(value, "op", None), "name", "") != _CALL:
                continue
            if all(isinstance(x, GenericConst) or x in found for x in value.args[1]):
                found[binding.var] = value
    return found


@relax.expr_functor.mutator
class _Folder(relax.PyExprMutator):  # type: ignore[misc]
    """Constants in the place of calls."""

    def __init__(self, module: Any, constants: dict[Any, Any]) -> None:
        super().__init__(module)
        self._constants = constants

    def visit_call_(self, call: Any) -> Any:
        found = self._constants.get(call)
        return super().visit_call_(call) if found is None else found

    def visit_tuple_getitem_(self, part: Any) -> Any:
        found = self._constants.get(part)
        return super().visit_tuple_getitem_(part) if found is None else found
