"""Counts, what was left out and what failed, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.random_graphs.checks import Finding
from gos_fx.ir.graph import Graph


@dataclass
class Report:
    """What a run found.

    Attributes:
        checked: graphs by what they were checked in: torch, host, arm.
        instructions: graphs that have each instruction, bodies of scans included.
        excluded: graphs that say nothing, as they are ill-conditioned.
        failures: graphs of which something does not hold.
    """

    first: int
    checked: Counter[str] = field(default_factory=Counter)
    instructions: Counter[str] = field(default_factory=Counter)
    excluded: list[Finding] = field(default_factory=list)
    failures: list[Finding] = field(default_factory=list)

    def count(self, graphs: Iterable[Graph]) -> None:
        for graph in graphs:
            self.instructions.update(_opcodes(graph))

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "checked": dict(self.checked),
            "instructions": dict(self.instructions),
            "excluded": [asdict(finding) for finding in self.excluded],
            "failures": [asdict(finding) for finding in self.failures],
        }

    def __str__(self) -> str:
        lines = [f"{n} graphs in {where}" for where, n in self.checked.items()]
        lines.append(f"{len(self.excluded)} left out, {len(self.failures)} failed")
        by_count = sorted(self.instructions.items(), key=lambda item: item[1])
        lines.append("graphs with each instruction:")
        lines.append("  " + ", ".join(f"{name} {n}" for name, n in by_count))
        for title, findings in (
            ("left out", self.excluded),
            ("failed", self.failures),
        ):
            lines += [f"{title}: {finding}" for finding in findings]
        return "\n".join(lines)


def _opcodes(graph: Graph) -> set[str]:
    inside = (_opcodes(body) for body in graph.bodies)
    return {node.opcode for node in graph.nodes}.union(*inside)
