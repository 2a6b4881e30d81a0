"""The record of a target: data for the latency model, TVM, qemu and the linker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gos_fx import config
from gos_fx.errors import BadOption, UnknownTarget
from gos_fx.registry import Registry


@dataclass(frozen=True)
class Machine:
    """One cluster of equal cores and the memory behind it.

    Sizes are in bytes, rates in bytes per second or per cycle of one core. A cache that
    a core has to itself (``l2_shared`` false) is given per core; L3 is shared by all.
    ``ways`` is the associativity. ``fma_per_cycle``
    counts SIMD instructions, each of ``simd_bits``; ``fma_latency_cycles`` is the time
    from one FMA to the next on the same accumulator. ``dram_bytes_per_s_1`` is what one
    thread gets, ``dram_bytes_per_s_all`` what all cores get together. ``in_order``: the
    core issues instructions in the order of the code, so that code for it must be.
    """

    cores: int
    clock_hz: float
    simd_bits: int
    fma_per_cycle: float
    fma_latency_cycles: float
    vector_registers: int
    load_bytes_per_cycle: float
    l1d_bytes: int
    l1d_ways: int
    l2_bytes: int
    l2_ways: int
    l2_shared: bool
    l2_bytes_per_cycle: float
    l3_bytes: int | None
    l3_ways: int | None
    line_bytes: int
    dram_bytes_per_s_1: float
    dram_bytes_per_s_all: float
    in_order: bool = False

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
class Fit:
    """Seconds of a program on ``threads`` cores, from what the emulator counts:

        seconds = issue * cycles / clock + line_s * lines

    ``cycles`` are those of the busiest thread (of all work divided by ``threads``,
    where it divides evenly), ``lines`` the cache lines from and to DRAM of all threads.

    Attributes:
        threads: cores in use.
        issue: cycles of the core for each cycle of the issue model.
        line_s: seconds for each line that comes from or goes to DRAM.
        error: relative half width of the interval in which the board's own latency is
            believed to be.
        noise: the part of it that two programs on this board do not share, relative.
        source: what the constants were fitted on.
    """

    threads: int
    issue: float
    line_s: float
    error: float
    noise: float
    source: str


@dataclass(frozen=True)
class Emulation:
    """How a board is emulated, and how its time follows from what was counted.

    A block of instructions takes the cycles of our own in-order pipeline, or the
    largest of: the cycles of ``llvm-mca -mcpu=mca_cpu``, its 128-bit SIMD instructions
    divided by ``simd_per_cycle``, its loaded bytes divided by the machine's
    ``load_bytes_per_cycle``.

    Attributes:
        qemu_cpu: ``-cpu`` of qemu-aarch64.
        midr: Main ID register of the core, as the kernel shows it.
        hwcaps: features that the board's /proc/cpuinfo lists.
        own_pipeline: the blocks are timed by :mod:`gos_fx.emulator.pipeline`.
        mca_cpu: LLVM's scheduling model.
        llvm: major version of LLVM that the fits belong to.
        simd_per_cycle: 128-bit SIMD instructions issued in one cycle.
        fits: constants for some numbers of threads, the fewest first; between two the
            constants are interpolated.
    """

    qemu_cpu: str
    midr: int
    hwcaps: str
    own_pipeline: bool
    mca_cpu: str
    llvm: int
    simd_per_cycle: float
    fits: tuple[Fit, ...]

    def fit(self, threads: int) -> Fit:
        """The constants for so many threads; beyond the last fit they are the last's.

        Raises:
            ValueError: ``threads`` is below one.
        """
        if threads < 1:
            raise ValueError(f"{threads} threads")
        above = [fit for fit in self.fits if fit.threads >= threads]
        below = [fit for fit in self.fits if fit.threads <= threads]
        if not (above and below):
            return (above or below)[0 if above else -1]
        low, high = below[-1], above[0]
        if low is high:
            return low
        share = (threads - low.threads) / (high.threads - low.threads)
        return Fit(
            threads,
            low.issue + share * (high.issue - low.issue),
            low.line_s + share * (high.line_s - low.line_s),
            max(low.error, high.error),
            max(low.noise, high.noise),
            f"interpolated: {low.source}"
            if low.source == high.source
            else f"interpolated: {low.source}; {high.source}",
        )


@dataclass(frozen=True)
class Energy:
    """A stated model of energy, not a measurement:

        joules = static_w * seconds + flop_j * flops + dram_byte_j * bytes

    ``source`` says where the constants come from.
    """

    static_w: float
    flop_j: float
    dram_byte_j: float
    source: str


@dataclass(frozen=True)
class BoardAddress:
    """Where boards of a kind answer TVM's RPC.

    Attributes:
        host, port: of the tracker, or of one board's RPC server.
        key: what the boards are registered under; a server alone may have none.
        tracker: False: ``host`` and ``port`` are those of a board's server.
    """

    host: str
    port: int
    key: str
    tracker: bool = True

    def __str__(self) -> str:
        kind = "tracker" if self.tracker else "server"
        return f"{kind} {self.host}:{self.port}, key {self.key!r}"


def board_address(text: str, key: str, *, tracker: bool = True) -> BoardAddress:
    """The address in ``"host:port"``; IPv6 hosts stand in brackets.

    Raises:
        BadOption: the text is not of this form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise BadOption(
            f"{text!r} is not host:port",
            where="address of a board",
            do='Write for instance "192.168.0.7:9190".',
        )
    return BoardAddress(host.strip("[]"), int(port), key, tracker)


