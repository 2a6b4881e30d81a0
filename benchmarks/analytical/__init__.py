"""The analytical model against the emulator: kernels, fit and errors."""
