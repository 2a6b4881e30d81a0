"""The virtual board: aarch64 programs under qemu, their instructions and cache lines
counted, and the board's time from what was counted."""
