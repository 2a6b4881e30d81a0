"""A table of named things: no name twice; a wrong one is answered with near ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to entries, in the order of registration.

    ``kind`` is what an entry is called in messages ("instruction", "target").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Add ``entry`` and return it.

        Raises:
            ValueError: the name is taken; two declarations of one thing are a bug.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def find(self, name: str) -> T | None:
        """The entry of this name, or None."""
        return self._entries.get(name)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise KeyError(f"no {self.kind} {name!r}. {self.suggest(name)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> tuple[str, ...]:
        """All names in the order of registration."""
        return tuple(self._entries)

    def near(self, name: str) -> tuple[str, ...]:
        """At most three names that look like ``name``, the nearest first."""
        return tuple(difflib.get_close_matches(name, self._entries, n=3, cutoff=0.6))

    def suggest(self, name: str) -> str:
        """A sentence that helps who wrote ``name``."""
        near = self.near(name)
        if near:
            return f"Did you mean {' or '.join(map(repr, near))}?"
        return f"Known: {', '.join(self._entries) or 'none'}."
