"""Mutations, one table; importing this package fills it."""

from gos_fx.evolve.mutations import (
    approximate,
    hyperparameter,
    schedule,
    structural,
)
from gos_fx.evolve.mutations.table import MUTATIONS, Mutation, Site, mutate

__all__ = [
    "MUTATIONS",
    "Mutation",
    "Site",
    "approximate",
    "hyperparameter",
    "mutate",
    "schedule",
    "structural",
]
