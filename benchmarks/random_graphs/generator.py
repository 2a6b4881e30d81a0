"""Draws valid graphs within the bounds, every value of which is read."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

from benchmarks.random_graphs import (  # noqa: F401  (they fill the recipes)
    arithmetic,
    cells,
    images,
    matrices,
    moving,
)
from benchmarks.random_graphs.declared import append, grow
from benchmarks.random_graphs.draw import Draw, Dropped
from benchmarks.random_graphs.ending import combine
from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.loops import loops_of
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.rewriter import Editor, insert_after
from gos_fx.ir.verifier import Bounds, check_bounds, verify

BOUNDS = Bounds(nodes=20, edges=25)
DRAWN = tuple(name for name in OPCODES if not OPCODES[name].schedule)


def random_graph(seed: int, counts: Counter[str] | None = None) -> Graph:
    """A valid concrete graph within the bounds; ``counts`` gets what was dropped."""
    rng = random.Random(seed)
    counts = Counter() if counts is None else counts
    while True:
        draw = Draw(rng)
        try:
            if rng.random() < 0.05:
                append(draw, "gather")
            draw.image(rng.choice((2, 3, 4, 4)))
            grow(draw, rng.randint(1, 18), DRAWN, counts)
            graph = draw.finish(combine(draw))
            graph = with_schedule(graph, rng)
            check_bounds(graph, BOUNDS)
            return verify(graph)
        except (Dropped, VerifyError) as error:
            counts[str(error).split(" (")[0][:60]] += 1


def with_schedule(graph: Graph, rng: random.Random) -> Graph:
    """Tiles and unrolls on some values."""
    for opcode in ("tile", "unroll"):
        loops = loops_of(graph)
        steered = {n.operands[0] for n in graph.nodes if n.declaration.schedule}
        free = [
            node.name
            for node in graph.nodes
            if not node.declaration.schedule
            and loops[node.name]
            and node.name not in steered
        ]
        if not free or rng.random() < 0.6:
            continue
        name = rng.choice(free)
        count = rng.randint(1, min(2, len(loops[name])))
        sizes = {k: rng.randint(1, 8) for k in sorted(rng.sample(loops[name], count))}
        build = partial(_steer, opcode=opcode, sizes=sizes)
        graph = insert_after(graph, name, build)
    return graph


def _steer(
    editor: Editor, operands: tuple[str, ...], *, opcode: str, sizes: dict[str, int]
) -> str:
    return editor.emit(opcode, *operands, **sizes)
