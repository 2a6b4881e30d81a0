"""The table of mutations: find all sites, choose one, rewrite; three separate steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
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
    """Register the decorated ``apply``; its name is the mutation's."""

    def declare(apply: Apply) -> Apply:
        name = apply.__name__
        MUTATIONS.register(name, Mutation(name, exact, find, apply))
        return apply

    return declare


def mutate(graph: Graph, rng: random.Random) -> tuple[str, Graph | Refusal]:
    """A mutation drawn uniformly among those that have sites, then one of its sites.

    Returns the mutation's name with the new graph or the reason of the refusal.
    """
    found = [(MUTATIONS[name], MUTATIONS[name].sites(graph)) for name in MUTATIONS]
    possible = [(m, sites) for m, sites in found if sites]
    if not possible:
        return "none", Refusal("no mutation has a site in this graph")
    chosen, sites = rng.choice(possible)
    try:
        return chosen.name, chosen.apply(graph, rng.choice(sites))
    except VerifyError as error:  # the edit does not fit what follows it
        return chosen.name, Refusal(error.what)
