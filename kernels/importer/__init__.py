"""Exported programs of torch as networks of instructions."""
