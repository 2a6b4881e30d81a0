"""Values that are put together and taken apart again."""

from __future__ import annotations

from gos_fx.passes.canonicalise.rule import Match, rule


@rule("result")
def result_of_bundle(m: Match) -> str | None:
    """result(bundle(a, b), index=1) -> b"""
    together = m.source(m.operands[0], "bundle")
    return together.operands[m.attributes["index"]] if together else None


@rule("bundle")
def bundle_of_results(m: Match) -> str | None:
    """bundle(result(x, index=0), result(x, index=1)) -> x for an x of two"""
    parts = [m.source(name, "result") for name in m.operands]
    taken = [(part.operands[0], part.attr("index")) for part in parts if part]
    if len(taken) < len(parts):
        return None
    whole = taken[0][0]
    return whole if taken == [(whole, i) for i in range(len(parts))] else None
