"""Exact rewrites of a network before it is cut into kernels.

Movements that move nothing become reshapes, reshapes of reshapes one, and reshapes sink
below element-wise instructions, so that a product and the sum behind it meet.
"""

from __future__ import annotations

from dataclasses import replace

from gos_fx.ir.fusion import is_elementwise
from gos_fx.ir.graph import Node
from gos_fx.ir.network import Network
from gos_fx.ir.types import Type
from gos_fx.kernels.tiles import concrete

# Ranks whose channels are the last axis: there a reshape keeps what a vector goes with.
_ROWS = (2, 3)


def simplify(network: Network) -> Network:
    """The same values with fewer movements; names of outputs are kept."""
    rewriting = _Rewriting(network)
    for node in network.nodes:
        rewriting.add(node)
    return rewriting.result()


class _Rewriting:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._types = {v.name: v.type for v in network.inputs}
        self._nodes: dict[str, Node] = {}
        self._renamed: dict[str, str] = {}
        self._owners = dict(network.owners)

    def add(self, node: Node) -> None:
        """The node, or what is simpler, behind those so far."""
        operands = tuple(self._renamed.get(name, name) for name in node.operands)
        node = replace(node, operands=operands)
        if node.type.role == "map":
            node = self._sunk(self._merged(_plain(node, self._types)))
        source = node.operands[0] if node.operands else ""
        is_reshape = node.opcode == "reshape" and node.type.role == "map"
        is_same = is_reshape and self._types[source].shape == node.type.shape
        if is_same and node.name not in self._network.outputs:
            self._renamed[node.name] = source
        else:
            self._append(node)

    def result(self) -> Network:
        """What the outputs need."""
        needed = set(self._network.outputs)
        nodes = []
        for node in reversed(self._nodes.values()):
            if node.name in needed:
                needed |= set(node.operands)
                nodes.append(node)
        inputs = tuple(v for v in self._network.inputs if v.name in needed)
        return replace(
            self._network,
            inputs=inputs,
            nodes=tuple(reversed(nodes)),
            owners=self._owners,
        )

    def _append(self, node: Node) -> None:
        self._nodes[node.name] = node
        self._types[node.name] = node.type

    def _merged(self, node: Node) -> Node:
        """A reshape of a reshape is one of its source."""
        before = self._nodes.get(node.operands[0]) if node.operands else None
        if node.opcode == "reshape" and before and before.opcode == "reshape":
            return replace(node, operands=before.operands)
        return node

    def _sunk(self, node: Node) -> Node:
        """An element-wise node of a reshape as a reshape of an element-wise node.

        The first operand that nothing else reads decides the shape.
        """
        if not is_elementwise(node) or node.type.rank not in _ROWS:
            return node
        for name in node.operands:
            before = self._nodes.get(name)
            if before is None or before.opcode != "reshape":
                continue
            source = before.operands[0]
            of = self._types[source]
            alone = len(self._readers(name)) == 1 and name not in self._network.outputs
            # What reads nothing else has no vector that must go with the channels.
            ranks = _ROWS if len(node.operands) > 1 else (*_ROWS, 4)
            if not alone or of.rank not in ranks or of.role != "map":
                continue
            home = self._nodes.get(source)
            if home is None or not _takes_more(home):
                continue
            operands = [self._like(other, node, of) for other in node.operands]
            if all(operand is not None for operand in operands):
                inner = f"{node.name}_inside"
                self._owners[inner] = self._owners.get(node.name, node.name)
                found = tuple(str(operand) for operand in operands)
                sunk = replace(node, name=inner, operands=found, type=of)
                self._append(sunk)
                shape = (("shape", concrete(node.type)),)
                return replace(
                    node, opcode="reshape", operands=(inner,), attributes=shape
                )
        return node

    def _readers(self, name: str) -> tuple[Node, ...]:
        return self._network.users[name]

    def _like(self, name: str, node: Node, of: Type) -> str | None:
        """An operand under the shape ``of``; None where that is none of its own."""
        found = self._types[name]
        if found.rank == 1 and found.shape[0] == of.shape[-1] == node.type.shape[-1]:
            return name
        if found.shape != node.type.shape:
            return None
        before = self._nodes.get(name)
        source = before.operands[0] if before and before.opcode == "reshape" else ""
        if source and self._types[source].shape == of.shape:
            return source
        if found.shape == of.shape:
            return name
        shaped = f"{node.name}_{name}_shaped"
        attributes = (("shape", concrete(of)),)
        role = replace(of, role=found.role if found.role == "map" else "weight")
        self._append(Node(shaped, "reshape", (name,), attributes, role))
        self._owners[shaped] = self._owners.get(node.name, node.name)
        return shaped


def _takes_more(node: Node) -> bool:
    """Whether element-wise instructions behind a node become part of its kernel."""
    return node.opcode in ("matmul", "sum") or is_elementwise(node)


def _plain(node: Node, types: dict[str, Type]) -> Node:
    """A transpose that leaves the axes longer than one in order is a reshape."""
    if node.opcode != "transpose":
        return node
    sizes = concrete(types[node.operands[0]])
    axes = [axis for axis in node.attr("axes") if sizes[axis] > 1]
    if axes != sorted(axes):
        return node
    shape = (("shape", concrete(node.type)),)
    return replace(node, opcode="reshape", attributes=shape)
