"""What moves values and ends where it began, or gets there in one step."""

from __future__ import annotations

from gos_fx.ir.types import axis_index
from gos_fx.passes.canonicalise.rule import Match, rule


@rule("transpose")
def transpose_of_transpose(m: Match) -> str | None:
    """transpose(transpose(x, axes=a), axes=b) -> transpose(x, axes=a[b])"""
    inner = m.source(m.operands[0], "transpose")
    if inner is None:
        return None
    axes = tuple(inner.attr("axes")[axis] for axis in m.attributes["axes"])
    return m.emit("transpose", *inner.operands, axes=axes)


@rule("transpose")
def transpose_nothing(m: Match) -> str | None:
    """transpose(x, axes=(0, 1)) -> x"""
    axes = m.attributes["axes"]
    return m.operands[0] if axes == tuple(range(len(axes))) else None


@rule("reshape")
def reshape_of_reshape(m: Match) -> str | None:
    """reshape(reshape(x, shape=s), shape=t) -> reshape(x, shape=t)"""
    inner = m.source(m.operands[0], "reshape")
    return m.again(*inner.operands) if inner else None


@rule("reshape", "resize", "pad", "cast")
def to_the_same_type(m: Match) -> str | None:
    """reshape(x, shape=s) -> x for x of shape s; also resize, pad by nothing, cast"""
    return m.operands[0]


@rule("flip")
def flip_of_flip(m: Match) -> str | None:
    """flip(flip(x, axis=a), axis=a) -> x"""
    inner = m.source(m.operands[0], "flip")
    if inner is None or inner.attr("axis") != m.attributes["axis"]:
        return None
    return inner.operands[0]


@rule("slice")
def slice_of_slice(m: Match) -> str | None:
    """every second of every third element -> every sixth, along one axis"""
    inner = m.source(m.operands[0], "slice")
    if inner is None or inner.attr("axis") != m.attributes["axis"]:
        return None
    step, start = inner.attr("step"), inner.attr("start")
    return m.emit(
        "slice",
        *inner.operands,
        axis=inner.attr("axis"),
        start=start + step * m.attributes["start"],
        size=m.attributes["size"],
        step=step * m.attributes["step"],
    )


@rule("slice")
def slice_of_all(m: Match) -> str | None:
    """slice(x, start=0, size=n) -> x for an axis of n"""
    is_whole = (m.attributes["start"], m.attributes["step"]) == (0, 1)
    return m.operands[0] if is_whole else None


@rule("concat")
def concat_of_neighbours(m: Match) -> str | None:
    """concat(x[0:k], x[k:n]) -> x[0:n] along the axis of the slices"""
    axis = axis_index(m.attributes["axis"], m.type.rank)
    joined: list[str] = []
    for name in m.operands:
        both = _joined(m, joined[-1], name, axis) if joined else None
        joined = [*joined[:-1], both] if both else [*joined, name]
    if len(joined) == len(m.operands):
        return None
    return joined[0] if len(joined) == 1 else m.again(*joined)


def _joined(m: Match, left: str, right: str, axis: int) -> str | None:
    a, b = m.source(left, "slice"), m.source(right, "slice")
    if a is None or b is None or a.operands != b.operands:
        return None
    steps = (a.attr("axis"), b.attr("axis"), a.attr("step"), b.attr("step"))
    if steps != (axis, axis, 1, 1) or a.attr("start") + a.attr("size") != b.attr(
        "start"
    ):
        return None
    return m.emit(
        "slice", *a.operands, **a.attrs | {"size": a.attr("size") + b.attr("size")}
    )


@rule("max_pool", "avg_pool")
def window_of_one(m: Match) -> str | None:
    """max_pool(x, kernel=(1, 1)) -> x without stride and padding; also avg_pool"""
    moves = m.attributes.get("padding", (0,) * 4), m.attributes["stride"]
    is_one = m.attributes["kernel"] == (1, 1) and moves == ((0,) * 4, (1, 1))
    return m.operands[0] if is_one else None
