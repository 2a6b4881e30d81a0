"""TVM's own thread pool, whose idle threads spin: real threads under the plugin."""

from __future__ import annotations

import numpy as np
import pytest

import gos_fx.instructions  # noqa: F401  (registers the opcodes)
from gos_fx.emulator.measure import Emulated, measure
from gos_fx.ir.parser import parse
from gos_fx.kernels import cross_runtime
from gos_fx.kernels.packaged import package_operator
from gos_fx.targets.target import get

pytestmark = pytest.mark.qemu

CONVOLUTION = """
def conv(x: map[1, 32, 20, 20], w: weight[64, 32, 3, 3]) -> map[1, 64, 20, 20]:
    v0 = cross_correlation(x, w, stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1))
    v1 = sum(v0, axis="ci")
    return v1
"""


@pytest.fixture(scope="module")
def inference(needs_qemu, needs_llvm, tmp_path_factory):
    """One inference on so many threads, after one to warm up."""
    folder = tmp_path_factory.mktemp("package")
    package = package_operator(parse(CONVOLUTION), get("arm_a53"), folder, 4)
    files = []
    for i, spec in enumerate(package.inputs):
        np.ones(spec.shape, spec.dtype).tofile(folder / f"in{i}")
        shape = ",".join(map(str, spec.shape))
        files.append(f"{spec.dtype}:{shape}:{folder / f'in{i}'}")
    command = [str(cross_runtime.driver()), str(package.library), *files]

    def run(threads: int) -> Emulated:
        options = ["--threads", str(threads), "--repeats", "1"]
        libraries = {"LD_LIBRARY_PATH": str(cross_runtime.runtime())}
        return measure(
            [*command, *options], package.target, threads=threads, guest=libraries
        )

    return run


def test_threads_do_the_work_of_one(inference) -> None:
    one, four, again = inference(1), inference(4), inference(4)
    assert [found.working_threads for found in (one, four, again)] == [1, 4, 4]
    assert {found.region for found in (one, four, again)} == {"clock:1"}
    for found in (four, again):  # waiting and handing out the work cost no more
        assert found.instructions == pytest.approx(one.instructions, rel=0.01)
        assert found.cycles == pytest.approx(one.cycles, rel=0.01)
    assert four.cycles == pytest.approx(again.cycles, rel=1e-3)
    assert four.latency_s == pytest.approx(again.latency_s, rel=0.01)
    lines = [found.l2_misses + found.writebacks for found in (four, again)]
    assert lines[0] == pytest.approx(lines[1], rel=0.03, abs=50)
    assert 3 < one.latency_s / four.latency_s < 8
