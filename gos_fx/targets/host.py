"""This machine, read from /proc and /sys. What cannot be read there is assumed."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from gos_fx.targets.target import Machine, Target, register_probe

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_CPU0 = Path("/sys/devices/system/cpu/cpu0")

# MIDR part numbers of implementer 0x41 (Arm) -> LLVM's name (AArch64TargetParser).
_ARM_PARTS = {
    0xD03: "cortex-a53",
    0xD05: "cortex-a55",
    0xD07: "cortex-a57",
    0xD08: "cortex-a72",
    0xD09: "cortex-a73",
    0xD0A: "cortex-a75",
    0xD0B: "cortex-a76",
    0xD0C: "neoverse-n1",
    0xD40: "neoverse-v1",
    0xD49: "neoverse-n2",
    0xD4F: "neoverse-v2",
}
# Assumptions, where the machine says nothing of it.
_CLOCK_HZ = 2.5e9
_DRAM_1, _DRAM_ALL = 10e9, 20e9  # one thread and all cores of a small server
_L1D, _L2 = 32 << 10, 512 << 10
_WAYS = 8  # only the emulator asks, and it does not emulate this machine


def cpu_facts(text: str) -> dict[str, str]:
    """The first processor's fields in the text of /proc/cpuinfo."""
    first = text.split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def llvm_cpu(facts: dict[str, str], machine: str) -> str:
    """LLVM's name of a core whose instructions this processor has.

    A name is used only when the flags that it stands for are all there, because a
    hypervisor may hide some.
    """
    if machine in ("aarch64", "arm64"):
        if facts.get("CPU implementer") == "0x41":
            return _ARM_PARTS.get(int(facts.get("CPU part", "0"), 16), "generic")
        return "generic"
    flags = set(facts.get("flags", "").split())
    if not {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"} <= flags:
        return "x86-64-v2" if {"sse4_2", "popcnt", "ssse3"} <= flags else "x86-64"
    family = int(facts.get("cpu family", "0"))
    level4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags
    if facts.get("vendor_id") == "AuthenticAMD" and {"sse4a", "clzero"} <= flags:
        zen4 = {"avx512_bf16", "avx512_vbmi2", "avx512_vnni", "gfni"} <= flags
        if level4 and zen4:  # family 0x19 and up; Zen 5 runs Zen 4's code
            return "znver4"
        if family == 0x19 and {"vaes", "vpclmulqdq"} <= flags:
            return "znver3"
        return "znver2" if "clwb" in flags else "znver1"
    if level4:
        return "cascadelake" if "avx512_vnni" in flags else "skylake-avx512"
    return "haswell" if facts.get("vendor_id") == "GenuineIntel" else "x86-64-v3"


def simd(cpu: str, machine: str) -> tuple[int, float, int, float]:
    """(SIMD bits, FMAs per cycle, registers, loaded bytes per cycle) as LLVM uses them.

    Sources: Intel 64 and IA-32 Architectures Optimization Reference Manual, Software
    Optimization Guide for the AMD Zen4 Microarchitecture, Arm's guides. LLVM prefers
    256-bit vectors on Intel's AVX-512 cores.
    """
    if machine in ("aarch64", "arm64"):
        return 128, 2.0, 32, 32.0
    if cpu == "znver4":
        return 512, 1.0, 32, 64.0  # 256-bit units, used twice
    if cpu in ("cascadelake", "skylake-avx512"):
        return 256, 2.0, 32, 64.0
    if cpu in ("x86-64", "x86-64-v2"):
        return 128, 1.0, 16, 16.0  # multiply and add are two instructions
    return 256, 2.0, 16, 64.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cache_bytes(level: int) -> int | None:
    """Data cache of this level that cpu0 uses."""
    for index in sorted((_CPU0 / "cache").glob("index*")):
        if _read(index / "level").strip() != str(level):
            continue
        if _read(index / "type").strip() == "Instruction":
            continue
        size = _read(index / "size").strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
        digits = size.rstrip("KM")
        if digits.isdecimal():
            return int(digits) * unit
    return None


def _cores() -> int:
    """Physical cores that this process may run on."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    siblings = {
        _read(_CPU0.parent / f"cpu{cpu}" / "topology" / "thread_siblings_list")
        or str(cpu)
        for cpu in allowed
    }
    return max(1, len(siblings))


def _clock_hz(facts: dict[str, str]) -> float:
    highest = _read(_CPU0 / "cpufreq" / "cpuinfo_max_freq").strip()  # kHz
    if highest.isdecimal():
        return int(highest) * 1e3
    # Rounded, because the current clock differs a little from one reading to the next.
    now = round(float(facts.get("cpu MHz", 0)) / 100) * 1e8
    return now or _CLOCK_HZ


def _memory_bytes() -> int:
    for line in _read(_MEMINFO).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 4 << 30


@functools.cache
def probe() -> Target:
    """The target ``host``, read once."""
    facts, machine = cpu_facts(_read(_CPUINFO)), platform.machine()
    cpu = llvm_cpu(facts, machine)
    bits, fmas, registers, load = simd(cpu, machine)
    cores = _cores()
    return Target(
        name="host",
        description=f"this machine: {facts.get('model name', machine)}, "
        f"{cores} cores, code for {cpu}",
        machine=Machine(
            cores=cores,
            clock_hz=_clock_hz(facts),
            simd_bits=bits,
            fma_per_cycle=fmas,
            fma_latency_cycles=4.0,  # Intel since Skylake, AMD since Zen 2, Arm
            vector_registers=registers,
            load_bytes_per_cycle=load,
            l1d_bytes=_cache_bytes(1) or _L1D,
            l1d_ways=_WAYS,
            l2_bytes=_cache_bytes(2) or _L2,
            l2_ways=_WAYS,
            l2_shared=False,
            l2_bytes_per_cycle=32.0,  # both manuals: 32 to 64 bytes a cycle
            l3_bytes=_cache_bytes(3),
            l3_ways=_WAYS,
            line_bytes=64,
            dram_bytes_per_s_1=_DRAM_1,
            dram_bytes_per_s_all=_DRAM_ALL,
        ),
        tvm={"kind": "llvm", "mcpu": cpu, "num-cores": cores},
        link_triple=None,
        emulation=None,
        model_memory_bytes=_memory_bytes() // 2,  # assumption: half of the memory
    )


register_probe("host", probe)
