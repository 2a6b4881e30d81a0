"""Measurements: the demo, its seeds, and the networks that they use."""
