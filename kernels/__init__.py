"""Code generation with TVM: the only part that imports it."""
