"""The targets' data, and what a wrong name is answered with."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from gos_fx.errors import GosError, UnknownTarget
from gos_fx.targets import get, names, register
from gos_fx.targets.host import cpu_facts, llvm_cpu, simd

ALL = names()


def test_names() -> None:
    assert ALL[:4] == (
        "arm_a53",
        "raspberry_pi_3b_plus",
        "snapdragon_845",
        "snapdragon_845_little",
    )
    assert "host" in ALL


@pytest.mark.parametrize("name", ALL)
def test_each_target_is_complete_and_a_value(name: str) -> None:
    target = get(name)
    machine = target.machine
    assert target.name == name and target.description
    assert get(target) is target
    assert pickle.loads(pickle.dumps(target)) == target
    assert hash(target) == hash(get(name))
    assert machine.cores >= 1 and target.threads == machine.cores
    assert 5e8 < machine.clock_hz < 1e10
    assert machine.lanes in (4, 8, 16) and machine.lanes * 32 == machine.simd_bits
    assert machine.vector_registers in (16, 32)
    assert machine.l1d_bytes < machine.l2_bytes
    assert target.tvm["kind"] == "llvm" and target.tvm["num-cores"] == machine.cores
    assert (target.link_triple is None) == (name == "host") == (target.qemu_cpu is None)
    assert target.model_memory_bytes > machine.l2_bytes


def test_arm_a53_is_a_raspberry_pi_3() -> None:
    machine = get("arm_a53").machine
    assert (machine.cores, machine.clock_hz) == (4, 1.2e9)
    assert (machine.l1d_bytes, machine.l2_bytes) == (32 * 1024, 512 * 1024)
    assert machine.dram_bytes_per_s(1) == pytest.approx(4.0e9)
    assert machine.dram_bytes_per_s(4) == pytest.approx(2.59e9, rel=1e-3)
    assert machine.dram_bytes_per_s_all <= machine.dram_bytes_per_s(2) <= 4.0e9
    assert machine.dram_bytes_per_s(9) == machine.dram_bytes_per_s(4)
    assert machine.peak_flops == pytest.approx(38.4e9)
    faster = get("raspberry_pi_3b_plus").machine
    assert faster == replace(machine, clock_hz=1.4e9)


def test_cache_share() -> None:
    pi, phone = get("arm_a53").machine, get("snapdragon_845").machine
    assert pi.cache_bytes(1) == 512 * 1024 and pi.cache_bytes(4) == 128 * 1024
    assert phone.cache_bytes(1) == 2 << 20 and phone.cache_bytes(4) == 512 * 1024


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownTarget, match=r"'arm_a5'.*Did you mean 'arm_a53'"):
        get("arm_a5")
    with pytest.raises(GosError, match="Known: arm_a53"):
        get("zx81")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        register(get("arm_a53"))


ZEN4 = (
    "vendor_id : AuthenticAMD\ncpu family : 25\nflags : sse4_2 popcnt ssse3 avx2 fma "
    "bmi1 bmi2 f16c movbe sse4a clzero clwb vaes vpclmulqdq avx512f avx512bw avx512cd "
    "avx512dq avx512vl avx512_bf16 avx512_vbmi2 avx512_vnni gfni\n"
)


@pytest.mark.parametrize(
    ("text", "machine", "cpu"),
    [
        (ZEN4, "x86_64", "znver4"),
        (ZEN4.replace("avx512f", ""), "x86_64", "znver3"),
        (ZEN4.replace("AuthenticAMD", "GenuineIntel"), "x86_64", "cascadelake"),
        (ZEN4.replace("avx2", ""), "x86_64", "x86-64-v2"),
        ("vendor_id : Other\nflags : sse2\n\nflags : avx2", "x86_64", "x86-64"),
        ("CPU implementer : 0x41\nCPU part : 0xd03", "aarch64", "cortex-a53"),
        ("CPU implementer : 0x61\nCPU part : 0x022", "aarch64", "generic"),
    ],
)
def test_llvm_name_of_a_processor(text: str, machine: str, cpu: str) -> None:
    assert llvm_cpu(cpu_facts(text), machine) == cpu


def test_simd_of_a_processor() -> None:
    assert simd("znver4", "x86_64")[0] == 512
    assert simd("haswell", "x86_64") == (256, 2.0, 16, 64.0)
    assert simd("cortex-a53", "aarch64")[0] == 128


def test_host_is_read_from_this_machine() -> None:
    machine = get("host").machine
    assert get("host") is get("host")
    if Path("/sys/devices/system/cpu/cpu0/cache/index0/size").exists():
        assert machine.l1d_bytes >= 16 << 10
