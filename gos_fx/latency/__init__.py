"""Latency of an operator on a target: every number with its error and source."""
