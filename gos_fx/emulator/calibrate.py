"""The two constants of a board, fitted on programs whose latency was measured.

    seconds = issue * cycles / (clock * threads) + line_s * lines

``cycles`` come from the issue model for all threads together, ``lines`` are the cache
lines from and to DRAM (misses of the last cache and dirty write-backs).

What counts is the relative error, as programs differ by a factor of a hundred. Its
Huber loss is minimised, because published tables hold single rows that are far off
(a throttled board, a background task) and least squares would follow them; with
squares and with absolute values the constants differ by less than their errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gos_fx.errors import BadOption
from gos_fx.targets.target import Fit

Vector = NDArray[np.float64]

FEWEST = 3  # programs: two constants, and one to see their error
HUBER = 0.05  # relative error from which the loss grows linearly
BELIEF = 0.9  # share of programs that a stated error covers
# Half width of an interval of `BELIEF` on one side, in standard deviations.
_ONE_SIDED = 1.2816
# What no leave-one-out sees, relative: another specimen of the board, another compiler.
# Two Raspberry Pi 3B+ with two versions of one library differ by 7 % in the median (19
# networks, ncnn's issue 3451), which is 10 % as a standard deviation.
UNSEEN = 0.10
_STEPS, _SETTLED = 500, 1e-13
# Columns of cycles and lines whose directions differ by less cannot be told apart.
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class Program:
    """What was counted of a program, and how long it took.

    Attributes:
        cycles: of all threads together, by the issue model.
        lines: from and to DRAM, of all threads.
        seconds: measured on the board.
        clock_hz: of the board's cores.
        threads: that shared the work.
        board: what it was measured on.
    """

    name: str
    cycles: float
    lines: float
    seconds: float
    clock_hz: float
    threads: int = 1
    board: str = ""

    @property
    def issue_s(self) -> float:
        """Seconds that the cycles take where each is one of the core."""
        return self.cycles / (self.clock_hz * self.threads)


@dataclass(frozen=True)
class Constants:
    """``issue`` and ``line_s`` of a :class:`~gos_fx.targets.target.Fit`."""

    issue: float
    line_s: float

    def seconds(self, program: Program) -> float:
        """What they predict."""
        return self.issue * program.issue_s + self.line_s * program.lines


@dataclass(frozen=True)
class Calibration:
    """Constants and how well they predict programs that they were not fitted on.

    Attributes:
        constants: fitted on all programs.
        programs: the programs.
        predicted: seconds of each by constants that were fitted without it (or without
            its board).
    """

    constants: Constants
    programs: tuple[Program, ...]
    predicted: tuple[float, ...]

    @property
    def measured(self) -> Vector:
        return np.array([program.seconds for program in self.programs])

    @property
    def errors(self) -> Vector:
        """predicted / measured - 1 of each program."""
        return np.array(self.predicted) / self.measured - 1

    @property
    def median(self) -> float:
        return float(np.median(np.abs(self.errors)))

    @property
    def worst(self) -> float:
        return float(np.max(np.abs(self.errors)))

    @property
    def tau(self) -> float:
        """Kendall's, of the predicted order against the measured one."""
        return kendall_tau(self.predicted, self.measured)

    @property
    def covering(self) -> float:
        """Relative half width around a prediction that holds ``BELIEF`` of programs.

        The k-th smallest error of n, k = BELIEF (n + 1) rounded up: of a program that
        is yet to come, that is right whatever the distribution.
        """
        off = np.sort(np.abs(self.measured / np.array(self.predicted) - 1))
        rank = min(len(off), int(np.ceil(BELIEF * (len(off) + 1))))
        return float(off[rank - 1])

    @property
    def noise(self) -> float:
        """What two programs on one board do not share: a difference beyond the two
        noises together has the right sign in ``BELIEF`` of cases."""
        off = np.log(np.array(self.predicted) / self.measured)
        boards = [program.board for program in self.programs]
        shared = {b: _median_where(off, boards, b) for b in dict.fromkeys(boards)}
        if len(shared) > 1:  # each board's own scale is common to its programs
            off = off - np.array([shared[b] for b in boards])
        return float(_ONE_SIDED * np.sqrt(np.mean(off**2)))

    def fit(self, threads: int, source: str, unseen: float = UNSEEN) -> Fit:
        """The record of a target.

        Args:
            unseen: relative error that the programs cannot show.
        """
        return Fit(
            threads=threads,
            issue=self.constants.issue,
            line_s=self.constants.line_s,
            error=float(np.hypot(self.covering, unseen)),
            noise=self.noise,
            source=source,
        )


