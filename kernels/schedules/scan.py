"""Scan: a loop over time around the kernels of the body.

Those are scheduled as any others; the steps of sequences, the states and what the
kernels hand on to each other have memory of their own, and weights are packed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from tvm import tirx
from tvm.ir import Var
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, PrimFunc
from tvm_ffi import structural_map

from gos_fx.instructions.recurrence import TIME, is_step
from gos_fx.ir.decompose import decompose
from gos_fx.ir.fusion import ALIAS, Kernel, partition
from gos_fx.ir.graph import Input
from gos_fx.ir.types import Type
from gos_fx.kernels.layout import Layout, inside, results
from gos_fx.kernels.movement import settle
from gos_fx.kernels.prim_func import build_kernel
from gos_fx.kernels.scan import KEPT, body_network, stored_as
from gos_fx.kernels.schedule_rule import Job, Packing, Scheduled, schedule_rule
from gos_fx.kernels.schedules.loops import const, loop, sequence
from gos_fx.kernels.schedules.pointwise import unraveled
from gos_fx.kernels.tiles import concrete


@schedule_rule(lambda kernel, types: kernel.anchor.opcode == "scan")
def repeated(job: Job) -> Scheduled:
    """One function: the loop over time is serial, those inside are the kernels'."""
    scan = job.kernel.anchor
    states, parts = scan.attr("states"), scan.type.parts
    network, layouts = settle(decompose(body_network(scan)), border=False)
    names = [value.name for value in scan.attr("body").inputs]
    given = dict(zip(names, scan.operands, strict=True))
    sources = stored_as(network.nodes)
    memory = _Memory(job, network.types, layouts, given, sources)
    begin = [memory.first(v) for v in network.inputs if v.name in states]
    steps = [v for v in network.inputs if is_step(v, states)]
    for value in steps:
        memory.lasting(value.name, value.type)
    results = [
        tirx.decl_buffer(concrete(of), of.dtype, f"out_{i}")
        for i, of in enumerate(parts)
    ]
    kept = scan.attrs.get(KEPT, range(len(parts)))
    written = [(network.outputs[index], out) for index, out in zip(kept, results)]
    length = concrete(parts[0])[TIME]

    def step(i: Any) -> list[Any]:
        t = const(length - 1) - i if scan.attrs.get("reverse") else i
        found = [memory.step(value, t) for value in steps]
        for kernel in partition(network):
            found += memory.kernel(kernel)
        found += [memory.kept(name, out, t) for name, out in written]
        return found + memory.behind(dict(zip(states, network.outputs, strict=True)))

    time = loop("t", 0, length, step)
    # A kernel may write a value under another shape, which TVM does not count when it
    # cuts memory down to what is read: naming all of it keeps all of it.
    whole = [tirx.Evaluate(tirx.buffer_data(own)) for own in memory.own]
    body = sequence([*map(AllocBuffer, memory.own), *whole, *begin, time])
    root = SBlock([], [], [], "root", body, alloc_buffers=memory.inner)
    parameters = [*memory.arguments.values(), *results]
    function = PrimFunc(parameters, SBlockRealize([], True, root))
    attributes = {"global_symbol": "main", "s_tir": True, "tirx.noalias": True}
    return Scheduled(function.with_attrs(attributes), tuple(memory.arguments))


