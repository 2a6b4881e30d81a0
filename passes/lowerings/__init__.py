"""One lowering for each kind of module."""
