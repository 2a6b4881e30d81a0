"""Every instruction in each of its forms."""

from __future__ import annotations

import pytest
from cases_of_linear_algebra import LINEAR_ALGEBRA
from cases_of_maps import MAPS
from cases_of_structure import STRUCTURE

CASES = {
    f"{opcode} {i}": (opcode, case)
    for opcode, cases in (LINEAR_ALGEBRA | MAPS | STRUCTURE).items()
    for i, case in enumerate(cases)
}
every_case = pytest.mark.parametrize(
    ("opcode", "case"),
    [
        pytest.param(opcode, case, id=name.replace(" ", "-"))
        for name, (opcode, case) in CASES.items()
    ],
)
