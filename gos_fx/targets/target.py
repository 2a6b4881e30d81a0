"""The record of a target: data for the latency model, TVM, qemu and the linker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gos_fx.errors import UnknownTarget
from gos_fx.registry import Registry


@dataclass(frozen=True)
class Machine:
    """One cluster of equal cores and the memory behind it.

    Sizes are in bytes, rates in bytes per second or per cycle of one core. A cache that
    a core has to itself (``l2_shared`` false) is given per core. ``fma_per_cycle``
    counts SIMD instructions, each of ``simd_bits``; ``fma_latency_cycles`` is the time
    from one FMA to the next on the same accumulator. ``dram_bytes_per_s_1`` is what one
    thread gets, ``dram_bytes_per_s_all`` what all cores get together.
    """

    cores: int
    clock_hz: float
    simd_bits: int
    fma_per_cycle: float
    fma_latency_cycles: float
    vector_registers: int
    load_bytes_per_cycle: float
    l1d_bytes: int
    l2_bytes: int
    l2_shared: bool
    l2_bytes_per_cycle: float
    l3_bytes: int | None
    line_bytes: int
    dram_bytes_per_s_1: float
    dram_bytes_per_s_all: float

    @property
    def lanes(self) -> int:
        """float32 numbers in one SIMD register."""
        return self.simd_bits // 32

    @property
    def peak_flops(self) -> float:
        """float32 operations per second on all cores, an FMA counting as two."""
        return 2 * self.lanes * self.fma_per_cycle * self.clock_hz * self.cores

    def cache_bytes(self, threads: int = 1) -> int:
        """Bytes of one thread's share of the last cache before DRAM."""
        threads = max(1, min(threads, self.cores))
        if self.l3_bytes is not None:
            return max(self.l3_bytes // threads, self.l2_bytes)
        return self.l2_bytes // (threads if self.l2_shared else 1)

    def dram_bytes_per_s(self, threads: int) -> float:
        """Rate of ``threads`` threads together; between one and all it is linear."""
        if self.cores == 1 or threads <= 1:
            return self.dram_bytes_per_s_1
        share = (min(threads, self.cores) - 1) / (self.cores - 1)
        difference = self.dram_bytes_per_s_all - self.dram_bytes_per_s_1
        return self.dram_bytes_per_s_1 + share * difference


@dataclass(frozen=True)
class Target:
    """A machine to optimize and compile for.

    Attributes:
        name: how ``gos_fx.targets()`` lists it.
        description: board, chip and cores in one line.
        machine: the numbers of the latency model.
        tvm: what ``tvm.target.Target`` takes; not part of the hash.
        link_triple: zig's name of the platform, None for this machine.
        qemu_cpu: ``-cpu`` of qemu-aarch64, None where no emulator is needed or known.
        model_memory_bytes: what weights and live activations may take together.
    """

    name: str
    description: str
    machine: Machine
    tvm: Mapping[str, object] = field(hash=False)
    link_triple: str | None
    qemu_cpu: str | None
    model_memory_bytes: int

    @property
    def threads(self) -> int:
        """Threads used where nothing else is said: all cores of the cluster."""
        return self.machine.cores


_TARGETS: Registry[Callable[[], Target]] = Registry("target")


def register(target: Target) -> Target:
    """Add a target whose data are known.

    Raises:
        ValueError: the name is taken.
    """
    _TARGETS.register(target.name, lambda: target)
    return target


def register_probe(name: str, probe: Callable[[], Target]) -> None:
    """Add a target whose data are read from the machine when it is first asked for.

    Raises:
        ValueError: the name is taken.
    """
    _TARGETS.register(name, probe)


def names() -> tuple[str, ...]:
    """Names of all targets."""
    return _TARGETS.names()


def get(target: str | Target) -> Target:
    """The target of this name; a ``Target`` is returned as it is.

    Raises:
        UnknownTarget: there is none of this name.
    """
    if isinstance(target, Target):
        return target
    found = _TARGETS.find(target) if isinstance(target, str) else None
    if found is None:
        raise UnknownTarget(
            f"There is no target {target!r}",
            where="argument target",
            do=f"{_TARGETS.suggest(str(target))} gos_fx.targets() lists all.",
        )
    return found()
