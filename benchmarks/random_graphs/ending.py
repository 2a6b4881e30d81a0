"""One output that depends on everything."""

from __future__ import annotations

from benchmarks.random_graphs.draw import Draw, Dropped


def combine(draw: Draw) -> str:
    """One value that depends on all that nobody has read."""
    ends = [_plain(draw, name) for name in list(draw.unread)]
    maps = [name for name in ends if draw.types[name].role == "map"]
    if not maps:
        raise Dropped("no map is left")
    rows = [_row(draw, name) for name in maps[1:]]
    last = maps[0]
    others = [name for name in ends if name not in maps]
    if others or rows:
        last = _row(draw, last)
    for name in others:
        if draw.types[name].role == "scalar":
            last = draw.emit("add", last, name)
        else:
            last = _joined(draw, last, _row(draw, name))
    if not rows:
        return last
    if draw.rng.random() < 0.4:
        return draw.emit("bundle", last, *rows)
    if len(rows) > 1 or draw.rng.random() < 0.5:
        return draw.emit("concat", last, *rows, axis="co")
    return _joined(draw, last, rows[0])


def _plain(draw: Draw, name: str) -> str:
    """A single precision number, whatever it was."""
    if name in draw.ambiguous:
        raise Dropped("a factor is left")
    if draw.types[name].is_bundle:
        raise Dropped("a bundle is left")
    if draw.types[name].dtype != "float32":
        return draw.emit("cast", name, dtype="float32")
    return name


def _row(draw: Draw, name: str) -> str:
    """All elements as ``[1, n]``."""
    type = draw.types[name]
    if type.rank == 2 and type.shape[0] == 1:
        return name
    return draw.emit("reshape", name, shape=(1, int(type.elements)))  # type: ignore[arg-type]


def _joined(draw: Draw, a: str, b: str) -> str:
    """Each element of one with the mean of the other."""
    return draw.emit("add", a, draw.emit("mean", b, axis="co", keep=True))
