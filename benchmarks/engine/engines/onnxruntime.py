"""ONNX Runtime on its CPU provider."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine(
    "onnxruntime",
    requires=("onnxruntime==1.31.1", "onnx", "onnxscript"),
    guest=("onnxruntime==1.31.1",),
    # Under the emulator a thread that spins would be counted as one that works.
    guest_variables=(("GOS_FX_BENCHMARK_SPINNING", "0"),),
)


def convert(network: Any, example: Any, folder: Path) -> None:
    import torch

    path = str(folder / "model.onnx")
    torch.onnx.export(network, (example,), path, dynamo=True, external_data=False)


def load(name: str, folder: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    spinning = os.environ.get("GOS_FX_BENCHMARK_SPINNING", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    (argument,) = session.get_inputs()
    return lambda x: session.run(None, {argument.name: x})[0]
