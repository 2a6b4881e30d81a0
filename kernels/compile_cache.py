"""Compiled libraries on disk, by a key of all that decides them.

One file for each entry: the SHA-256 of the rest, a line of JSON, the library. A file
appears whole or not at all, whoever else writes the same entry; one that is not what
was written is deleted and made again. The least recently used go first where all
together are too large.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from gos_fx import config

logger = logging.getLogger("gos_fx")

# Bytes of all entries together; with 0 nothing is kept.
LIMIT = 2 << 30
_FOLDER = "compiled-1"  # the number is that of the form of an entry
_ENTRY, _CHECKED, _PARTIAL = ".entry", ".checked", ".partial"
_LONGEST_WRITE_S = 3600.0  # a partial file as old as that was left by a process
_CHUNK = 1 << 20
_HEX = 64


def folder() -> Path:
    """Where the entries lie. It is not created here."""
    return config.cache_dir() / _FOLDER


def fetch(key: str, library: Path) -> dict[str, Any] | None:
    """Write the library of an entry to ``library``; what was stored with it.

    None where there is no such entry, or it cannot be read or is damaged.
    """
    if not LIMIT:
        return None
    path = folder() / (key + _ENTRY)
    partial = library.with_name(library.name + _PARTIAL)
    try:
        with path.open("rb") as file, partial.open("wb") as copy:
            wanted = file.read(_HEX).decode("ascii", "replace")
            line = file.readline()
            found = hashlib.sha256(line)
            for chunk in _chunks(file):
                found.update(chunk)
                copy.write(chunk)
        if found.hexdigest() != wanted:
            logger.warning("a damaged entry of the compile cache is deleted: %s", path)
            partial.unlink()
            path.unlink(missing_ok=True)
            return None
        os.replace(partial, library)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if not isinstance(error, FileNotFoundError):
            logger.warning("an entry of the compile cache cannot be read: %s", error)
        return None
    with suppress(OSError):  # it is used as well where its time cannot be set
        os.utime(path)
    result: dict[str, Any] = json.loads(line)
    return result


def store(key: str, library: Path, result: Mapping[str, Any]) -> None:
    """Keep a library with plain data; a disk that cannot be written keeps nothing."""
    if library.stat().st_size > LIMIT:
        return
    try:
        with _new_file(key + _ENTRY) as file:
            line = json.dumps(dict(result)).encode() + b"\n"
            digest = hashlib.sha256(line)
            file.write(b"0" * _HEX + line)
            with library.open("rb") as source:
                for chunk in _chunks(source):
                    digest.update(chunk)
                    file.write(chunk)
            file.seek(0)
            file.write(digest.hexdigest().encode())
        _evict(keep=key)
    except OSError as error:
        logger.warning("the compile cache cannot be written: %s", error)


def note_checked(key: str, library: Path) -> None:
    """Say of an entry that this library of it computes what the network does."""
    if not (folder() / (key + _ENTRY)).exists():
        return
    with suppress(OSError), _new_file(key + _CHECKED) as file:
        file.write(_sha256(library).encode())


def is_checked(key: str, library: Path) -> bool:
    """Whether :func:`note_checked` was called for this very library."""
    try:
        noted = (folder() / (key + _CHECKED)).read_text()
    except (OSError, ValueError):
        return False
    return noted == _sha256(library)


class _new_file:
    """A file of the cache that is there when it is whole."""

    def __init__(self, name: str) -> None:
        self._path = folder() / name

    def __enter__(self) -> BinaryIO:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(_PARTIAL, dir=self._path.parent)
        self._partial = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        return self._file

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self._file.close()
            if kind is None:
                os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def _evict(keep: str) -> None:
    """Delete what was not used for longest until the rest is within the limit."""
    old = time.time() - _LONGEST_WRITE_S
    entries: list[tuple[float, int, Path]] = []
    with os.scandir(folder()) as files:
        for file in files:
            with suppress(FileNotFoundError):  # another process evicts too
                at = file.stat()
                if file.name.endswith(_ENTRY):
                    entries.append((at.st_mtime, at.st_size, Path(file.path)))
                elif file.name.endswith(_PARTIAL) and at.st_mtime < old:
                    os.unlink(file.path)
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            return
        if path.name != keep + _ENTRY:
            path.unlink(missing_ok=True)
            path.with_suffix(_CHECKED).unlink(missing_ok=True)
            total -= size


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
