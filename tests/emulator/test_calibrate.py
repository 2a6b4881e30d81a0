"""Fits of the boards' constants, and the errors stated with them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.calibration import boards, snapdragon
from gos_fx.emulator import calibrate as calibration
from gos_fx.emulator.calibrate import (
    Constants,
    Program,
    calibrate,
    fit,
    kendall_tau,
)
from gos_fx.errors import BadOption
from gos_fx.targets import get
from gos_fx.targets.target import Fit

TRUTH = Constants(issue=0.9, line_s=12e-9)


def synthetic(
    count: int, truth: Constants = TRUTH, spread: float = 0.0, threads: int = 1
) -> list[Program]:
    """Programs of a board that follows the formula, up to a relative spread."""
    rng = random.Random(7)
    programs = []
    for i in range(count):
        cycles = 10 ** rng.uniform(7, 9)
        lines = cycles * rng.uniform(0.001, 0.05)
        exact = Program(f"p{i}", cycles, lines, 1.0, 1.5e9, threads, "synthetic")
        seconds = truth.seconds(exact) * (1 + rng.uniform(-spread, spread))
        programs.append(replace(exact, seconds=seconds))
    return programs


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("truth", [TRUTH, Constants(1.3, 0.5e-9)])
def test_known_constants_are_found_again(truth: Constants, threads: int) -> None:
    found = fit(synthetic(6, truth, threads=threads))
    assert found.issue == pytest.approx(truth.issue, rel=1e-9)
    assert found.line_s == pytest.approx(truth.line_s, rel=1e-9)
    result = calibrate(synthetic(6, truth, threads=threads))
    assert result.worst < 1e-9 and result.tau == 1.0 and result.covering < 1e-9


@pytest.mark.parametrize("truth", [Constants(0.0, 9e-9), Constants(1.1, 0.0)])
def test_constants_may_be_zero_and_never_negative(truth: Constants) -> None:
    found = fit(synthetic(8, truth))
    assert found.issue == pytest.approx(truth.issue, abs=1e-9)
    assert found.line_s == pytest.approx(truth.line_s, abs=1e-17)
    noisy = fit(synthetic(8, truth, spread=0.3))
    assert noisy.issue >= 0 and noisy.line_s >= 0


def test_one_wrong_row_moves_little() -> None:
    programs = synthetic(12, spread=0.02)
    wrong = [replace(programs[0], seconds=3 * programs[0].seconds), *programs[1:]]
    without, found = fit(programs[1:]), fit(wrong)
    assert found.issue == pytest.approx(without.issue, rel=0.05)
    assert found.line_s == pytest.approx(without.line_s, rel=0.1)


def test_what_is_left_out_does_not_count() -> None:
    """The prediction of a program is that of constants fitted on the others alone."""
    programs = synthetic(8, spread=0.1)
    result = calibrate(programs)
    others = fit(programs[:3] + programs[4:])
    assert result.predicted[3] == pytest.approx(others.seconds(programs[3]), rel=1e-12)
    slower = [replace(p, seconds=2 * p.seconds) if p.name == "p3" else p
              for p in programs]  # fmt: skip
    assert calibrate(slower).predicted[3] == result.predicted[3]
    assert calibrate(slower).predicted[0] != result.predicted[0]


def test_a_board_is_left_out_as_a_whole() -> None:
    near = [replace(p, board="near") for p in synthetic(6)]
    far = [replace(p, board="far", seconds=2 * p.seconds) for p in synthetic(6)]
    result = calibrate(near + far, leave_out=lambda program: program.board)
    assert result.errors[:6] == pytest.approx([1.0] * 6)
    assert result.errors[6:] == pytest.approx([-0.5] * 6)
    # each board's programs are in the right proportion: all of the error is shared
    assert result.noise == pytest.approx(0, abs=1e-9)


def test_the_stated_error_covers_what_was_not_fitted() -> None:
    programs = synthetic(60, spread=0.1)
    known, unknown = programs[:30], programs[30:]
    result = calibrate(known)
    stated = result.fit(1, "synthetic", unseen=0.0)
    off = [abs(p.seconds / result.constants.seconds(p) - 1) for p in unknown]
    covered = sum(x <= stated.error for x in off) / len(off)
    assert covered >= calibration.BELIEF - 0.1
    assert stated.noise == pytest.approx(1.28 * 0.1 / 3**0.5, rel=0.3)
    assert result.fit(1, "synthetic").error == pytest.approx(
        float(np.hypot(stated.error, calibration.UNSEEN))
    )


def test_a_prior_holds_few_programs_back() -> None:
    prior = (Constants(1.8, 24e-9), 0.02)
    alone, held = fit(synthetic(3)), fit(synthetic(3), prior)
    assert alone.issue < held.issue < 1.8 and alone.line_s < held.line_s < 24e-9
    agreed = fit(synthetic(3), (TRUTH, 0.02))
    assert agreed.issue == pytest.approx(TRUTH.issue)


def test_programs_that_cannot_be_told_apart_are_refused() -> None:
    one = synthetic(1)[0]
    same = [
        replace(one, name=f"n{i}", cycles=i * one.cycles, lines=i * one.lines)
        for i in (1, 2, 3)
    ]
    with pytest.raises(BadOption, match=r"same share of its time.*n1, n2, n3"):
        fit(same)
    with pytest.raises(BadOption, match="same share"):
        fit([replace(p, lines=0.0) for p in synthetic(4)])
    with pytest.raises(BadOption, match="2 programs in 2 groups are too few"):
        calibrate(synthetic(2))


@pytest.mark.parametrize("seed", range(6))
def test_tau_is_scipys(seed: int) -> None:
    rng = random.Random(seed)
    a = [rng.randrange(9) for _ in range(14)]  # with ties
    b = [x + rng.randrange(-4, 5) for x in a]
    assert kendall_tau(a, b) == pytest.approx(float(kendalltau(a, b).statistic))
    assert kendall_tau(a, [-x for x in a]) == pytest.approx(-1.0)
    assert np.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize(("threads", "median"), [(1, 0.035), (4, 0.05)])
def test_the_study_of_the_raspberry_pi(threads: int, median: float) -> None:
    """Its 20 networks by its own counts."""
    result = boards.study(threads)
    assert len(result.programs) == 20
    assert result.median <= median
    assert result.worst <= 0.12 and result.tau >= 0.96
    halves = sorted(boards.halves(boards.study_programs(boards.PI, threads)))
    assert halves[len(halves) // 2] <= median and halves[-1] <= 0.05


def same(record: Fit, again: Fit) -> None:
    """A record of the target is what the data give, rounded."""
    assert record.threads == again.threads
    assert record.issue == pytest.approx(again.issue, rel=2e-3)
    assert record.line_s == pytest.approx(again.line_s, rel=5e-3)
    assert again.error - 1e-3 <= record.error <= again.error + 0.01
    assert record.noise == pytest.approx(again.noise, abs=2e-3)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_record_of_the_raspberry_pi(threads: int) -> None:
    """Data and constants cannot drift apart."""
    result = boards.raspberry_pi(threads)
    assert len(result.programs) == 32
    emulation = get("raspberry_pi_3b_plus").emulation
    assert emulation is not None and emulation == get("arm_a53").emulation
    same(emulation.fit(threads), result.fit(threads, ""))
    assert result.median <= {1: 0.035, 4: 0.05}[threads]
    assert result.tau >= {1: 0.96, 4: 0.94}[threads]


def test_networks_that_are_not_in_the_study() -> None:
    """Twelve published networks by constants of the other twenty."""
    known = {program.name for program in boards.study_programs(boards.PI)}
    for threads in (1, 4):
        programs = boards.programs(boards.PI, threads)
        constants = fit([p for p in programs if p.name in known])
        unknown = [p for p in programs if p.name not in known]
        assert len(unknown) == 12
        assert boards.median_error(constants, unknown) <= 0.07


def test_another_board_with_the_same_core() -> None:
    """RK3399's A53 at 1.5 GHz: only its clock is taken over."""
    constants = boards.raspberry_pi(1).constants
    programs = boards.programs(boards.RK3399_LITTLE)
    assert boards.median_error(constants, programs) <= 0.08


