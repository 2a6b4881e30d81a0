"""Mutations, one table; importing this package fills it."""

from gos_fx.evolve.mutations import (
    approximate,
    dilation,
    hyperparameter,
    normalization,
    recurrent,
    schedule,
    structural,
)
from gos_fx.evolve.mutations.table import MUTATIONS, Mutation, Site, mutate

__all__ = [
    "MUTATIONS",
    "Mutation",
    "Site",
    "approximate",
    "dilation",
    "hyperparameter",
    "mutate",
    "normalization",
    "recurrent",
    "schedule",
    "structural",
]
