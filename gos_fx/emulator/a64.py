"""A64 instructions as an in-order pipeline sees them: what they read and occupy.

Instructions are LLVM's text, ``name<tab>operands``. Latencies and units are those of
the Cortex-A53, from three sources:

* [E] D. Estevez, "qsdr-benchmarks": cycles of instruction sequences measured on a
  Cortex-A53 (github.com/daniestevez/qsdr, tests/instruction_benchmark/aarch64).
* [N] ncnn, "arm a53 a55 dual issue" (docs/developer-guide): rules for FMLA and loads.
* [L] LLVM, AArch64SchedA53.td, for what neither measured: multiplication, division.

What none of them says is marked as assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FLAGS = "nzcv"
_REGISTER = re.compile(r"\b([vqdshbxw])(\d+)\b|\b(?:wsp|sp)\b")
_WIDE = re.compile(r"\bv\d+\.(?:16b|8h|4s|2d)\b|\bq\d+\b")
_LANE = re.compile(r"\]\s*$")
_COMMA = re.compile(r",(?![^\[{]*[\]}])")
_GENERAL = re.compile(r"[xw](?:\d+|zr)\b")
_FUSED = _names("fmla fmls fmadd fmsub fnmadd fnmsub")
_INTEGER_FUSED = _names(
    "mla mls smlal smlal2 umlal umlal2 smlsl smlsl2 umlsl umlsl2 sadalp uadalp sdot "
    "udot"
)
# Two cycles on 128 bits: inferred from ncnn's int8 networks, whose published latencies
# are else a tenth above what is counted, evenly; no measurement of its own.
_PAIRWISE = frozenset(("sadalp", "uadalp"))
_SELECTS = _names("bsl bit bif tbx sri sli")
_COMPARES = _names("cmp cmn tst ccmp ccmn")
_SETS_FLAGS = _names("adds subs ands bics adcs sbcs negs")
_READS_FLAGS = _names(
    "csel cset csinc csinv csneg csetm cinc cinv cneg adc sbc adcs sbcs ccmp ccmn"
)
_PARTIAL = _names("movk bfi bfxil bfm bfc")
_SYSTEM = _names("svc mrs msr dmb isb dsb dc ic clrex tlbi sys")
_BRANCHES = _names("b bl br blr ret cbz cbnz tbz tbnz")
_IDLE = _names("nop hint yield wfe wfi sev bti paciasp autiasp")

_VECTOR = 4  # fadd, fmul [E]; other arithmetic assumed to be alike
_FUSED_RESULT = 8  # a multiplication, then an addition [N]: "4th cycle of each fmla"
_SIMPLE = 3  # logic, permutations and integer additions on vectors: assumed
_INSERT, _EXTRACT = 2, 3  # [E]; the way back assumed
_LOAD, _LOAD_64, _LOAD_128 = 3, 3, 4  # integer assumed; vectors [E]
_MULTIPLY, _DIVIDE = 4, 21  # [L]
_FLOAT_DIVIDE = (14, 18)  # issue and latency in single precision [L]
_FLOAT_DIVIDE_64 = (29, 33)  # in double precision [L]


@dataclass(frozen=True)
class Op:
    """One instruction.

    Attributes:
        reads: (register, cycles after the issue at which it must be there).
        writes: (register, cycles after the issue at which others can read it).
        cycles: that the issue takes.
        halves: 64-bit halves of the SIMD unit that are taken: 0, 1 or 2.
        memory: takes the one load/store unit.
        adds_to: accumulator, which is read late: forwarded from one to the next.
        inserts: register of which a part is written.
        fused: multiplies and adds on floating point.
        loads_vector: loads into SIMD registers.
        leads: can only be the first of two that are issued together.
        alone: is issued by itself.
        branches: may end the cycle: the next instruction comes from elsewhere.
    """

    reads: tuple[tuple[str, int], ...] = ()
    writes: tuple[tuple[str, int], ...] = ()
    cycles: int = 1
    halves: int = 0
    memory: bool = False
    adds_to: str | None = None
    inserts: str | None = None
    fused: bool = False
    loads_vector: bool = False
    leads: bool = False
    alone: bool = False
    branches: bool = False


@lru_cache(maxsize=1 << 16)
def decode(text: str) -> Op:
    """The instruction of a line of assembly."""
    name, _, rest = text.partition("\t")
    name = name.strip()
    operands = tuple(part.strip() for part in _COMMA.split(rest)) if rest else ()
    base = name.split(".")[0]
    if base in _BRANCHES:
        return _branch(name, rest)
    if base in _IDLE:
        return Op()
    if base in _SYSTEM:
        return Op(writes=_all(operands[:1], _LOAD), cycles=4, alone=True)  # assumed
    if name.startswith(("ld", "st", "prf")) and "[" in rest:
        return _memory(name, operands)
    if any(register[0] == "v" for register in registers(rest)):
        return _vector(base, operands, rest)
    return _integer(base, operands)


def registers(text: str) -> list[str]:
    """Registers in order of appearance; ``s1``, ``q1`` and ``v1`` are the same one."""
    found = []
    for match in _REGISTER.finditer(text):
        if match[1] is None:
            found.append("sp")
        else:
            found.append(("v" if match[1] in "vqdshb" else "x") + match[2])
    return found


def is_wide(text: str) -> bool:
    """Whether a 128-bit register or arrangement is named."""
    return _WIDE.search(text) is not None


def _all(operands: tuple[str, ...], latency: int) -> tuple[tuple[str, int], ...]:
    return tuple((r, latency) for part in operands for r in registers(part))


def _now(*operands: str) -> tuple[tuple[str, int], ...]:
    return _all(operands, 0)


def _branch(name: str, rest: str) -> Op:
    """A compare and its conditional branch are issued together [E]."""
    reads = _now(rest)
    if name.startswith("b."):
        reads = ((FLAGS, 0),)
    elif name == "ret" and not reads:
        reads = (("x30", 0),)
    writes = (("x30", 1),) if name in ("bl", "blr") else ()
    return Op(reads, writes, branches=True)


def _memory(name: str, operands: tuple[str, ...]) -> Op:
    at = next(i for i, part in enumerate(operands) if part.startswith("["))
    address, behind = operands[at], operands[at + 1 :]
    reads = _now(address, *behind)
    writes = _all((address,), 1)[:1] if address.endswith("!") or behind else ()
    if name.startswith("prf"):
        return Op(reads, memory=True)
    data = _data(operands[:at])
    vector = bool(data) and data[0][0] == "v"
    if name.startswith("ld"):
        made, cycles, halves = _load(name, operands[:at], data, vector)
        if "]" in operands[0]:  # one lane: the others stay
            reads += tuple((register, 0) for register in data)
        # exclusive and acquiring loads
        alone = name.startswith(("ldx", "ldax", "ldar"))
        return Op(
            reads,
            (*made, *writes),
            cycles,
            halves,
            memory=True,
            loads_vector=vector,
            alone=alone,
        )
    # A store of several registers takes a cycle for each, and reads it then [E].
    wide = vector and is_wide(operands[0])
    several = len(data) if vector else 1
    reads += tuple((r, i if vector else 0) for i, r in enumerate(data))
    if operands[0].startswith("{") and not name.startswith("st1"):
        several += len(data)  # interleaving: assumed
    halves = 2 if wide else int(vector)
    return Op(reads, writes, several, halves, memory=True)


def _data(operands: tuple[str, ...]) -> list[str]:
    found = [register for part in operands for register in registers(part)]
    if operands and " - " in operands[0]:
        first, last = (int(register[1:]) for register in found)
        return [f"v{(first + i) % 32}" for i in range((last - first) % 32 + 1)]
    return found


def _load(
    name: str, operands: tuple[str, ...], data: list[str], vector: bool
) -> tuple[tuple[tuple[str, int], ...], int, int]:
    """Registers with their latencies, issue cycles, SIMD halves: the path from L1 is
    64 bits wide, so that each register takes one cycle for each of its words [E]."""
    if not vector:
        pair = name in ("ldp", "ldnp") and operands[0].startswith("x")
        return (
            tuple((r, _LOAD + i * pair) for i, r in enumerate(data)),
            2 if pair else 1,
            0,
        )
    if operands[0].startswith("{") and ("]" in operands[0] or name.endswith("r")):
        # one number to a lane or to all: does not go beside an insertion [E]
        return tuple((r, _LOAD_128 + i) for i, r in enumerate(data)), len(data), 2
    wide = is_wide(operands[0])
    words, latency = (2, _LOAD_128) if wide else (1, _LOAD_64)
    apart = 0 if not operands[0].startswith("{") or name == "ld1" else len(data)
    made = tuple((r, latency + words * i + apart) for i, r in enumerate(data))
    return made, words * len(data) + apart, 2 if wide else 1  # taking apart: assumed


def _vector(base: str, operands: tuple[str, ...], rest: str) -> Op:
    first = operands[0]
    sources = _now(*operands[1:])
    target = registers(first)[0] if registers(first) else ""
    if base in ("fcmp", "fcmpe", "fccmp"):
        return Op(_now(*operands), ((FLAGS, _VECTOR),), halves=1)
    if _GENERAL.match(first):
        # to a general register: does not go beside a 128-bit instruction [E]
        return Op(sources, ((target, _EXTRACT),), halves=2 if "[" in rest else 1)
    if len(operands) > 1 and _GENERAL.match(operands[1]) and base in _MOVES:
        inserts = target if _LANE.search(first) else None
        return Op(sources, ((target, _INSERT),), halves=1, inserts=inserts)
    wide = is_wide(rest)
    halves = 2 if wide else 1
    if base in _FUSED or base in _INTEGER_FUSED:
        adds_to = target
        if base in ("fmadd", "fmsub", "fnmadd", "fnmsub"):
            adds_to, sources = sources[-1][0], sources[:-1]
        fused = base in _FUSED
        latency = _FUSED_RESULT if fused else _VECTOR
        return Op(
            sources,
            ((target, latency),),
            2 if base in _PAIRWISE and wide else 1,
            halves,
            adds_to=adds_to,
            fused=fused,
            leads=wide,
        )
    cycles, latency = 1, _latency(base)
    if base in ("fdiv", "fsqrt"):
        double = ".2d" in rest or first.startswith("d")
        cycles, latency = _FLOAT_DIVIDE_64 if double else _FLOAT_DIVIDE
        if wide:  # both halves have two lanes to do: assumed
            cycles, latency = 2 * cycles, cycles + latency
    if base in _SELECTS or _LANE.search(first):
        sources += ((target, 0),)
    return Op(sources, ((target, latency),), cycles, halves, leads=wide)


_MOVES = ("mov", "ins", "fmov", "dup")
_SIMPLE_NAMES = _names(
    "movi mvni and orr eor bic orn mov fmov dup ext zip1 zip2 uzp1 uzp2 trn1 trn2 "
    "rev64 rev32 rev16 add sub neg abs smax smin umax umin shl sshr ushr sshll ushll "
    "sshll2 ushll2 sxtl uxtl sxtl2 uxtl2 xtn xtn2 shll cmeq cmgt cmge cmhi cmhs cmlt "
    "cmle cmtst bsl bit bif fabs fneg ins"
)


def _latency(base: str) -> int:
    return _SIMPLE if base in _SIMPLE_NAMES else _VECTOR


def _integer(base: str, operands: tuple[str, ...]) -> Op:
    flags = ((FLAGS, 0),)
    if base in _COMPARES:
        reads = _now(*operands) + (flags if base in _READS_FLAGS else ())
        return Op(reads, flags)
    latency, cycles = 1, 1
    if base in ("sdiv", "udiv"):
        latency = cycles = _DIVIDE
    elif base.endswith(("mul", "mulh", "mull", "madd", "msub", "addl", "subl", "mneg")):
        latency = _MULTIPLY
    writes = _all(operands[:1], latency)
    reads = _now(*operands[1:])
    if base in _PARTIAL:
        reads += _now(operands[0])
    if base in _READS_FLAGS:
        reads += flags
    if base in _SETS_FLAGS:
        writes += flags
    return Op(reads, writes, cycles)
