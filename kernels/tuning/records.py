"""The database of tuned kernels: what was measured, and what was decided.

One SQLite file in the cache. Any number of processes may use it at once, and any of
them may be killed at any time: every call is a connection and a transaction of its own,
and SQLite's write-ahead log makes that whole or undone.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from gos_fx import config
from gos_fx.errors import TuningRecordsUnusable
from gos_fx.kernels.tuning.setting import Setting
from gos_fx.kernels.tuning.sizes import Sizes
from gos_fx.kernels.tuning.trial import Choice, Trial
from gos_fx.targets.target import Target

logger = logging.getLogger("gos_fx")
T = TypeVar("T")

_IGNORED: ContextVar[bool] = ContextVar("ignored", default=False)
_NAME = "tuning-1.sqlite"  # the number is that of the tables below
_BUSY_S = 60.0  # a transaction takes milliseconds
_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps next to its file
_TABLES = """
CREATE TABLE IF NOT EXISTS trial (
    kernel TEXT, target TEXT, threads INTEGER, version TEXT, source TEXT, sizes TEXT,
    seconds REAL, error REAL, noise REAL, first REAL, repeats INTEGER, failure TEXT,
    made REAL,
    PRIMARY KEY (kernel, target, threads, version, source, sizes)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS choice (
    kernel TEXT, target TEXT, threads INTEGER, version TEXT, sizes TEXT,
    seconds REAL, untuned REAL, error REAL, source TEXT, made REAL,
    PRIMARY KEY (kernel, target, threads, version)) WITHOUT ROWID;
"""
_KEY = "kernel = ? AND target = ? AND threads = ? AND version = ?"


class Records:
    """The database at ``path``, by default in the cache. It is made when written to.

    A damaged file is set aside under another name, which is logged as a warning, and a
    new one begun. All methods raise ``TuningRecordsUnusable`` where the file cannot be
    read or written for any other reason.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config.cache_dir() / _NAME

    def trials(self, kernel: str, setting: Setting, source: str) -> dict[Sizes, Trial]:
        """Everything that this source was asked of a kernel."""
        query = (
            "SELECT sizes, seconds, error, noise, first, repeats, failure FROM trial "
            f"WHERE {_KEY} AND source = ?"
        )
        key = (*_key(kernel, setting), source)

        def read(database: sqlite3.Connection) -> dict[Sizes, Trial]:
            rows = database.execute(query, key)
            return {_sizes(sizes): Trial(*rest) for sizes, *rest in rows}

        return self._read(read) or {}

    def add(
        self, kernel: str, setting: Setting, source: str, sizes: Sizes, trial: Trial
    ) -> None:
        """Keep a trial, in place of an earlier one of the same sizes."""
        values = astuple(trial)
        row = (*_key(kernel, setting), source, _text(sizes), *values, time.time())
        self._write(f"INSERT OR REPLACE INTO trial VALUES ({_marks(row)})", row)

    def best(self, kernel: str, setting: Setting) -> Choice | None:
        """What was decided for a kernel, None if nothing was yet."""
        query = (
            "SELECT sizes, seconds, untuned, error, source, made FROM choice "
            f"WHERE {_KEY}"
        )

        def read(database: sqlite3.Connection) -> Choice | None:
            row = database.execute(query, _key(kernel, setting)).fetchone()
            if row is None:
                return None
            return Choice(None if row[0] is None else _sizes(row[0]), *row[1:])

        return self._read(read)

    def decide(
        self, kernel: str, setting: Setting, choice: Choice, weaker: tuple[str, ...]
    ) -> bool:
        """Keep a decision, unless one of a source that is not ``weaker`` stands.

        A decision of the same source is replaced. Returns whether it was kept.
        """
        sizes = None if choice.sizes is None else _text(choice.sizes)
        values = (choice.seconds, choice.untuned, choice.error, choice.source)
        row = (*_key(kernel, setting), sizes, *values, choice.made)
        names = (*weaker, choice.source)
        statement = (
            f"INSERT INTO choice VALUES ({_marks(row)}) "
            "ON CONFLICT DO UPDATE SET sizes = excluded.sizes, "
            "seconds = excluded.seconds, untuned = excluded.untuned, "
            "error = excluded.error, source = excluded.source, made = excluded.made "
            f"WHERE choice.source IN ({_marks(names)})"
        )
        return self._write(statement, (*row, *names)) > 0

    def tuned(self, setting: Setting) -> dict[str, Sizes]:
        """Sizes better than the default, by kernel."""
        query = (
            "SELECT kernel, sizes FROM choice WHERE target = ? AND threads = ? "
            "AND version = ? AND sizes IS NOT NULL ORDER BY kernel"
        )
        key = (setting.target, setting.threads, setting.version)

        def read(database: sqlite3.Connection) -> dict[str, Sizes]:
            rows = database.execute(query, key)
            return {kernel: _sizes(sizes) for kernel, sizes in rows}

        return self._read(read) or {}

    def _read(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        if not self.path.exists():
            return None
        return self._attempt(action)

    def _write(self, statement: str, row: tuple[object, ...]) -> int:
        return self._attempt(lambda db: db.execute(statement, row).rowcount)

    def _attempt(self, action: Callable[[sqlite3.Connection], T]) -> T:
        try:
            try:
                return self._do(action)
            except (sqlite3.Error, _Damaged) as error:
                if self.path.exists() and not _is_damage(error):
                    raise
                self._set_aside()
                return self._do(action)
        except (sqlite3.Error, _Damaged) as error:
            raise self._unusable(str(error)) from error
        except OSError as error:
            raise self._unusable(str(error.strerror or error)) from error

    def _do(self, action: Callable[[sqlite3.Connection], T]) -> T:
        if not self.path.exists():
            self._create()
        with closing(self._connect()) as database, database:
            return action(database)

    def _connect(self) -> sqlite3.Connection:
        place = f"{self.path.absolute().as_uri()}?mode=rw"  # makes no file
        database = sqlite3.connect(place, timeout=_BUSY_S, uri=True)
        # The log survives a killed process without this; without power, the last
        # trials may be lost, but not the file.
        database.execute("PRAGMA synchronous = NORMAL")
        return database

    def _create(self) -> None:
        """Make the file under another name, so that it is there whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.path.exists():
                return
            for suffix in _BESIDE:  # a log without its file would go into the new one
                self._beside(suffix).unlink(missing_ok=True)
            part = self._beside(".part")
            part.unlink(missing_ok=True)
            with closing(sqlite3.connect(part)) as database:
                database.executescript(_TABLES)
                database.execute("PRAGMA journal_mode = WAL")
            os.rename(part, self.path)

    def _set_aside(self) -> None:
        with self._locked():
            if self._is_sound():  # another process was faster
                return
            name = f"{self.path.name}.damaged-{time.time_ns()}"
            for suffix in (*_BESIDE, ""):  # the file last: its log must not outlive it
                if self._beside(suffix).exists():
                    kept = self.path.with_name(name + suffix)
                    os.rename(self._beside(suffix), kept)
        logger.warning(
            "the records of tuned kernels are damaged and begin anew; kept as %s",
            self.path.with_name(name),
        )

    def _is_sound(self) -> bool:
        if not self.path.exists():
            return True
        try:
            with closing(self._connect()) as database:
                (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
                for table in ("trial", "choice"):
                    for (sizes,) in database.execute(f"SELECT sizes FROM {table}"):
                        if sizes is not None:
                            _sizes(sizes)
                return bool(found == "ok")
        except (sqlite3.Error, _Damaged) as error:
            if not _is_damage(error):
                raise
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._beside(".lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _unusable(self, reason: str) -> TuningRecordsUnusable:
        return TuningRecordsUnusable(
            f"the records of tuned kernels cannot be used: {reason}",
            where=str(self.path),
            do="Set GOS_FX_CACHE to a directory that can be written.",
        )


class _Damaged(Exception):
    """A row holds what nobody wrote."""


def _is_damage(error: Exception) -> bool:
    """Whether this is the file's fault, and not the disk's or another process's."""
    if isinstance(error, _Damaged):
        return True
    # Without a code: text that is none. A missing table is no other version's doing,
    # which would have a file of its own.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _key(kernel: str, setting: Setting) -> tuple[str, str, int, str]:
    return kernel, setting.target, setting.threads, setting.version


def _marks(values: tuple[object, ...]) -> str:
    return ", ".join("?" * len(values))


def _text(sizes: Sizes) -> str:
    return json.dumps(sizes.to_json(), sort_keys=True)


def _sizes(text: str) -> Sizes:
    try:
        return Sizes.from_json(json.loads(text))
    except (ValueError, TypeError) as error:
        raise _Damaged(str(error)) from error


@contextmanager
def ignored() -> Iterator[None]:
    """Compile as if nothing were tuned."""
    token = _IGNORED.set(True)
    try:
        yield
    finally:
        _IGNORED.reset(token)


def snapshot(target: Target, threads: int) -> Mapping[str, Sizes]:
    """Tuned sizes for a compilation, by kernel.

    Where the records cannot be read that is logged as a warning and the defaults serve:
    the code is right either way.
    """
    records = Records()
    if _IGNORED.get() or not records.path.exists():
        return {}
    try:
        return records.tuned(Setting.of(target, threads))
    except TuningRecordsUnusable as error:
        logger.warning("compiling with default tile sizes: %s", error)
        return {}
