"""A kernel as a graph of its own: what it is tuned as, and what it is known by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gos_fx.instructions.schedule import LOOPS
from gos_fx.ir.fusion import SCHEDULE, Kernel, aggregates_channels
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import POOLS
from gos_fx.kernels.tuning.sizes import Sizes


def is_tiled(kernel: Kernel) -> bool:
    """Whether the code of a kernel has an inner tile that is worth tuning.

    What streams or moves data has none, nor what is run at compile time.
    """
    if kernel.nodes[-1].type.role != "map":
        return False
    opcode = kernel.anchor.opcode
    return kernel.is_summed or opcode == "matmul" or opcode in POOLS


def kernel_graph(kernel: Kernel, types: Mapping[str, Type]) -> Graph:
    """The kernel alone, its own tile and unroll sizes as nodes behind the last one.

    Two kernels that compute the same have the same text, whatever their values are
    called: the names count through in the order in which they are read.

    Args:
        types: of the kernel's inputs, all sizes known.
    """
    named: dict[str, str] = {}
    inputs: list[Input] = []
    for name in kernel.inputs:
        short = "x" if types[name].role == "map" else "w"
        named[name] = f"{short}{len(inputs)}"
        inputs.append(Input(named[name], types[name]))
    nodes: list[Node] = []
    for node in kernel.nodes:
        operands = tuple(named[name] for name in node.operands)
        named[node.name] = f"v{len(nodes)}"
        nodes.append(replace(node, name=named[node.name], operands=operands))
    graph = Graph("kernel", tuple(inputs), tuple(nodes), nodes[-1].name)
    return _scheduled(graph, Sizes(kernel.tile, kernel.unroll))


def with_sizes(graph: Graph, sizes: Sizes) -> Graph:
    """A kernel's graph, compiled with these sizes and no others."""
    nodes = tuple(node for node in graph.nodes if node.opcode not in SCHEDULE)
    return _scheduled(replace(graph, nodes=nodes, output=nodes[-1].name), sizes)


def for_model(graph: Graph) -> Graph:
    """The part of a kernel's graph that the latency model can read.

    All of it, or, where instructions stand behind the aggregation that only the code
    generator knows, what comes before them. Schedule nodes stay.
    """
    if all(node.opcode in OPCODES for node in graph.nodes):
        return graph
    nodes = [graph.nodes[0]]
    if len(graph.nodes) > 1 and aggregates_channels(graph.nodes[1], nodes[0]):
        nodes.append(graph.nodes[1])
    read = {name for node in nodes for name in node.operands}
    inputs = tuple(value for value in graph.inputs if value.name in read)
    sizes = {n.opcode: n.attributes for n in graph.nodes if n.opcode in SCHEDULE}
    bare = Graph(graph.name, inputs, tuple(nodes), nodes[-1].name)
    return _scheduled(bare, Sizes(sizes.get("tile", ()), sizes.get("unroll", ())))


def kernel_key(kernel: Kernel, types: Mapping[str, Type]) -> str:
    """What a kernel is known by: SHA-256 of its graph's text.

    Instructions, attributes, the shapes and types of what it reads, and the sizes that
    its own schedule nodes ask for all count; names do not.
    """
    return kernel_graph(kernel, types).digest


def _scheduled(graph: Graph, sizes: Sizes) -> Graph:
    nodes, output = list(graph.nodes), graph.output
    for opcode, pairs in (("tile", sizes.tile), ("unroll", sizes.unroll)):
        attributes = tuple(pair for pair in pairs if pair[0] in LOOPS)
        if attributes:
            name = f"v{len(nodes)}"
            nodes.append(Node(name, opcode, (output,), attributes, graph.result))
            output = name
    return Graph(graph.name, graph.inputs, tuple(nodes), output)
