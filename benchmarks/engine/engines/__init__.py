"""One file for each engine: what it needs, how it takes a network, how it runs it."""
