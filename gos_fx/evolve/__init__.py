"""The search: NSGA-II over instruction graphs."""
