"""Cycles of blocks of instructions, by llvm-mca or our own pipeline, kept on disk.

A block is timed as if it were repeated for ever: what is executed often is a loop, and
the steady state of a loop is what counts.
"""

from __future__ import annotations

import math
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gos_fx import config
from gos_fx.emulator import pipeline, tools
from gos_fx.errors import EmulatorUnavailable

# Raised whenever the numbers below would come out differently.
_FORMAT = 2
_WORD = 4  # bytes of an A64 instruction
_LOAD = 8  # of the load path
# Enough repetitions that filling the pipeline does not count: so many instructions at
# least, within these numbers of repetitions.
_INSTRUCTIONS, _MOST, _FEWEST = 4000, 100, 10
_PROCESSES = 2
_ENCODING = re.compile(r"^\t(.*?)\s*// (?:.*; )?encoding: \[([0-9a-fx,]+)\]$")
_RESULT = re.compile(
    r"^\[\d+\] Code Region - (\d+)|^Iterations:\s+(\d+)|^Total Cycles:\s+(\d+)",
    re.MULTILINE,
)
_VECTOR = re.compile(r"\bv\d+\.(?:16b|8h|4s|2d)\b|\bq\d+\b")
_CALL = re.compile(r"^bl(r?\t)")
_MEMORY = re.compile(r"^(?:ld|st|prfm)")
_LIST = re.compile(r"\{([^}]*)\}(\[\d+\])?")
_ELEMENT = re.compile(r"\.\d*([bhsd])")
_BYTES = {"b": 1, "h": 2, "s": 4, "d": 8}


@dataclass(frozen=True)
class BlockCycles:
    """One execution of a block.

    Attributes:
        model: cycles of the model of the core.
        simd: instructions on 128-bit vectors, without loads and stores.
        words: 64-bit words that are loaded.
    """

    model: float
    simd: int
    words: int


