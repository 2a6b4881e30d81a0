"""Nodes and constants of one ONNX graph, under names that are unique in the model.

This is the ``b`` that the ONNX forms of the instructions' declarations are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from gos_fx.ir.types import FLOATS, Type, channel_axis

# The oldest version in which all forms can be written: reductions take their axes as an
# input since 18, and Gelu is there since 20. Older versions are read by more runtimes.
OPSET = 20


class OnnxBuilder:
    """Appends nodes; what is known is an initializer, and equal ones are one.

    Attributes:
        scope: in front of the names of what is appended.
        dtype: what Python's floats become.
        like: a value whose first size is that of shapes that leave theirs open.
    """

    def __init__(self, outer: OnnxBuilder | None = None) -> None:
        self.nodes: list[NodeProto] = []
        self.scope: str = "" if outer is None else outer.scope
        self.dtype: str = "float32" if outer is None else outer.dtype
        self.like = ""
        # A nested graph sees the names and constants of the one around it.
        self.initializers: dict[str, TensorProto] = outer.initializers if outer else {}
        self._constants: dict[Any, str] = outer._constants if outer else {}
        self._names: set[str] = outer._names if outer else {""}

    def op(
        self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Append a standard operator; its result's name, or those of several.

        An input named ``""`` is an optional one that is left out.
        """
        names = [self.fresh(self.scope + operator) for _ in range(outputs)]
        self.nodes.append(
            helper.make_node(operator, inputs, names, name=names[0], **attributes)
        )
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, value: Any) -> str:
        """An initializer: numpy arrays as they are, Python's integers as int64, its
        floats in the dtype of the result at hand."""
        array = value if isinstance(value, np.ndarray | np.generic) else self._of(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh("constant")
            self._constants[key] = self._initialize(name, np.asarray(array))
        return self._constants[key]

    def shape(self, dims: Sequence[int]) -> str:
        """A shape as a value; -1 in front is the first size of ``like``."""
        if not dims or dims[0] != -1:
            return self.constant(list(dims))
        first: str = self.op("Shape", self.like, start=0, end=1)
        joined: str = self.op("Concat", first, self.constant(list(dims[1:])), axis=0)
        return joined

    def weight(self, name: str, value: Tensor) -> str:
        """An initializer of this name; what shares memory is one."""
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if key not in self._constants:
            array = value.detach().cpu().numpy()
            self._constants[key] = self._initialize(self.fresh(name), array)
        return self._constants[key]

    def aligned(self, operands: Sequence[str], types: Sequence[Type]) -> list[str]:
        """The operands, rank-1 ones viewed along the channels of the largest."""
        rank = max(t.rank for t in types)
        if rank == 1 or all(t.rank != 1 for t in types):
            return list(operands)
        behind = rank - 1 - channel_axis(rank)
        if not behind:  # ONNX too aligns what is last
            return list(operands)
        view = self.constant([-1] + [1] * behind)
        return [
            self.op("Reshape", name, view) if found.rank == 1 else name
            for name, found in zip(operands, types, strict=True)
        ]

    def type(self, dtype: str) -> int:
        """ONNX's number of a dtype, as ``Cast`` takes it."""
        number: int = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return number

    def at(self, scope: str, result: Type) -> None:
        """What follows computes a value of this type."""
        self.scope = f"{scope}/"
        dtypes = [part.dtype for part in result.values if part.dtype in FLOATS]
        self.dtype = dtypes[0] if dtypes else "float32"

    def declared(
        self, name: str, found: Type, dims: Sequence[int | str | None] | None = None
    ) -> ValueInfoProto:
        """An input or output of a graph; ``dims`` are its sizes where some are open, by
        a name or by None."""
        shape = list(found.shape if dims is None else dims)
        return helper.make_tensor_value_info(name, self.type(found.dtype), shape)

    def fresh(self, name: str) -> str:
        """``name``, with a number behind it if something is called that already."""
        candidate, index = name, 0
        while candidate in self._names:
            index += 1
            candidate = f"{name}_{index}"
        self._names.add(candidate)
        return candidate

    def _of(self, value: Any) -> np.ndarray[Any, Any]:
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.size:
            return array.astype(self.dtype)
        return array if array.dtype.kind == "b" else array.astype(np.int64)

    def _initialize(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name


Values = Mapping[str, Any]  # of an instruction graph: ONNX names, tuples for bundles
