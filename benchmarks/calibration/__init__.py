"""Measured programs that the boards' constants rest on, and the fits."""