def calibrate(
    programs: Sequence[Program],
    leave_out: Callable[[Program], Hashable] = lambda program: program,
    prior: tuple[Constants, float] | None = None,
) -> Calibration:
    """Fit on all programs, and once without each group for the errors.

    Args:
        programs: at least three, of one number of threads for a useful result.
        leave_out: programs for which it gives the same are left out together.
        prior: as in :func:`fit`.

    Raises:
        BadOption: too few programs, or they do not tell the constants apart.
    """
    groups = list(dict.fromkeys(map(leave_out, programs)))
    if len(programs) < FEWEST or len(groups) < 2:
        raise BadOption(
            f"{len(programs)} programs in {len(groups)} groups are too few",
            where="measured programs",
            do=f"Measure at least {FEWEST}, of different sizes and kinds.",
        )
    constants = fit(programs, prior)
    without = {
        group: fit([p for p in programs if leave_out(p) != group], prior)
        for group in groups
    }
    predicted = tuple(without[leave_out(p)].seconds(p) for p in programs)
    return Calibration(constants, tuple(programs), predicted)


def fit(
    programs: Sequence[Program], prior: tuple[Constants, float] | None = None
) -> Constants:
    """The constants, neither negative, of least Huber loss of the relative error.

    Args:
        prior: constants believed before and the relative standard deviation of that
            belief; it weighs as much as programs with an error of ``HUBER`` do.

    Raises:
        BadOption: the programs do not tell the two constants apart.
    """
    seconds = np.array([program.seconds for program in programs])
    issue_s = np.array([program.issue_s for program in programs])
    lines = np.array([program.lines for program in programs])
    rows = np.stack([issue_s / seconds, lines / seconds], axis=1)
    trust = np.ones(len(rows))
    if prior is not None:
        believed, deviation = prior
        more = np.diag([1 / believed.issue, 1 / believed.line_s])
        rows = np.concatenate([rows, more])
        trust = np.concatenate([trust, np.full(2, (HUBER / deviation) ** 2)])
    _check_told_apart(rows, programs)
    issue, line_s = least_huber(rows, trust)
    return Constants(float(issue), float(line_s))


def least_huber(rows: Vector, trust: Vector) -> Vector:
    """The x >= 0 of least Huber loss of rows @ x - 1, each row weighed by its trust."""
    solution = np.zeros(rows.shape[1])
    weights = trust
    for _ in range(_STEPS):
        last, solution = solution, _least_squares(rows, weights)
        if np.max(np.abs(solution - last)) <= _SETTLED * np.max(solution):
            break
        off = np.abs(rows @ solution - 1)
        weights = trust * np.minimum(1.0, HUBER / np.maximum(off, HUBER))
    return solution


def kendall_tau(a: Sequence[float] | Vector, b: Sequence[float] | Vector) -> float:
    """Kendall's tau-b: +1 for the same order, -1 for the reverse; ties in between.

    NaN where one of the two has no order at all.
    """
    signs = [np.sign(np.subtract.outer(np.array(x), np.array(x))) for x in (a, b)]
    pairs = np.sqrt(np.sum(signs[0] ** 2) * np.sum(signs[1] ** 2))
    return float(np.sum(signs[0] * signs[1]) / pairs) if pairs else float("nan")


def _median_where(off: Vector, boards: Sequence[str], board: str) -> float:
    return float(np.median(off[np.array([b == board for b in boards])]))


def _check_told_apart(rows: Vector, programs: Sequence[Program]) -> None:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=0), np.finfo(float).tiny)
    apart = 1 - abs(float(unit[:, 0] @ unit[:, 1]))
    if len(rows) >= 2 and np.all(np.any(rows > 0, axis=0)) and apart > _SAME_DIRECTION:
        return
    names = ", ".join(program.name for program in programs[:4])
    raise BadOption(
        "the programs do not tell computing and memory apart: each spends the same "
        f"share of its time on either ({names}{', ...' if len(programs) > 4 else ''})",
        where="measured programs",
        do="Add some that fit into the cache and some that do not.",
    )


def _least_squares(rows: Vector, weights: Vector) -> Vector:
    """min sum of weights (rows x - 1)^2, x >= 0; exact, as there are few columns."""
    scale = np.linalg.norm(rows, axis=0)
    a, root = rows / scale, np.sqrt(weights)
    best, least = np.zeros(len(scale)), np.inf
    for size in range(len(scale), 0, -1):
        for columns in itertools.combinations(range(len(scale)), size):
            x = np.zeros(len(scale))
            chosen = list(columns)
            x[chosen] = np.linalg.lstsq(a[:, chosen] * root[:, None], root, rcond=None)[
                0
            ]
            loss = float(weights @ (a @ x - 1) ** 2)
            if np.min(x) >= 0 and loss < least:
                best, least = x, loss
        if size == len(scale) and least < np.inf:
            break  # the free minimum is allowed
    found: Vector = best / scale
    return found
