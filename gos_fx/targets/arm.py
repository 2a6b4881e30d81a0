"""ARM boards, as data. Each number has its source beside it.

Sources named more than once:

* A53 TRM: Arm Cortex-A53 MPCore Processor Technical Reference Manual (DDI 0500).
* A55 TRM: Arm Cortex-A55 Core Technical Reference Manual (100442).
* A75 TRM: Arm Cortex-A75 Core Technical Reference Manual (100403).
* ncnn: the table of latencies in ncnn's benchmark/README.md (Tencent, BSD-3). Effective
  memory rates are those with which counts of instructions and of cache lines give its
  milliseconds; they are what a network sees, well below the rate on a datasheet.
* pidramble: power of whole boards in the Raspberry Pi Dramble's benchmarks (J.
  Geerling), idle and with `stress --cpu 4`.
* XNNPACK: the table of single-thread latencies in its README (Google, March 2020).
"""

from __future__ import annotations

from dataclasses import replace

from gos_fx.targets.target import Emulation, Energy, Fit, Machine, Target, register

_KIB, _MIB = 1 << 10, 1 << 20
# Joules for each byte. LPDDR2: 40 pJ/bit, of a busy channel (Malladi et al., "Towards
# Energy-Proportional Datacenter Memory with Mobile DRAM", ISCA 2012). LPDDR4X:
# assumption, a fifth of it, as studies of accelerators have it.
_LPDDR2_BYTE_J, _LPDDR4X_BYTE_J = 8 * 40e-12, 8 * 8e-12
_LINE = 64  # bytes; A53 TRM 6.1, A55 TRM A6.1, A75 TRM A6.1

# Raspberry Pi 3 Model B: BCM2837 (Raspberry Pi documentation, "Processors").
_BCM2837 = Machine(
    cores=4,  # BCM2837
    clock_hz=1.2e9,  # BCM2837
    simd_bits=128,  # Armv8-A Advanced SIMD
    fma_per_cycle=1.0,  # two 64-bit NEON halves, together one 128-bit FMLA a cycle
    # Assumption: the accumulator operand is forwarded. LLVM's AArch64SchedA53.td gives
    # 10 cycles without, the Arm Cortex-A55 Software Optimization Guide 4 with.
    fma_latency_cycles=4.0,
    vector_registers=32,  # Armv8-A: V0-V31
    load_bytes_per_cycle=8.0,  # A53 TRM: 64-bit load path; a 128-bit load takes two
    l1d_bytes=32 * _KIB,  # BCM2837
    l1d_ways=4,  # A53 TRM 6.1
    l2_bytes=512 * _KIB,  # BCM2837
    l2_ways=16,  # A53 TRM 7.1
    l2_shared=True,  # A53 TRM 7.1
    l2_bytes_per_cycle=8.0,  # assumption: hits in L2 keep up with the load path (ncnn)
    l3_bytes=None,
    l3_ways=None,
    line_bytes=_LINE,
    # Effective rates of a Pi 3B+: 64 B per 16.0 ns at one thread, per 24.7 ns at four
    # (ncnn). Assumption: the Model B has the same memory. Latencies use the fits below.
    dram_bytes_per_s_1=64 / 16.0e-9,
    dram_bytes_per_s_all=64 / 24.7e-9,
    in_order=True,  # A53 TRM 1.1
)

# Fitted on the 32 networks of ncnn's table of a Pi 3B+ and this emulator's counts of
# them (benchmarks/calibration; its records.py prints these lines, a test compares).
# The error holds 90 % of the networks when left out of the fit, and 10 % for what that
# cannot show: another board and another compiler. The Model B differs by its clock.
_A53_FITS = (
    Fit(1, 0.9484, 17.58e-9, 0.14, 0.061, "ncnn's table, Raspberry Pi 3B+"),
    Fit(4, 0.7948, 23.51e-9, 0.18, 0.079, "ncnn's table, Raspberry Pi 3B+"),
)