class BlockTimer:
    """Cycles of blocks by one model of a core.

    Args:
        mca_cpu: ``-mcpu`` of llvm-mca.
        llvm: its major version.
        own_pipeline: :mod:`gos_fx.emulator.pipeline` is the model instead.

    Attributes:
        model: which one it is, with its version.

    Raises:
        EmulatorUnavailable: LLVM is not installed.
    """

    def __init__(self, mca_cpu: str, llvm: int, own_pipeline: bool = False) -> None:
        self.cpu, self.own_pipeline = mca_cpu, own_pipeline
        self.mca = tools.find_llvm("llvm-mca", llvm)
        self.disassembler = tools.find_llvm("llvm-mc", llvm)
        self.version = tools.llvm_version(self.mca)
        self.model = f"llvm-mca-{self.version}:{mca_cpu}"
        if own_pipeline:
            self.model = f"in-order:{pipeline.version()}"

    def cycles(self, blocks: Iterable[bytes]) -> dict[bytes, BlockCycles]:
        """Of each block, given as its code.

        Raises:
            EmulatorUnavailable: llvm-mca failed or does not know an instruction.
        """
        wanted = set(blocks)
        try:
            return self._cycles(wanted)
        except sqlite3.OperationalError as error:
            raise _unwritable(str(error)) from error
        except OSError as error:
            raise _unwritable(str(error.strerror)) from error
        except sqlite3.DatabaseError:  # damaged, and all in it can be made again
            _Store.discard()
            return self._cycles(wanted)

    def _cycles(self, wanted: set[bytes]) -> dict[bytes, BlockCycles]:
        with _Store(f"{_FORMAT}:{self.model}") as store:
            known = store.read(wanted)
            missing = sorted(wanted - known.keys())
            if missing:
                made = self._measure(missing)
                store.write(made)
                known |= made
        return known

    def _measure(self, blocks: Sequence[bytes]) -> dict[bytes, BlockCycles]:
        text = self._disassemble(blocks)
        listings = [[text[word] for word in _words(block)] for block in blocks]
        if self.own_pipeline:
            model = {i: pipeline.block_cycles(x) for i, x in enumerate(listings)}
        else:
            model = self._mca_cycles(listings)
        return {
            block: BlockCycles(
                model[i],
                sum(map(is_simd, listings[i])),
                sum(map(loaded_words, listings[i])),
            )
            for i, block in enumerate(blocks)
        }

    def _mca_cycles(self, listings: Sequence[Sequence[str]]) -> dict[int, float]:
        # By length, so that blocks with the same number of repetitions go together.
        jobs: dict[int, list[int]] = {}
        for i, listing in enumerate(listings):
            jobs.setdefault(_iterations(len(listing)), []).append(i)
        parts = [
            (iterations, some[start::_PROCESSES])
            for iterations, some in jobs.items()
            for start in range(_PROCESSES)
            if some[start::_PROCESSES]
        ]
        model: dict[int, float] = {}
        with ThreadPoolExecutor(_PROCESSES) as pool:
            run = pool.map(
                lambda part: self._run_mca(part[0], part[1], listings), parts
            )
            for found in run:
                model |= found
        return model

    def _disassemble(self, blocks: Sequence[bytes]) -> Mapping[bytes, str]:
        words = sorted({word for block in blocks for word in _words(block)})
        lines = (" ".join(f"{byte:#04x}" for byte in word) for word in words)
        output = self._run(
            self.disassembler,
            ["--disassemble", "--triple=aarch64", "--mattr=+all", "--show-encoding"],
            "\n".join(lines),
        )
        text = {}
        for line in output.splitlines():
            if match := _ENCODING.match(line):
                encoding = bytes(int(byte, 16) for byte in match[2].split(","))
                text[encoding] = match[1].split("//")[0].strip()
        for word in words:
            if word not in text:
                raise EmulatorUnavailable(
                    f"LLVM {self.version} does not know the instruction {word.hex()}",
                    do="The program uses extensions that the model cannot time.",
                )
        return text

    def _run_mca(
        self, iterations: int, chosen: Sequence[int], listings: Sequence[Sequence[str]]
    ) -> dict[int, float]:
        # llvm-mca leaves out instructions that the core does not have, and regions of
        # nothing else; it fails if no region is left.
        regions = [(i, listings[i]) for i in chosen] + [(len(listings), ["nop"])]
        text = "".join(
            "\n".join((f"# LLVM-MCA-BEGIN {i}", *listing, f"# LLVM-MCA-END {i}\n"))
            for i, listing in regions
        )
        options = [
            "--mtriple=aarch64",
            f"--mcpu={self.cpu}",
            "--mattr=+all",
            f"--iterations={iterations}",
            "--instruction-info=false",
            "--resource-pressure=false",
            "--skip-unsupported-instructions=lack-sched",
        ]
        output = self._run(self.mca, options, text)
        cycles = {i: float(len(listings[i])) for i in chosen}
        region, repeated = -1, 1
        for match in _RESULT.finditer(output):
            if match[1] is not None:
                region = int(match[1])
            elif match[2] is not None:
                repeated = int(match[2])
            else:
                cycles[region] = int(match[3]) / repeated
        return cycles

    def _run(self, program: Path, options: Sequence[str], text: str) -> str:
        done = subprocess.run(
            [str(program), *options],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = [x for x in done.stderr.splitlines() if "error" in x]
            raise EmulatorUnavailable(
                f"{program.name} failed: {said[0] if said else done.returncode}"
            )
        return done.stdout


def _uncalled(instruction: str) -> str:
    return _CALL.sub(r"b\1", instruction)


def is_simd(instruction: str) -> bool:
    """Whether an instruction computes on 128-bit vectors."""
    return bool(_VECTOR.search(instruction)) and not _MEMORY.match(instruction)


def loaded_words(instruction: str) -> int:
    """64-bit words that a load brings in: what the load path of 64 bits takes."""
    name, _, operands = instruction.partition("\t")
    if not name.startswith("ld"):
        return 0
    if braces := _LIST.search(operands):
        registers = _registers(braces[1])
        element = _ELEMENT.search(braces[1])
        one = braces[2] or name.endswith("r")  # one lane, or one number to all lanes
        if one and element is not None:
            return math.ceil(registers * _BYTES[element[1]] / _LOAD)
        return registers * (2 if _VECTOR.search(braces[1]) else 1)
    first = operands.split(",")[0].strip()
    wide = 2 if first.startswith("q") else 1
    pair = name.startswith(("ldp", "ldnp", "ldxp", "ldaxp"))
    narrow = name == "ldpsw" or first.startswith(("w", "s", "h", "b"))
    return wide * (2 if pair and not narrow else 1)


def _registers(listed: str) -> int:
    """How many registers ``v0.4s, v1.4s`` or ``v0.4s - v3.4s`` names."""
    if " - " not in listed:
        return len(listed.split(","))
    first, last = (int(re.findall(r"v(\d+)", part)[0]) for part in listed.split(" - "))
    return (last - first) % 32 + 1


def _words(block: bytes) -> list[bytes]:
    return [block[i : i + _WORD] for i in range(0, len(block), _WORD)]


def _iterations(instructions: int) -> int:
    return max(_FEWEST, min(_MOST, _INSTRUCTIONS // max(1, instructions)))


def _unwritable(reason: str) -> EmulatorUnavailable:
    return EmulatorUnavailable(
        f"the cache cannot be used: {reason}",
        where=str(_Store.path()),
        do="Set GOS_FX_CACHE to a directory that can be written.",
    )


class _Store:
    """Cycles by code in SQLite, for several processes at once."""

    def __init__(self, model: str) -> None:
        self.model = model

    @staticmethod
    def path() -> Path:
        return config.cache_dir() / "mca.sqlite"

    @classmethod
    def discard(cls) -> None:
        """Remove it, with what SQLite keeps beside it."""
        for suffix in ("", "-journal", "-wal", "-shm"):
            cls.path().with_name(cls.path().name + suffix).unlink(missing_ok=True)

    def __enter__(self) -> _Store:
        self.path().parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(self.path(), timeout=60)
        try:
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS block (model TEXT, code BLOB, cycles REAL, "
                "simd INTEGER, words INTEGER, PRIMARY KEY (model, code)) WITHOUT ROWID"
            )
        except BaseException:  # also Ctrl-C: an open database would stay locked
            self.database.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def read(self, codes: Iterable[bytes]) -> dict[bytes, BlockCycles]:
        query = "SELECT cycles, simd, words FROM block WHERE model = ? AND code = ?"
        found = {}
        for code in codes:
            row = self.database.execute(query, (self.model, code)).fetchone()
            if row is not None:
                found[code] = BlockCycles(*row)
        return found

    def write(self, made: Mapping[bytes, BlockCycles]) -> None:
        rows = [(self.model, k, v.model, v.simd, v.words) for k, v in made.items()]
        with self.database:
            self.database.executemany(
                "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)", rows
            )
