"""Whether a target's record can be one: types and ranges, before anything uses it.

Records come from files that others wrote. Their strings end as arguments of compilers
and as names of files, their numbers in quotients and array sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from gos_fx.errors import BadOption
from gos_fx.targets.target import Emulation, Energy, Fit, Machine, Target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_ATTRIBUTE = re.compile(r"[+-][A-Za-z0-9_.-]+")
_LONGEST = 1000  # characters of a text
# Numbers that are not listed are positive, and at most _LARGEST.
_LARGEST = 1e18
_RANGES: dict[str, tuple[float, float]] = {
    "cores": (1, 1024),
    "clock_hz": (1e6, 1e11),
    "simd_bits": (32, 1 << 14),
    "vector_registers": (1, 1024),
    "line_bytes": (8, 1 << 12),
    "l1d_ways": (1, 1 << 12),
    "l2_ways": (1, 1 << 12),
    "l3_ways": (1, 1 << 12),
    "threads": (1, 1024),
    "issue": (0, 1e6),
    "line_s": (0, 1),
    "error": (0, 100),
    "noise": (0, 100),
    "midr": (0, (1 << 32) - 1),
    "llvm": (1, 1000),
    "static_w": (0, 1e6),
    "flop_j": (0, 1),
    "dram_byte_j": (0, 1),
}
_WORDS = ("qemu_cpu", "mca_cpu", "link_triple")
_TVM = ("kind", "mtriple", "mcpu", "mattr", "num-cores")


def check_target(target: Target) -> None:
    """Refuse a record that cannot be a target's.

    Raises:
        BadOption: a field has another type or is out of range; the message names it.
    """
    _record(target, Target, "")
    if not _NAME.fullmatch(target.name):
        raise _bad("name", target.name, "letters, digits and _ . -, at most 64")
    _record(target.machine, Machine, "machine.")
    if target.machine.simd_bits % 32:
        raise _bad("machine.simd_bits", target.machine.simd_bits, "a multiple of 32")
    _check_tvm(target.tvm)
    if target.energy is not None:
        _record(target.energy, Energy, "energy.")
    if target.emulation is not None:
        _check_emulation(target.emulation)
        _check_caches(target.machine)


def _record(record: Any, kind: Any, where: str) -> None:
    if not isinstance(record, kind):
        raise _bad(where.removesuffix("."), record, f"a {kind.__name__}")
    hints = get_type_hints(kind)
    for field in fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        if value is None and type(None) in getattr(hint, "__args__", ()):
            continue
        kinds = [k for k in (int, float, str, bool) if hint in (k, k | None)]
        if kinds:
            _value(where + field.name, field.name, value, kinds[0])


def _value(where: str, field: str, value: Any, kind: type) -> None:
    if kind is str:
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise _bad(where, value, f"a text of at most {_LONGEST} characters")
        if field in _WORDS and not _WORD.fullmatch(value):
            raise _bad(where, value, "one word")
        if "\n" in value or "\0" in value:
            raise _bad(where, value, "one line")
        return
    if kind is bool:
        if not isinstance(value, bool):
            raise _bad(where, value, "true or false")
        return
    allowed = (int,) if kind is int else (int, float)
    number = isinstance(value, allowed) and not isinstance(value, bool)
    if not number or value != value or value in (math.inf, -math.inf):
        raise _bad(where, value, "a whole number" if kind is int else "a number")
    low, high = _RANGES.get(field, (0, _LARGEST))
    if not (low <= value <= high and (value > 0 or field in _RANGES)):
        raise _bad(where, value, f"from {low:g} to {high:g}")


def _check_tvm(tvm: Any) -> None:
    if not isinstance(tvm, Mapping) or not set(tvm) <= set(_TVM):
        raise _bad("tvm", tvm, f"a table with the keys {', '.join(_TVM)}")
    if tvm.get("kind") != "llvm":
        raise _bad("tvm.kind", tvm.get("kind"), "llvm")
    for key in ("mtriple", "mcpu"):
        if key in tvm and not (
            isinstance(tvm[key], str) and _WORD.fullmatch(str(tvm[key]))
        ):
            raise _bad(f"tvm.{key}", tvm[key], "one word")
    attributes = tvm.get("mattr", [])
    if not isinstance(attributes, list | tuple) or not all(
        isinstance(x, str) and _ATTRIBUTE.fullmatch(x) for x in attributes
    ):
        raise _bad("tvm.mattr", attributes, "a list of +feature and -feature")
    if "num-cores" in tvm:
        _value("tvm.num-cores", "cores", tvm["num-cores"], int)


def _check_emulation(emulation: Emulation) -> None:
    _record(emulation, Emulation, "emulation.")
    if not isinstance(emulation.fits, tuple) or not emulation.fits:
        raise _bad("emulation.fits", emulation.fits, "a tuple of one Fit or more")
    for i, fit in enumerate(emulation.fits):
        _record(fit, Fit, f"emulation.fits[{i}].")
        if fit.issue == fit.line_s == 0:
            raise _bad(f"emulation.fits[{i}].issue", 0, "above 0 where line_s is 0")
    threads = [fit.threads for fit in emulation.fits]
    if threads != sorted(set(threads)):
        raise _bad("emulation.fits", threads, "in ascending order of threads")


def _check_caches(machine: Machine) -> None:
    """The emulator's caches have a power of two of sets."""
    line = machine.line_bytes
    if (machine.l3_bytes is None) != (machine.l3_ways is None):
        raise _bad("machine.l3_ways", machine.l3_ways, "given where l3_bytes is")
    for level in ("l1d", "l2", "l3"):
        size = getattr(machine, f"{level}_bytes")
        ways = getattr(machine, f"{level}_ways")
        if size is None or ways is None:
            continue
        sets, rest = divmod(size, ways * line)
        if rest or sets < 1 or sets & (sets - 1):
            raise _bad(
                f"machine.{level}_bytes", size, f"{ways} ways x {line} bytes x 2^n"
            )


def _bad(where: str, value: Any, allowed: str) -> BadOption:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return BadOption(
        f"{shown} is not allowed there", where=f"target: {where}", do=f"Give {allowed}."
    )
