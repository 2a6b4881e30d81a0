"""Scans before they are cut into kernels: what need not be done at every step is done
before the first one, and states that nobody reads are not written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gos_fx.instructions.recurrence import TIME, is_step
from gos_fx.ir.fusion import SCHEDULE, is_elementwise
from gos_fx.ir.graph import Graph, Input, Node
from gos_fx.ir.network import Network
from gos_fx.ir.types import Type, bundle
from gos_fx.kernels.tiles import concrete

SCAN, _SCALAR, _RESULT = "scan", "scalar", "result"
KEPT = "kept"  # attribute: indices of the states whose sequences somebody reads


def body_network(scan: Node) -> Network:
    """What a scan does at each step; outputs are the next states, in their order.

    None of them is a state as it was, so that each can be overwritten by the next.
    """
    body: Graph = scan.attr("body")
    nodes, outputs = list(body.nodes), [body.output]
    if body.result.is_bundle:
        outputs = list(body.by_name[body.output].operands)
        nodes.remove(body.by_name[body.output])
    sources = stored_as(nodes)
    for i, name in enumerate(outputs):
        if sources.get(name, name) in scan.attr("states"):
            outputs[i] = f"{name}_again_{i}"
            identity = (("scale", 1.0), ("shift", 0.0))
            nodes.append(
                Node(outputs[i], "affine", (name,), identity, body.types[name])
            )
    return Network(body.inputs, tuple(nodes), tuple(outputs))


def stored_as(nodes: Iterable[Node]) -> dict[str, str]:
    """The value that each schedule node stands on."""
    found: dict[str, str] = {}
    for node in nodes:
        if node.opcode in SCHEDULE:
            source = node.operands[0]
            found[node.name] = found.get(source, source)
    return found


def hoist(network: Network) -> Network:
    """The network with the scans' constant parts and products of sequences outside.

    A product of one step with a weight is a row of that of the whole sequence. Products
    of one value with the weights of several gates become one.
    """
    nodes: list[Node] = []
    owners = dict(network.owners)
    changed: dict[str, Node] = {}
    for node in network.nodes:
        if node.opcode == SCAN:
            hoisting = _Hoisting(node, network.types)
            kept = _read_states(network, node)
            before, changed[node.name] = hoisting.run(kept)
            owners |= {n.name: owners.get(node.name, node.name) for n in before}
            nodes += [*before, changed[node.name]]
        elif node.opcode == _RESULT and node.operands[0] in changed:
            kept = changed[node.operands[0]].attr(KEPT)
            index = kept.index(node.attr("index"))
            nodes.append(replace(node, attributes=(("index", index),)))
        else:
            nodes.append(node)
    return replace(network, nodes=tuple(nodes), owners=owners)


def _read_states(network: Network, scan: Node) -> tuple[int, ...]:
    """Indices of the states that somebody reads."""
    users = network.users[scan.name]
    if scan.name in network.outputs or any(user.opcode != _RESULT for user in users):
        return tuple(range(len(scan.type.parts)))
    return tuple(sorted({user.attr("index") for user in users}))


@dataclass
class _Hoisting:
    """One scan, and the values of its body that are there before it.

    Attributes:
        constants: what depends on no step, by its name in the body.
        rows: of what depends on one step alone: those of all steps below each other.
        nodes: that compute these.
    """

    scan: Node
    types: dict[str, Type]
    constants: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def run(self, kept: tuple[int, ...]) -> tuple[list[Node], Node]:
        """What comes before the scan, and the scan of what is left of the body."""
        body: Graph = self.scan.attr("body")
        names = (value.name for value in body.inputs)
        given = dict(zip(names, self.scan.operands, strict=True))
        for value in body.inputs:
            if value.type.role != "map":
                self.constants[value.name] = given[value.name]
            elif is_step(value, self.scan.attr("states")) and value.type.rank == 2:
                self._flatten(value, given[value.name])
        for node in body.nodes:
            if self._is_constant(node):
                self._move(node, self.constants, node.type)
        rest = [n for n in body.nodes if n.name not in self.constants]
        scalars = [n for n in body.nodes if n.opcode == _SCALAR]
        left = []
        types = dict(body.types)
        for node in self._merged(rest, types):
            if self._is_of_rows(node, types):
                shape = (self._rows(node), *node.type.shape[1:])
                self._move(node, self.rows, replace(node.type, shape=shape))
            else:
                left.append(node)
        scan = self._rest(replace(body, nodes=(*scalars, *left)), types, given, kept)
        needed = set(scan.operands)
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed |= set(node.operands)
        return [n for n in self.nodes.values() if n.name in needed], scan

    def _merged(self, nodes: list[Node], types: dict[str, Type]) -> list[Node]:
        """Products of one value with several weights as parts of one product.

        Those that a schedule node stands on stay as they are.
        """
        steered = {node.operands[0] for node in nodes if node.opcode in SCHEDULE}
        groups: dict[str, list[Node]] = {}
        for node in nodes:
            if node.opcode != "matmul" or node.name in steered:
                continue
            left, right = node.operands
            is_flat = types[left].rank == types[right].rank == 2
            if is_flat and right in self.constants:
                groups.setdefault(left, []).append(node)
        found = {node.name: [node] for node in nodes}
        for left, group in groups.items():
            if len(group) > 1:
                found |= self._together(left, group, types)
        return [node for node in nodes for node in found[node.name]]

    def _together(
        self, left: str, group: list[Node], types: dict[str, Type]
    ) -> dict[str, list[Node]]:
        """What comes in the place of each product."""
        rights = [node.operands[1] for node in group]
        sizes = [concrete(node.type)[1] for node in group]
        weights, product = f"{left}_weights", f"{left}_products"
        of = types[rights[0]]
        types[weights] = replace(of, shape=(of.shape[0], sum(sizes)))
        types[product] = replace(
            group[0].type, shape=(group[0].type.shape[0], sum(sizes))
        )
        side = Node(weights, "concat", tuple(rights), (("axis", "co"),), types[weights])
        self._move(side, self.constants, types[weights])
        whole = Node(product, "matmul", (left, weights), (), types[product])
        found: dict[str, list[Node]] = {}
        start = 0
        for node, size in zip(group, sizes, strict=True):
            part = {"axis": 1, "start": start, "size": size, "step": 1}
            cut = Node(node.name, "slice", (product,), tuple(part.items()), node.type)
            found[node.name] = [cut] if found else [whole, cut]
            start += size
        return found

    def _is_constant(self, node: Node) -> bool:
        return node.type.role != "map" and all(
            name in self.constants for name in node.operands
        )

    def _is_of_rows(self, node: Node, types: dict[str, Type]) -> bool:
        """Whether each row of the result follows from a row of sequences."""
        maps = [name for name in node.operands if types[name].role == "map"]
        others = [name for name in node.operands if name not in maps]
        known = maps and all(name in self.rows for name in maps)
        if not known or any(name not in self.constants for name in others):
            return False
        if node.opcode == "matmul":
            left, right = node.operands
            return maps == [left] and types[right].rank == 2
        shapes = {types[name].shape for name in maps}
        narrow = all(types[name].rank < 2 for name in others)
        return (
            (is_elementwise(node) or node.opcode in SCHEDULE)
            and shapes == {node.type.shape}
            and narrow
        )

    def _rows(self, node: Node) -> int:
        first = next(name for name in node.operands if name in self.rows)
        return concrete(self.nodes[self.rows[first]].type)[0]

    def _flatten(self, value: Input, source: str) -> None:
        batch, length, size = concrete(self.types[source])
        shape = (batch * length, size)
        name = self.rows[value.name] = self._name(value.name)
        of = replace(value.type, shape=shape)
        self.nodes[name] = Node(name, "reshape", (source,), (("shape", shape),), of)

    def _move(self, node: Node, to: dict[str, str], of: Type) -> None:
        places = self.constants | self.rows
        operands = tuple(places[name] for name in node.operands)
        found = [self.types.get(name) or self.nodes[name].type for name in operands]
        if any(t.role == "map" for t in found):
            of = replace(of, role="map")  # weights that another layer computes
        name = to[node.name] = self._name(node.name)
        self.nodes[name] = Node(name, node.opcode, operands, node.attributes, of)

    def _rest(
        self,
        body: Graph,
        types: dict[str, Type],
        given: dict[str, str],
        kept: tuple[int, ...],
    ) -> Node:
        """The scan with what was moved among its operands."""
        read = {name for node in body.nodes for name in node.operands} | {body.output}
        here = {node.name for node in body.nodes}
        operands = {name: given[name] for name in given if name in read}
        for name in types:
            if name in read and name not in here | set(given):
                known = self.constants.get(name)
                operands[name] = known or self._sequence(name, types[name])
        inputs = tuple(Input(name, types[name]) for name in operands)
        body = replace(body, inputs=inputs)
        attributes = {**self.scan.attrs, "body": body, KEPT: kept}
        parts = [self.scan.type.parts[index] for index in kept]
        return replace(
            self.scan,
            operands=tuple(operands.values()),
            attributes=tuple(attributes.items()),
            type=bundle(parts),
        )

    def _sequence(self, name: str, step: Type) -> str:
        """Rows as a sequence again."""
        length = concrete(self.scan.type.parts[0])[TIME]
        shape = (*step.shape[:TIME], length, *step.shape[TIME:])
        made = self._name(f"{name}_steps")
        of = replace(step, shape=shape)
        attributes = (("shape", concrete(of)),)
        self.nodes[made] = Node(made, "reshape", (self.rows[name],), attributes, of)
        return made

    def _name(self, name: str) -> str:
        return f"{self.scan.name}_{name}"
