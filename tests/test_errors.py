"""Errors say what, where and what to do; each survives pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from gos_fx import errors
from gos_fx.errors import GosError

CLASSES = [
    c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, GosError)
]


def test_message() -> None:
    assert str(GosError("no such thing", "argument x", "Give one.")) == (
        "no such thing (argument x). Give one."
    )
    assert str(GosError("It fails.", where="a.py")) == "It fails (a.py)"
    assert str(GosError("It fails.", do="Stop.")) == "It fails. Stop."


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_each_class(error: type[GosError]) -> None:
    made = error("what", where="where", do="do")
    assert issubclass(error, GosError) and error.__doc__
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is error
    assert (copy.what, copy.where, copy.do) == ("what", "where", "do")
    assert str(copy) == str(made)
