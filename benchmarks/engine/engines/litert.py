"""LiteRT, once TensorFlow Lite, with its XNNPACK delegate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.engine import Engine, Run

ENGINE = Engine(
    "ai-edge-litert",
    requires=("ai-edge-litert==2.3.0", "litert-torch==0.10.0"),
    guest=("ai-edge-litert==2.3.0",),
)


def convert(network: Any, example: Any, folder: Path) -> None:
    import litert_torch

    litert_torch.convert(network, (example,)).export(str(folder / "model.tflite"))


def load(name: str, folder: Path, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    (argument,) = interpreter.get_input_details()
    result, *_ = interpreter.get_output_details()

    def run(x: Any) -> Any:
        interpreter.set_tensor(argument["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run
