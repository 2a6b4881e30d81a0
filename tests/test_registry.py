from __future__ import annotations

import pytest

from gos_fx.registry import Registry


@pytest.fixture
def fruits() -> Registry[int]:
    table: Registry[int] = Registry("fruit")
    table.register("apple", 1)
    table.register("pear", 2)
    return table


def test_entries_keep_their_order(fruits: Registry[int]) -> None:
    assert fruits.names() == tuple(fruits) == ("apple", "pear")
    assert fruits["pear"] == 2 and "pear" in fruits and len(fruits) == 2
    assert fruits.find("plum") is None


def test_a_second_declaration_raises(fruits: Registry[int]) -> None:
    with pytest.raises(ValueError, match="fruit 'apple' is already registered"):
        fruits.register("apple", 3)
    assert fruits["apple"] == 1


def test_near_names(fruits: Registry[int]) -> None:
    assert fruits.near("aple") == ("apple",)
    assert fruits.suggest("aple") == "Did you mean 'apple'?"
    assert fruits.suggest("zzz") == "Known: apple, pear."
    with pytest.raises(KeyError, match=r"no fruit 'aple'. Did you mean 'apple'"):
        fruits["aple"]
