"""Algorithm 1: the least efficient operator and those like it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cmp_to_key

from gos_fx.latency.model import close
from gos_fx.latency.profile import Profile, Row
from gos_fx.passes.operators import Operator


def select(
    operators: Sequence[Operator],
    profile: Profile,
    *,
    deployable: bool,
    tried: Collection[str],
    similar: int,
) -> tuple[Operator, ...]:
    """The operator to replace next, with up to ``similar - 1`` more of its template.

    Not deployable: most parameters first. Deployable: slowest first; latencies within
    their errors count as equal, and then parameters decide. What does not compute one
    feature map from one by an instruction graph and what was ``tried`` is passed over.
    Empty when nothing is left.
    """
    rows = {row.name: row for row in profile.rows}
    candidates = [op for op in operators if not op.refusal and op.name not in tried]
    ranked = _by_parameters if not deployable else _by_latency
    order = ranked([rows[op.name] for op in candidates])
    by_name = {op.name: op for op in candidates}
    ordered = [by_name[row.name] for row in order]
    if not ordered:
        return ()
    worst = ordered[0]
    alike = [op for op in ordered if op.template == worst.template]
    return tuple(alike[:similar])


def _by_parameters(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.parameters)


def _by_latency(rows: list[Row]) -> list[Row]:
    """Slowest first. Being close is not transitive, so one head is taken at a time:
    of all that cannot be told from the slowest, the one with most parameters."""
    rest = sorted(rows, key=cmp_to_key(_slower))
    ordered = []
    while rest:
        slowest = rest[0]
        near = [row for row in rest if close(row.latency, slowest.latency)]
        head = max(near, key=lambda row: row.parameters)
        rest.remove(head)
        ordered.append(head)
    return ordered


def _slower(a: Row, b: Row) -> int:
    if a.latency.seconds == b.latency.seconds:
        return b.parameters - a.parameters
    return 1 if a.latency.seconds < b.latency.seconds else -1
