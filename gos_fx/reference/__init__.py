"""The page of the instruction set, from the instructions' declarations.

``python -m gos_fx.reference > docs/instructions.md`` writes it.
"""
