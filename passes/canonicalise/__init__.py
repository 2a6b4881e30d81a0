"""Canonical form of instruction graphs: equal graphs, equal text.

In the order in which to read: ``canonical`` is the pass, ``simplifier`` copies a graph
through the rules, ``rule`` says what a rule is, and ``arithmetic``, ``constants``,
``moving`` and ``bundles`` hold them; ``states`` drops what a scan computes for nobody.
"""

from gos_fx.passes.canonicalise import arithmetic, bundles, constants, moving
from gos_fx.passes.canonicalise.canonical import canonicalise

__all__ = ["arithmetic", "bundles", "canonicalise", "constants", "moving"]