def test_out_of_order_boards_predict_each_other() -> None:
    result = boards.out_of_order()
    assert result.median <= 0.1 and result.worst <= 0.45
    for board in boards.OUT_OF_ORDER:
        mine = [i for i, p in enumerate(result.programs) if p.board == board.name]
        assert len(mine) >= 30
        order = kendall_tau(result.measured[mine], np.array(result.predicted)[mine])
        assert order >= 0.9


def test_the_record_of_the_snapdragon() -> None:
    result = snapdragon.calibrate()
    emulation = get("snapdragon_845").emulation
    assert emulation is not None
    for record, again in zip(emulation.fits, result.fits, strict=True):
        same(record, again)
    assert result.error >= 0.10
    for figure in result.used:
        program = figure.program
        found = emulation.fit(program.threads)
        constants = Constants(found.issue, found.line_s)
        off = program.seconds / constants.seconds(program) - 1
        assert abs(off) <= found.error, figure


def test_figures_that_are_not_used_say_why() -> None:
    figures = snapdragon.figures()
    assert len(figures) == 20
    unused = [figure for figure in figures if figure.role != "fit"]
    assert {f.role for f in unused} == {"both clusters", "threads not stated"}
    # eight threads wait for the little cores: more cores, and yet slower than four
    scale = snapdragon.calibrate().scale
    assert all(scale.seconds(f.program) < f.program.seconds for f in unused)
