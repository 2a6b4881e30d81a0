"""Instruction graphs: a small frozen SSA form with symbolic shapes."""
