"""Instruction graphs and whole networks as ONNX: written, never read."""
