"""Algorithm 1: which operators come next."""

from __future__ import annotations

from gos_fx.evolve.selection import select
from gos_fx.ir.graph import Graph
from gos_fx.ir.parser import parse
from gos_fx.latency.model import Estimate, total
from gos_fx.latency.profile import Profile, Row
from gos_fx.passes.operators import Operator

# name: latency in ms, its error in ms, parameters, template
ROWS = {
    "a": (3.0, 0.1, 100, "conv"),
    "b": (5.0, 0.1, 50, "conv"),
    "c": (5.05, 0.1, 40, "linear"),
    "d": (1.0, 0.1, 900, "linear"),
    "e": (2.0, 0.1, 10, "conv"),
    "f": (9.0, 0.1, 999, ""),
}


def profile_of(rows: list[Row]) -> Profile:
    latency = total((row.latency for row in rows), "analytical", "arm_a53")
    return Profile("arm_a53", 4, tuple(rows), latency, 0, 0)


def setting(graphs: dict[str, Graph]) -> tuple[list[Operator], Profile]:
    operators, rows = [], []
    for name, (latency, error, parameters, kind) in ROWS.items():
        operators.append(Operator(name, (name,), (name,), graphs.get(kind)))
        estimate = Estimate(latency / 1e3, error / 1e3, "analytical", "arm_a53")
        rows.append(Row(name, kind, (name,), estimate, parameters, 0))
    return operators, profile_of(rows)


def chosen(
    conv: Graph,
    linear: Graph,
    *,
    deployable: bool = True,
    tried: tuple[str, ...] = (),
    similar: int = 4,
) -> str:
    operators, profile = setting({"conv": conv, "linear": linear})
    found = select(
        operators, profile, deployable=deployable, tried=tried, similar=similar
    )
    return "".join(op.name for op in found)


def test_slowest_first_and_parameters_decide_between_close_ones(
    conv: Graph, linear: Graph
) -> None:
    # c is 1 % slower than b, which is within the errors; b has more parameters. f has
    # no instruction graph. All of b's template come along, the slowest first.
    assert chosen(conv, linear) == "bae"
    assert chosen(conv, linear, tried=("b",)) == "cd"


def test_not_deployable_goes_by_parameters(conv: Graph, linear: Graph) -> None:
    assert chosen(conv, linear, deployable=False) == "dc"
    assert chosen(conv, linear, deployable=False, tried=("d",)) == "abe"


def test_similar_is_a_limit(conv: Graph, linear: Graph) -> None:
    assert chosen(conv, linear, similar=1) == "b"
    assert chosen(conv, linear, similar=2) == "ba"


def test_one_operator_is_chosen_once_only(conv: Graph, linear: Graph) -> None:
    tried: tuple[str, ...] = ()
    order = []
    while group := chosen(conv, linear, tried=tried, similar=2):
        order.append(group)
        tried += tuple(group)
    assert order == ["ba", "cd", "e"] and sorted("".join(order)) == list("abcde")


def test_templates_are_compared_by_value(conv: Graph, linear: Graph) -> None:
    assert chosen(parse(conv.text), linear) == "bae"


def test_nothing_left(conv: Graph, linear: Graph) -> None:
    assert chosen(conv, linear, tried=tuple("abcdef")) == ""
    assert chosen({}.get("none"), {}.get("none")) == ""  # type: ignore[arg-type]


def test_closeness_is_not_carried_on(conv: Graph, linear: Graph) -> None:
    """x ~ y ~ z, but x and z are far apart: z, with most parameters, is not first."""
    operators, rows = [], []
    for name, latency, parameters in (("x", 5.0, 1), ("y", 4.9, 2), ("z", 4.8, 3)):
        operators.append(Operator(name, (name,), (name,), conv))
        estimate = Estimate(latency, 0.08, "analytical", "arm_a53")
        rows.append(Row(name, "conv", (name,), estimate, parameters, 0))
    profile = profile_of(rows)
    found = select(operators, profile, deployable=True, tried=(), similar=3)
    assert [op.name for op in found] == ["y", "x", "z"]
