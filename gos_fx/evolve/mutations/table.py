"""The table of mutations: find all sites, choose one, rewrite; three separate steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
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
    def family(self) -> tuple[str, ...]:
        """What is drawn before the place: the instruction that comes in; inside the
        body of a scan the kind of edit before that.

        There may be many values that an instruction fits and many pairs of them; each
        family has the same chance, however many members it has.
        """
        settings = dict(self.settings)
        if "site" in settings:
            return (settings["mutation"], *settings["site"].family)
        return (settings["opcode"],) if "opcode" in settings else ()


Find = Callable[[Graph], tuple[Site, ...]]
Apply = Callable[[Graph, Site], Graph | Refusal]


@dataclass(frozen=True)
class Mutation:
    """One kind of edit.

    ``exact`` edits keep what the graph computes (up to rounding). ``sites`` lists every
    place and setting in a fixed order; ``apply`` makes the edit or refuses.
    """

    name: str
    exact: bool
    sites: Find
    apply: Apply


MUTATIONS: Registry[Mutation] = Registry("mutation")


def mutation(find: Find, *, exact: bool = False) -> Callable[[Apply], Apply]:
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
            return child

        MUTATIONS.register(name, Mutation(name, exact, find, edit))
        return edit

    return declare


def draw(sites: Sequence[Site], rng: random.Random) -> Site:
    """A site of a family that is drawn uniformly, level by level."""
    depth = 0
    while any(len(site.family) > depth for site in sites):
        families: dict[tuple[str, ...], list[Site]] = {}
        for site in sites:
            families.setdefault(site.family[: depth + 1], []).append(site)
        sites = families[rng.choice(list(families))]
        depth += 1
    return rng.choice(sites)


def mutate(graph: Graph, rng: random.Random) -> tuple[str, Graph | Refusal]:
    """A mutation drawn uniformly among those that have sites, then one of its sites.

    Returns the mutation's name with the new graph or the reason of the refusal.
    """
    names = list(MUTATIONS)
    rng.shuffle(names)
    for name in names:
        if sites := MUTATIONS[name].sites(graph):
            return name, MUTATIONS[name].apply(graph, draw(sites, rng))
    return "none", Refusal("no mutation has a site in this graph")
