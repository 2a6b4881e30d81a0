"""Shared by all tests: one torch thread per worker, no silent skip of qemu tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; set before torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report: Any = yield
    required = os.environ.get("GOS_FX_REQUIRE_QEMU") == "1"
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if required and skipped and item.get_closest_marker("qemu"):
        reason = report.longrepr
        if isinstance(reason, tuple):
            reason = reason[-1]
        report.outcome = "failed"
        report.longrepr = f"GOS_FX_REQUIRE_QEMU=1, but the test was skipped: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def untuned() -> Iterator[None]:
    """What somebody tuned on this machine must not change the code that is tested."""
    from gos_fx.kernels.tuning import records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_NAME", "tuning-of-tests.sqlite")
        yield


@pytest.fixture(scope="session", autouse=True)
def uncached() -> Iterator[None]:
    """Tests compile; what an earlier run of them made proves nothing."""
    from gos_fx.kernels import compile_cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_cache, "LIMIT", 0)
        yield


@pytest.fixture(scope="session")
def rpc_farm() -> Iterator[Any]:
    """Starts real trackers and servers of TVM's RPC: see rpc_farm.py."""
    sys.path.insert(0, str(Path(__file__).parent))
    import rpc_farm as module

    sys.path.pop(0)
    farm = module.Farm()
    yield farm
    farm.close()
