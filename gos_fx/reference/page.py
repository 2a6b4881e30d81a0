"""The page of the instruction set as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gos_fx.errors import Unsupported
from gos_fx.ir.attribute import Attribute
from gos_fx.ir.graph import Graph
from gos_fx.ir.opcode import OPCODES, Opcode, operand_bytes
from gos_fx.ir.printer import literal
from gos_fx.ir.types import AXES, DTYPES, FLOATS, ROLES
from gos_fx.passes.onnx.builder import OPSET
from gos_fx.passes.onnx.graph import GraphBuilder, append
from gos_fx.reference.examples import SIZES, example, takes_one
from gos_fx.reference.introduction import INTRODUCTION

# In the order of the paper's Table 1; what it needs besides comes last.
CATEGORIES = (
    "linear algebra",
    "calculus",
    "activation",
    "convolution",
    "pooling",
    "probability",
    "aggregation",
    "schedule",
    "structure",
)

TITLES = {"schedule": "Code optimisation"}


def page() -> str:
    """The whole page as Markdown."""
    axes = "; ".join(
        f"{rank}: {', '.join(f'`{name}`' for name in names)}"
        for rank, names in AXES.items()
        if names
    )
    parts = [
        INTRODUCTION.format(opset=OPSET, axes=axes),
        "## All instructions",
        _overview(),
    ]
    for category in CATEGORIES:
        parts.append(f"## {TITLES.get(category, category.capitalize())}")
        parts += [_section(opcode) for opcode in _of(category)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _of(category: str) -> list[Opcode]:
    return sorted(
        (OPCODES[name] for name in OPCODES if OPCODES[name].category == category),
        key=lambda opcode: opcode.name,
    )


def _overview() -> str:
    rows = [
        (
            f"[`{opcode.name}`](#{opcode.name})",
            _cell(f"`{_equation(opcode)[0]}`"),
            _yes(opcode.table1),
            _yes(opcode.differentiable),
            "exact" if opcode.exact else "approximate",
            _onnx(opcode),
        )
        for category in CATEGORIES
        for opcode in _of(category)
    ]
    names = ("instruction", "computes", "Table 1", "gradient", "TVM", "ONNX")
    return _table(names, rows)


def _section(opcode: Opcode) -> str:
    equation, text = _equation(opcode)
    kind = "exact" if opcode.exact else "approximate"
    rows = [
        ("takes", _operands(opcode)),
        *((f"`{k}=`", _attribute(a)) for k, a in opcode.attributes.items()),
        *_loops(opcode),
        *_results(opcode),
        *_example(opcode),
        ("gradient", _yes(opcode.differentiable)),
        ("TVM", f"yes, {kind}, tolerance {opcode.rtol:g}"),
        ("ONNX", _onnx(opcode)),
        ("Table 1", "yes" if opcode.table1 else "no, structure"),
    ]
    parts = [f"### {opcode.name}", f"```text\n{equation}\n```", text]
    return "\n\n".join([*filter(None, parts), _table(("", ""), rows)])


def _equation(opcode: Opcode) -> tuple[str, str]:
    """The first paragraph of the docstring, and what follows it."""
    first, _, rest = opcode.equation.partition("\n\n")
    return first.replace("``", ""), rest.replace("``", "`")


def _operands(opcode: Opcode) -> str:
    found = []
    for index, name in enumerate(opcode.operands):
        _, operand = opcode.operand(index)
        ranks = _or([str(rank) for rank in operand.ranks])
        axes = f" with {ranks} {'axis' if ranks == '1' else 'axes'}" if ranks else ""
        value = f"{_roles(operand.roles)}{axes}{_dtypes(operand.dtypes)}"
        if opcode.takes_bundles:
            value = "values" if opcode.variadic else "a bundle"
        if opcode.variadic:
            one = "one with an axis, or " if takes_one(opcode) else ""
            value = f"{one}two or more, each {value}"
        found.append(f"`{name}`: {value}")
    return "; ".join(found) or "nothing"


def _roles(roles: Sequence[str]) -> str:
    return "any value" if set(roles) == set(ROLES) else f"a {_or(roles)}"


def _dtypes(dtypes: Sequence[str]) -> str:
    if dtypes == FLOATS:
        return ""
    return " of any kind of numbers" if dtypes == DTYPES else f" of {_or(dtypes)}"


_KINDS = {
    "dim": "a size",
    "dims": "sizes",
    "real": "a real number",
    "flag": "True or False",
    "axis": "the name of an axis",
    "axes": "numbers of axes",
    "name": "a name",
    "names": "names",
    "dilation": "for each axis of the filter a distance between neighbouring taps, or "
    "the tuple of its gaps",
    "dilations": "such a dilation for each run of groups",
    "graph": "a graph of instructions",
}


def _attribute(attribute: Attribute) -> str:
    parts = [_KINDS[attribute.kind]]
    if attribute.kind == "name" and attribute.choices:
        parts = [_or([f"`{literal(choice)}`" for choice in attribute.choices])]
    if attribute.low is not None:
        above = f"from {attribute.low:g}"
        parts.append(f"{above} to {attribute.high:g}" if attribute.high else above)
    if attribute.solved:
        parts.append("found at each place from the size of the result")
    elif attribute.optional:
        parts.append("may be left out")
    elif attribute.default == "":
        parts.append("none unless it is given")
    elif attribute.default is not None:
        parts.append(f"`{literal(attribute.default)}` unless it is given")
    if attribute.choices and attribute.kind != "name":
        listed = ", ".join(f"`{literal(choice)}`" for choice in attribute.choices)
        parts.append(f"the search tries {listed}")
    return ", ".join(parts)


def _loops(opcode: Opcode) -> list[tuple[str, str]]:
    if not opcode.schedule:
        return []
    return [("`loop=`", "a size from 1, for one loop or several of the instruction")]


def _results(opcode: Opcode) -> list[tuple[str, str]]:
    names = opcode.results
    if not names or callable(names):
        return []
    return [("gives", "a bundle of " + ", ".join(f"`{name}`" for name in names))]


def _example(opcode: Opcode) -> list[tuple[str, str]]:
    graph = example(opcode)
    (node,) = graph.nodes
    types = [graph.types[name] for name in node.operands]
    given = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
    written = graph.text.splitlines()[-2].strip().removeprefix("v0 = ")
    flops = opcode.flops(node.type, *types, **node.attrs)
    rows = [
        ("example", f"`{written}`" + (f" of `{given}`" if given else "")),
        ("its result", f"`{node.type}`"),
        ("its FLOPs", f"`{flops}`" if flops != 0 else "none"),
    ]
    if opcode.moved is not operand_bytes:
        moved = opcode.moved(node.type, *types, **node.attrs)
        rows.append(("its bytes", f"`{moved}`" if moved != 0 else "none"))
    for body in graph.bodies:
        lines = [line.strip() for line in body.text.splitlines()[1:]]
        rows.append((f"its `{body.name}`", f"`{'; '.join(lines)}`"))
    return rows


def _onnx(opcode: Opcode) -> str:
    """The operators of the example's export."""
    if opcode.name == "cross_correlation":
        return "`Conv`, one for the maps and their sum"
    graph = example(opcode)
    if (names := _exported(graph)) is not None:
        return ", ".join(f"`{name}`" for name in names) or "needs none"
    return "; ".join(_exported_choices(opcode, graph)) or "none"


def _exported_choices(opcode: Opcode, graph: Graph) -> Iterator[str]:
    """What there is an export of, where there is none of the defaults."""
    (node,) = graph.nodes
    for key, attribute in opcode.attributes.items():
        for choice in attribute.choices:
            changed = tuple((node.attrs | {key: choice}).items())
            other = replace(graph, nodes=(replace(node, attributes=changed),))
            if names := _exported(other):
                listed = ", ".join(f"`{name}`" for name in names)
                yield f"with `{key}={literal(choice)}` {listed}"


def _exported(graph: Graph) -> list[str] | None:
    """ONNX operators of a graph, each once; None where it has no export."""
    concrete = graph.instantiate(SIZES)
    b = GraphBuilder()
    values: dict[str, Any] = {
        v.name: tuple(f"{v.name}_{i}" for i in range(len(v.type.parts))) or v.name
        for v in concrete.inputs
    }
    try:
        append(b, concrete, values)
    except Unsupported:
        return None
    return list(dict.fromkeys(node.op_type for node in b.nodes))


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
