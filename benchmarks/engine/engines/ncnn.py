"""ncnn in fp32, from the network that pnnx converts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

_VERSION = "20261020"
# What its defaults would round: that takes as long, with errors 500 times as large.
_HALF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_storage",
)

ENGINE = Engine(
    "ncnn",
    requires=(f"ncnn==1.0.{_VERSION}", f"pnnx=={_VERSION}"),
    guest=(f"ncnn==1.0.{_VERSION}",),
)


def convert(network: Any, example: Any, folder: Path) -> None:
    """Weights stay fp32, which pnnx would else round to fp16."""
    import pnnx
    import torch

    with torch.no_grad():
        torch.jit.trace(network, example).save(str(folder / "model.pt"))
    shape = ",".join(map(str, example.shape))
    program = Path(pnnx.__file__).parent / "pnnx"
    command = [str(program), "model.pt", f"inputshape=[{shape}]", "fp16=0"]
    subprocess.run(command, cwd=folder, check=True)
    for path in folder.iterdir():
        if not path.name.startswith("model.ncnn."):
            path.unlink()


def load(name: str, folder: Path, threads: int) -> Run:
    import ncnn
    import numpy as np

    network = ncnn.Net()
    network.opt.num_threads = threads
    for option in _HALF:
        setattr(network.opt, option, False)
    for read, file in (
        (network.load_param, "model.ncnn.param"),
        (network.load_model, "model.ncnn.bin"),
    ):
        if read(str(folder / file)):
            raise RuntimeError(f"ncnn does not read {file}")

    def run(x: Any) -> Any:
        with network.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(x[0]))
            status, y = extractor.extract("out0")
            if status:
                raise RuntimeError(f"ncnn fails with status {status}")
            return np.array(y)

    return run