ARM_A53 = register(
    Target(
        name="arm_a53",
        description="Raspberry Pi 3 Model B: BCM2837, 4 x Cortex-A53 at 1.2 GHz, 1 GB",
        machine=_BCM2837,
        tvm={
            "kind": "llvm",
            "mtriple": "aarch64-linux-gnu",
            "mcpu": "cortex-a53",
            "num-cores": 4,
        },
        link_triple="aarch64-linux-gnu.2.28",  # Debian 10; the TVM wheels ask the same
        emulation=Emulation(
            qemu_cpu="cortex-a53",
            midr=0x410FD034,  # A53 TRM 4.3.1: r0p4, the revision of BCM2837
            hwcaps="fp asimd evtstrm crc32 cpuid",  # Raspberry Pi OS, 64 bit
            own_pipeline=True,
            # What a calibration without our pipeline would use.
            mca_cpu="cortex-a55",
            llvm=19,
            simd_per_cycle=1.0,  # two 64-bit NEON halves; the A55 model issues two
            fits=_A53_FITS,
        ),
        # Assumption: half of the board's 1 GB; the rest is the system's and the GPU's.
        model_memory_bytes=512 * _MIB,
        energy=Energy(
            static_w=1.4,  # idle, 260 mA (pidramble)
            # 3.7 W at full load (pidramble) less idle, over the peak of 38.4 GFLOP/s.
            flop_j=2.3 / 38.4e9,
            dram_byte_j=_LPDDR2_BYTE_J,
            source="pidramble's idle and loaded board; LPDDR2: Malladi et al., 2012",
        ),
    )
)

# Raspberry Pi 3 Model B+: BCM2837B0, the same core and caches, clocked higher.
RASPBERRY_PI_3B_PLUS = register(
    replace(
        ARM_A53,
        name="raspberry_pi_3b_plus",
        description="Raspberry Pi 3 Model B+: BCM2837B0, 4 x Cortex-A53, 1.4 GHz, 1 GB",
        machine=replace(_BCM2837, clock_hz=1.4e9),
        energy=Energy(
            static_w=1.9,  # idle, 350 mA (pidramble)
            flop_j=3.2 / 44.8e9,  # 5.1 W (pidramble) less idle, over 44.8 GFLOP/s
            dram_byte_j=_LPDDR2_BYTE_J,
            source="pidramble's idle and loaded board; LPDDR2: Malladi et al., 2012",
        ),
    )
)

# Snapdragon 845 (Qualcomm product brief; caches: AnandTech, "The Snapdragon 845").
_SDM845_BIG = Machine(
    cores=4,  # 4 x Kryo 385 Gold
    clock_hz=2.8e9,  # product brief
    simd_bits=128,  # Armv8.2-A Advanced SIMD
    # Two NEON pipes, but MobileNet v1's 569 M multiply-adds in 88 ms at 2.0 GHz on the
    # same core (Snapdragon 670) are 3.2 per cycle: one 128-bit FMA (XNNPACK).
    fma_per_cycle=1.0,
    fma_latency_cycles=4.0,  # Arm Cortex-A75 Software Optimization Guide, accumulating
    vector_registers=32,  # Armv8-A: V0-V31
    load_bytes_per_cycle=16.0,  # assumption: one 128-bit load, as LLVM's A57 has
    l1d_bytes=64 * _KIB,  # A75 TRM A1.1
    l1d_ways=16,  # A75 TRM A6.1
    l2_bytes=256 * _KIB,  # per core
    l2_ways=8,  # A75 TRM A7.1
    l2_shared=False,  # A75 TRM A7.1: private
    l2_bytes_per_cycle=16.0,  # assumption: hits in L2 are hidden by out-of-order issue
    l3_bytes=2 * _MIB,  # of both clusters; the system cache behind it is not counted
    l3_ways=16,  # DynamIQ Shared Unit TRM A6.1
    line_bytes=_LINE,
    # Effective: 64 B per 5.5 ns at one thread, pooled over A57, A72 and A73 boards
    # (ncnn). Assumption: the 845 is like them, and four cores together get half of the
    # 29.9 GB/s of four 16-bit channels of LPDDR4X-3733 (product brief).
    dram_bytes_per_s_1=64 / 5.5e-9,
    dram_bytes_per_s_all=14.9e9,
)

