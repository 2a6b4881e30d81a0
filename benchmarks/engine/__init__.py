"""Engines side by side on this machine and on the emulated board."""
