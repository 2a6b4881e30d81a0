"""Runs in an engine's environment: one network into the engine's files.

python -m benchmarks.engine.convert ENGINE NETWORK FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.engine import case, engine


def main() -> None:
    name, network, folder = sys.argv[1:]
    with torch.no_grad():
        engine.module(name).convert(
            case.network(network), case.example(network), Path(folder)
        )


if __name__ == "__main__":
    main()
