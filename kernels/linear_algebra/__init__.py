"""Factorisations and what is made of them, for TVM, which has none.

Each is written for one matrix in single precision, in loops of its own; a bad matrix
makes all results not a number, and no loop runs for ever.
"""

from __future__ import annotations