@dataclass(frozen=True)
class Target:
    """A machine to optimize and compile for.

    Attributes:
        name: how ``gos_fx.targets()`` lists it.
        description: board, chip and cores in one line.
        machine: the numbers of the latency model.
        tvm: what ``tvm.target.Target`` takes; not part of the hash.
        link_triple: zig's name of the platform, None for this machine.
        emulation: how it is emulated, None where no emulator is needed or known.
        model_memory_bytes: what weights and live activations may take together.
        energy: constants of the energy model, None where none are known.
        board: where such boards can be reached, None where that is not said.
    """

    name: str
    description: str
    machine: Machine
    tvm: Mapping[str, object] = field(hash=False)
    link_triple: str | None
    emulation: Emulation | None
    model_memory_bytes: int
    energy: Energy | None = None
    board: BoardAddress | None = None

    def on_board(
        self,
        tracker: str | None = None,
        key: str | None = None,
        *,
        server: str | None = None,
    ) -> Target:
        """This target, measured on boards that answer TVM's RPC.

        Args:
            tracker: ``"host:port"`` of the tracker; the environment's unless given.
            key: what the boards are registered under; the environment's unless given.
            server: ``"host:port"`` of a board's own server, in place of a tracker.

        Raises:
            BadOption: an address is not ``host:port``, both kinds are given, or
                neither the arguments nor the environment say tracker and key.
        """
        if server is not None:
            if tracker is not None:
                raise BadOption("both a tracker and a server", where="on_board")
            address = board_address(server, key or "", tracker=False)
            return replace(self, board=address)
        tracker, key = tracker or config.tracker(), key or config.tracker_key()
        if tracker is None or key is None:
            raise BadOption(
                f"no {'tracker' if tracker is None else 'key'} is given",
                where="on_board",
                do="Give tracker= and key=, or set TVM_TRACKER_HOST, TVM_TRACKER_PORT "
                "and TVM_TRACKER_KEY.",
            )
        return replace(self, board=board_address(tracker, key))

    @property
    def qemu_cpu(self) -> str | None:
        """``-cpu`` of qemu-aarch64, None where there is no emulator."""
        return None if self.emulation is None else self.emulation.qemu_cpu

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

    A name that ends in ``.json`` is the path of a target's record.

    Raises:
        UnknownTarget: there is none of this name, or no such file.
        BadOption: the file holds no target.
    """
    if isinstance(target, Target):
        return target
    found = _TARGETS.find(target) if isinstance(target, str) else None
    if found is None and isinstance(target, str) and target.endswith(".json"):
        from gos_fx.targets.files import load_target

        return load_target(target)
    if found is None:
        raise UnknownTarget(
            f"There is no target {target!r}",
            where="argument target",
            do=f"{_TARGETS.suggest(str(target))} gos_fx.targets() lists all.",
        )
    return found()
