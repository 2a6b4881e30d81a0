"""Passes over the whole network: from nn.Module to fx.GraphModule and back."""
