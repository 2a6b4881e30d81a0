"""Sizes that were measured to be better than the default: kept and compiled with."""
