"""One schedule rule for each kind of kernel."""