# Twelve public figures of the chip and of the same core in the Snapdragon 670 (XNNPACK,
# Paddle-Lite, ncnn), on top of what four boards of A57, A72 and A73 cores share (ncnn's
# table): benchmarks/calibration/snapdragon.py, printed by records.py. ncnn's program
# stands for Paddle-Lite's. The error holds every figure when it, or all of its phone's,
# are left out of the fit: so much do engines and phones differ.
_SDM845_SOURCE = "public figures of the chip, boards of A57, A72 and A73 cores"
_SDM845_FITS = (
    Fit(1, 0.9778, 5.086e-9, 0.28, 0.12, _SDM845_SOURCE),
    Fit(4, 0.9778, 2.364e-9, 0.28, 0.12, _SDM845_SOURCE),
)
# Assumption, no public figure: the A53 by LLVM's model of the A55 (the issue of
# ncnn_boards.csv, whose cycles are that model's), and the rates of the memory below.
_SDM845_LITTLE_FITS = (
    Fit(1, 1.05, 11e-9, 0.35, 0.12, "assumption: as a Cortex-A53"),
    Fit(4, 1.05, 6.4e-9, 0.35, 0.12, "assumption: as a Cortex-A53"),
)
_SDM845_BIG_EMULATION = Emulation(
    qemu_cpu="cortex-a76",  # qemu 7.2 has no cortex-a75; same Armv8.2 extensions
    midr=0x516F802D,  # Qualcomm (0x51) part 0x802, Kryo 385 Gold, r6p13
    hwcaps="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
    "asimdrdm lrcpc dcpop asimddp",
    own_pipeline=False,
    mca_cpu="cortex-a57",  # LLVM times A57, A72, A73 and A75 alike
    llvm=19,
    # Two 128-bit pipes; LLVM's model of the A57 has one FMLA in a cycle by itself.
    simd_per_cycle=2.0,
    fits=_SDM845_FITS,
)

SNAPDRAGON_845 = register(
    Target(
        name="snapdragon_845",
        description="Snapdragon 845, big cluster: 4 x Kryo 385 Gold (A75) at 2.8 GHz",
        machine=_SDM845_BIG,
        tvm={
            "kind": "llvm",
            "mtriple": "aarch64-linux-gnu",
            "mcpu": "cortex-a75",
            "mattr": ["+fullfp16", "+dotprod"],  # A75 TRM A1.2
            "num-cores": 4,
        },
        link_triple="aarch64-linux-gnu.2.28",
        emulation=_SDM845_BIG_EMULATION,
        # Assumption: what an app on a phone with 4 to 8 GB can hold unharmed.
        model_memory_bytes=1024 * _MIB,
        energy=Energy(
            static_w=1.0,  # assumption: chip and memory awake, screen off
            flop_j=1.3 / 22.4e9,  # assumption: 1.3 W for one core at its peak
            dram_byte_j=_LPDDR4X_BYTE_J,
            source="assumptions: no figure of the cores alone is public",
        ),
    )
)

SNAPDRAGON_845_LITTLE = register(
    replace(
        SNAPDRAGON_845,
        name="snapdragon_845_little",
        description="Snapdragon 845, little cluster: 4 x Kryo 385 Silver, 1.77 GHz",
        machine=replace(
            _SDM845_BIG,
            clock_hz=1.77e9,  # product brief
            load_bytes_per_cycle=8.0,  # A55 guide: a 128-bit load takes two cycles
            l1d_bytes=32 * _KIB,  # A55 TRM A1.1
            l1d_ways=4,  # A55 TRM A6.1
            l2_bytes=128 * _KIB,  # per core
            l2_ways=4,  # A55 TRM A7.1
            l2_bytes_per_cycle=8.0,  # assumption: as the load path
            # Assumption, no public figure: an in-order core waits longer for a line
            # than the big one, 64 B per 11 ns, and four of them reach 10 GB/s.
            dram_bytes_per_s_1=64 / 11e-9,
            dram_bytes_per_s_all=10e9,
        ),
        emulation=replace(
            _SDM845_BIG_EMULATION,
            midr=0x517F803C,  # Qualcomm part 0x803, Kryo 385 Silver
            mca_cpu="cortex-a55",
            simd_per_cycle=1.0,  # two 64-bit halves; LLVM lets two FMLAs issue
            fits=_SDM845_LITTLE_FITS,
        ),
        tvm={
            "kind": "llvm",
            "mtriple": "aarch64-linux-gnu",
            "mcpu": "cortex-a55",
            "mattr": ["+fullfp16", "+dotprod"],  # A55 TRM A1.2
            "num-cores": 4,
        },
        energy=Energy(
            static_w=1.0,  # as the big cluster
            flop_j=0.25 / 14.2e9,  # assumption: 0.25 W for one core at its peak
            dram_byte_j=_LPDDR4X_BYTE_J,
            source="assumptions: no figure of the cores alone is public",
        ),
    )
)
