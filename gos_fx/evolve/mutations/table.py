"""The table of mutations: find all sites, choose one, rewrite; three separate steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.rewriter import Refusal
from gos_fx.registry import Registry


@dataclass(frozen=True)
class Site:
    """Where and how an edit can be made: an instruction and the edit's settings."""

    node: str
    settings: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, key: str) -> Any:
        return dict(self.settings)[key]

    @property
    def opcode(self) -> str:
        """The instruction that comes in, if it is chosen here."""
        for key, value in self.settings:
            if key == "opcode":
                return str(value)
        return ""


Find = Callable[[Graph], tuple[Site, ...]]
Apply = Callable[[Graph, Site], Graph | Refusal]
Draw = Callable[[Graph, random.Random], Site | None]


@dataclass(frozen=True)
class Mutation:
    """One kind of edit.

    ``exact`` edits keep what the graph computes (up to rounding). ``sites`` lists every
    place and setting in a fixed order; ``apply`` makes the edit or refuses. ``draws``
    takes one of the sites without listing all, where there may be very many.
    """

    name: str
    exact: bool
    sites: Find
    apply: Apply
    draws: Draw | None = None

    def draw(self, graph: Graph, rng: random.Random) -> Site | None:
        """One of the sites, if there is any: first the instruction that comes in, which
        may fit in few places or in many, is drawn uniformly, then the place."""
        if self.draws is not None:
            return self.draws(graph, rng)
        families: dict[str, list[Site]] = {}
        for site in self.sites(graph):
            families.setdefault(site.opcode, []).append(site)
        return rng.choice(families[rng.choice(list(families))]) if families else None


MUTATIONS: Registry[Mutation] = Registry("mutation")


def mutation(
    find: Find, *, exact: bool = False, draws: Draw | None = None
) -> Callable[[Apply], Apply]:
    """Register the decorated ``apply``; its name is the mutation's.

    An edit that does not fit what follows it is refused with the verifier's reason.
    """

    def declare(apply: Apply) -> Apply:
        name = apply.__name__

        @wraps(apply)
        def edit(graph: Graph, site: Site) -> Graph | Refusal:
            try:
                child = apply(graph, site)
            except VerifyError as error:
                return Refusal(error.what)
            if isinstance(child, Graph) and child.result != graph.result:
                return Refusal(f"it gives {child.result}, not {graph.result}")
            return Refusal("it changes nothing") if child == graph else child

        MUTATIONS.register(name, Mutation(name, exact, find, edit, draws))
        return edit

    return declare


def draw_any(
    graph: Graph, names: Iterable[str], rng: random.Random
) -> tuple[str, Site] | None:
    """A mutation drawn uniformly among those that have sites, then one of its sites."""
    shuffled = list(names)
    rng.shuffle(shuffled)
    for name in shuffled:
        site = MUTATIONS[name].draw(graph, rng)
        if site is not None:
            return name, site
    return None


def mutate(graph: Graph, rng: random.Random) -> tuple[str, Graph | Refusal]:
    """A mutation drawn uniformly among those that have sites, then one of its sites.

    The bodies of scans are edited as often as they have instructions among all. Returns
    the mutation's name with the new graph or the reason of the refusal.
    """
    found = None
    inner = sum(len(body.nodes) for body in graph.bodies)
    if inner and rng.random() < inner / (inner + len(graph.nodes)):
        found = draw_any(graph, ["edit_body"], rng)
    found = found or draw_any(graph, MUTATIONS, rng)
    if found is None:
        return "none", Refusal("no mutation has a site in this graph")
    name, site = found
    return name, MUTATIONS[name].apply(graph, site)
