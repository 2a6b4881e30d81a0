"""Edits of an instruction graph."""
