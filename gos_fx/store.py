"""A run on disk: run.json and weights.safetensors. No pickle; nothing is executed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from gos_fx import instructions  # noqa: F401  (fills the instruction table)
from gos_fx.errors import DamagedRunDirectory, GosError, UnwritableRunDirectory
from gos_fx.ir.parser import parse
from gos_fx.latency.energy import EnergyEstimate
from gos_fx.latency.model import Estimate
from gos_fx.passes.serialize import network_from_json, network_to_json
from gos_fx.result import Measures, OptimizationResult, Point, Replacement

FORMAT = 1
RUN, WEIGHTS = "run.json", "weights.safetensors"


def save_run(result: OptimizationResult, directory: Path) -> None:
    """Write a result. Each file is complete or absent, the JSON comes last.

    Raises:
        UnwritableRunDirectory: the system's reason.
        Unsupported: the network holds what cannot be rebuilt without code.
    """
    distinct = _distinct(result)
    tensors = _tensors("original", result.original.state_dict())
    for i, replacement in enumerate(distinct):
        for k, weights in enumerate(replacement.weights):
            tensors |= _tensors(f"replacement{i}.site{k}", weights)
    record: dict[str, Any] = {
        "format": FORMAT,
        "network": network_to_json(result.original),
        "baseline": _measures_to_json(result.baseline),
        "replacements": [_replacement_to_json(r) for r in distinct],
        "pareto_front": [
            {
                "measures": _measures_to_json(point.measures),
                "replacements": [distinct.index(r) for r in point.replacements],
            }
            for point in result.pareto_front
        ],
        "chosen": result.chosen,
        "facts": result.facts,
        "logbook": result.logbook,
        "history": result.history,
        "trainable": list(result.trainable),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        record["sha256"] = _write_weights(tensors, directory / WEIGHTS)
        _write(directory / RUN, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UnwritableRunDirectory(
            str(error.strerror or error), str(directory), "choose another directory"
        ) from error


def load_run(directory: Path) -> OptimizationResult:
    """Read a result back.

    Raises:
        DamagedRunDirectory: a file is missing, changed, or not what it should be.
    """
    record = _read_json(directory / RUN)
    if record.get("format") != FORMAT:
        raise DamagedRunDirectory(
            f"format {record.get('format')!r}, this version reads {FORMAT}",
            where=str(directory / RUN),
            do="load it with the version of gos_fx that wrote it",
        )
    tensors = _read_weights(directory / WEIGHTS, str(record.get("sha256")))
    try:
        return _result(record, tensors)
    except DamagedRunDirectory:
        raise
    except (GosError, KeyError, IndexError, TypeError, ValueError) as error:
        raise DamagedRunDirectory(
            f"it holds what no run writes: {error}", where=str(directory / RUN)
        ) from error


def _result(record: dict[str, Any], tensors: dict[str, Tensor]) -> OptimizationResult:
    replacements = [
        _replacement_from_json(data, i, tensors)
        for i, data in enumerate(record["replacements"])
    ]
    front = tuple(
        Point(
            _measures_from_json(data["measures"]),
            tuple(replacements[i] for i in data["replacements"]),
        )
        for data in record["pareto_front"]
    )
    chosen = int(record["chosen"])
    front[chosen]  # an index beyond the front is an IndexError
    return OptimizationResult(
        network_from_json(record["network"], _under("original", tensors)),
        _measures_from_json(record["baseline"]),
        front,
        chosen,
        record["facts"],
        record["logbook"],
        record["history"],
        tuple(record["trainable"]),
    )


def _distinct(result: OptimizationResult) -> list[Replacement]:
    found: list[Replacement] = []
    for point in result.pareto_front:
        found += [r for r in point.replacements if not any(r is f for f in found)]
    return _Identities(found)


class _Identities(list[Replacement]):
    """A list that finds its items by identity; their tensors do not compare."""

    def index(self, item: Replacement, *bounds: Any) -> int:
        return next(i for i, other in enumerate(self) if other is item)


def _replacement_to_json(r: Replacement) -> dict[str, Any]:
    return {
        "operators": r.operators,
        "modules": r.modules,
        "before": r.before.text,
        "after": r.after.text,
        "bindings": [dict(b) for b in r.bindings],
        "latency_before": _estimate_to_json(r.latency_before),
        "latency_after": _estimate_to_json(r.latency_after),
    }


def _replacement_from_json(
    data: dict[str, Any], index: int, tensors: Mapping[str, Tensor]
) -> Replacement:
    sites = range(len(data["operators"]))
    return Replacement(
        operators=tuple(data["operators"]),
        modules=tuple(tuple(names) for names in data["modules"]),
        before=parse(data["before"]),
        after=parse(data["after"]),
        bindings=tuple(
            {str(k): int(v) for k, v in data["bindings"][site].items()}
            for site in sites
        ),
        weights=tuple(
            _under(f"replacement{index}.site{site}", tensors) for site in sites
        ),
        latency_before=_estimate_from_json(data["latency_before"]),
        latency_after=_estimate_from_json(data["latency_after"]),
    )


def _measures_to_json(m: Measures) -> dict[str, Any]:
    return {
        "latency": _estimate_to_json(m.latency),
        "parameters": m.parameters,
        "metric": m.metric,
        "memory_bytes": m.memory_bytes,
        "energy": None if m.energy is None else asdict(m.energy),
        "confirmed": m.confirmed,
    }


def _measures_from_json(data: dict[str, Any]) -> Measures:
    latency = _estimate_from_json(data["latency"])
    memory, energy = data.get("memory_bytes"), data.get("energy")  # older runs: none
    return Measures(
        latency,
        int(data["parameters"]),
        float(data["metric"]),
        None if memory is None else int(memory),
        None if energy is None else EnergyEstimate(**energy),
        bool(data.get("confirmed", False)),
    )


def _estimate_to_json(e: Estimate) -> dict[str, Any]:
    return {
        "seconds": e.seconds,
        "error": e.error,
        "source": e.source,
        "target": e.target,
        "noise": e.noise,
    }


def _estimate_from_json(data: dict[str, Any]) -> Estimate:
    noise = data["noise"]
    return Estimate(
        float(data["seconds"]),
        float(data["error"]),
        str(data["source"]),
        str(data["target"]),
        None if noise is None else float(noise),
    )


def _tensors(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{k}": v.detach().contiguous().clone() for k, v in values.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "."
    return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}


def _write_weights(tensors: dict[str, Tensor], path: Path) -> str:
    from safetensors.torch import save

    data = save(tensors)
    _write(path, data)
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Replace the file at once, so that a kill leaves the old one or the new one."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read(path))
    except ValueError as error:
        raise DamagedRunDirectory(f"not JSON: {error}", where=str(path)) from error
    if not isinstance(record, dict):
        raise DamagedRunDirectory("not a JSON object", where=str(path))
    return record


def _read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = _read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedRunDirectory(
            "its SHA-256 is not the one in run.json", where=str(path)
        )
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise DamagedRunDirectory(f"not safetensors: {error}", str(path)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedRunDirectory(
            str(error.strerror or error), str(path), "pass a directory of a saved run"
        ) from error
