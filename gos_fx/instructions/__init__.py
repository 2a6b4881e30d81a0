"""The instruction set: one declaration for each instruction."""
