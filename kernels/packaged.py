"""Networks and single operators, compiled into packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from gos_fx.ir.graph import Graph
from gos_fx.kernels.build import BuildResult, build, build_operator
from gos_fx.kernels.layout import stored_shape
from gos_fx.kernels.package import Package, TensorSpec, save_package
from gos_fx.targets.target import Target


def package_network(
    network: fx.GraphModule,
    example_inputs: tuple[Any, ...],
    outputs: Sequence[Tensor],
    target: Target,
    directory: Path,
    threads: int | None = None,
) -> tuple[Package, BuildResult]:
    """Compile a network whose operators are opaque calls.

    Args:
        outputs: what it gives for ``example_inputs``.
        directory: gets the package.
        threads: of which the code makes use; all cores of the target by default.

    Raises:
        CompileError, PackageError: as :func:`~gos_fx.kernels.build.build` and
            :func:`~gos_fx.kernels.package.save_package`.
    """
    given = tuple(x for x in example_inputs if isinstance(x, Tensor))
    names = [n.name for n in network.graph.nodes if n.op == "placeholder"]
    result = build(network, example_inputs, target, directory, threads)
    package = save_package(
        directory,
        result.library,
        target,
        [TensorSpec.of(n, x) for n, x in zip(names, given, strict=False)],
        [TensorSpec.of(f"output{i}", y) for i, y in enumerate(outputs)],
        threads or target.threads,
        memory=result.memory,
        kernels=result.kernels,
    )
    return package, result


def package_operator(
    graph: Graph, target: Target, directory: Path, threads: int | None = None
) -> Package:
    """Compile a concrete graph alone, with random weights; see ``build_operator``.

    Its maps lie as between two kernels of a network: rank 4 as [N, H, W, C].

    Raises:
        CompileError, PackageError: as :func:`package_network`.
    """
    result = build_operator(graph, target, directory, threads)
    maps = [value for value in graph.inputs if value.type.role == "map"]
    inputs = [TensorSpec(v.name, stored_shape(v.type), v.type.dtype) for v in maps]
    value = graph.types[graph.output]
    return save_package(
        directory,
        result.library,
        target,
        inputs,
        [TensorSpec("output0", stored_shape(value), value.dtype)],
        threads or target.threads,
        kernels=result.kernels,
    )
