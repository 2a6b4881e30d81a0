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
    calls = _calls_on_constants(module["main"].body)
    if not calls:
        return module
    names = {call.args[0].name_hint for call in calls.values()}
    code = {name: module[name].with_attr("global_symbol", name) for name in names}
    functions = tvm.compile(
        tvm.IRModule(code), target=tvm.target.Target(dict(_FOR_ONCE))
    )
    results: dict[Any, Any] = {}
    constants: dict[Any, Any] = {}
    for variable, call in calls.items():
        arguments = [_known(x, results) for x in call.args[1]]
        shape = [int(size) for size in call.ty.shape.values]
        result = tvm.runtime.empty(shape, str(call.ty.dtype))
        functions[call.args[0].name_hint](*arguments, result)
        results[variable] = result
        constants[call] = relax.const(result)
    folder = _Folder(module, constants)
    main = module.get_global_var("main")
    module[main] = folder.visit_expr(module[main])
    return module


def _known(argument: Any, results: dict[Any, Any]) -> Any:
    found = results.get(argument)
    return argument.value if found is None else found


def _calls_on_constants(body: Any) -> dict[Any, Any]:
    """Calls by the variable that they are bound to, in order of execution."""
    found: dict[Any, Any] = {}
    for block in body.blocks:
        for binding in block.bindings:
            call = binding.value
            if getattr(getattr(call, "op", None), "name", "") != _CALL:
                continue
            if all(isinstance(x, GenericConst) or x in found for x in call.args[1]):
                found[binding.var] = call
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