@dataclass
class _Memory:
    """Where the values of a body are.

    Attributes:
        given: the scan's operand for each input of the body.
        sources: the value that each schedule node stands on.
        values: memory of values by name, of all parts where there are several.
        arguments: of the function, in order.
        own: memory that the loop over time finds as it left it.
        inner: memory inside the kernels.
    """

    job: Job
    types: dict[str, Type]
    layouts: dict[str, Layout]
    given: dict[str, str]
    sources: dict[str, str]
    values: dict[str, list[Any]] = field(default_factory=dict)
    arguments: dict[str | Packing, Any] = field(default_factory=dict)
    own: list[Any] = field(default_factory=list)
    inner: list[Any] = field(default_factory=list)

    def lasting(self, name: str, of: Type) -> list[Any]:
        """Memory of its own for a value of the body."""
        made = [
            tirx.decl_buffer(layout.stored(concrete(part)), part.dtype, name)
            for part, layout in results(of, self.layouts.get(name))
        ]
        self.own += made
        self.values[self.sources.get(name, name)] = made
        return made

    def first(self, value: Input) -> Any:
        """A state before the first step."""
        self.lasting(value.name, value.type)
        return self._copied(value, lambda index: index)

    def step(self, value: Input, t: Any) -> Any:
        """One step of a sequence."""
        return self._copied(value, lambda index: (*index[:TIME], t, *index[TIME:]))

    def kernel(self, kernel: Kernel) -> list[Any]:
        """The statements of a kernel of the body."""
        anchor, of = kernel.anchor, kernel.nodes[-1].type
        if anchor.opcode == "result":
            part = self._of(anchor.operands[0])[anchor.attr("index")]
            self.values[self.sources.get(kernel.output, kernel.output)] = [part]
            return []
        if anchor.opcode == ALIAS:
            (source,) = self._of(anchor.operands[0])
            return [_moved(source, *self.lasting(kernel.output, of))]
        scheduled = build_kernel(kernel, self.types, self.job.machine, self.layouts)
        buffers = [self._argument(argument) for argument in scheduled.arguments]
        buffers += self.lasting(kernel.output, of)
        root = _with_buffers(scheduled.function, buffers)
        self.inner += root.alloc_buffers
        return [root.body]

    def kept(self, name: str, sequence: Any, t: Any) -> Any:
        """A next state as the step ``t`` of the sequence of all."""
        (value,), layout = self._of(name), self._layout(name, self.types[name])

        def element(*stored: Any) -> Any:
            index = layout.logical(stored)
            index = (*index[:TIME], t, *index[TIME:])
            return BufferStore(sequence, BufferLoad(value, list(stored)), list(index))

        return _cells(value, element)

    def behind(self, outputs: dict[str, str]) -> list[Any]:
        """The next states as those of the next step."""
        return [
            _moved(*self._of(name), *self.values[state])
            for state, name in outputs.items()
            if state in self.values
        ]

    def _layout(self, name: str, of: Type) -> Layout:
        return self.layouts.get(name) or inside(of)

    def _of(self, name: str) -> list[Any]:
        """The memory of a value of the body."""
        name = self.sources.get(name, name)
        return self.values.get(name) or [self._parameter(self.given[name])]

    def _parameter(self, name: str) -> Any:
        """The memory of an operand of the scan."""
        if name not in self.arguments:
            of = self.job.types[name]
            shape = self.job.layout(name).stored(concrete(of))
            self.arguments[name] = tirx.decl_buffer(shape, of.dtype, f"given_{name}")
        return self.arguments[name]

    def _argument(self, argument: str | Packing) -> Any:
        """The memory of what a kernel of the body takes."""
        if isinstance(argument, str):
            (found,) = self._of(argument)
            return found
        sources = (self.sources.get(name, name) for name in argument.inputs)
        inputs = tuple(self.given[name] for name in sources)
        packing = replace(argument, inputs=inputs)
        packed = tirx.decl_buffer(packing.shape, packing.dtype, "packed")
        self.arguments[packing] = packed
        return packed

    def _copied(self, value: Input, place: Callable[[Any], Any]) -> Any:
        """What is given for an input of the body, from where ``place`` says."""
        source = self.given[value.name]
        given, (to,) = self._parameter(source), self.values[value.name]
        layout, of = self._layout(value.name, value.type), self.job.layout(source)

        def element(*stored: Any) -> Any:
            index = of.stored(place(layout.logical(stored)))
            return BufferStore(to, BufferLoad(given, list(index)), list(stored))

        return _cells(to, element)


def _cells(buffer: Any, element: Callable[..., Any]) -> Any:
    """A statement for each place of a buffer, rows of the last axis inside."""
    *outer, last = (int(extent) for extent in buffer.shape)

    def row(p: Any) -> list[Any]:
        index = unraveled(p, outer)
        return [loop("i", 0, last, lambda i: [element(*index, i)])]

    return loop("p", 0, prod(outer), row)


def _moved(source: Any, to: Any) -> Any:
    """The same numbers, in the order in which they lie in memory."""
    have, want = ([int(n) for n in buffer.shape] for buffer in (source, to))

    def element(p: Any) -> list[Any]:
        load = BufferLoad(source, list(unraveled(p, have)))
        return [BufferStore(to, load, list(unraveled(p, want)))]

    return loop("p", 0, prod(want), element)


def _with_buffers(function: PrimFunc, buffers: Sequence[Any]) -> Any:
    """The block of a function with other memory in the place of its parameters."""
    given = list(zip(function.params, buffers, strict=True))

    def changed(variable: Any) -> Any:
        found = (new for old, new in given if variable.same_as(old))
        return next(found, variable)

    return structural_map(function.body.block, [(Var, changed)])
