"""Embedding: rows of a table at the indices that a map of whole numbers gives."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.passes.lower import Lowering, Shape, lowering


def _indices(state: Lowering, module: nn.Module, shape: Shape) -> str:
    """[N], [N, T], [N, T_1, T_2] and so on."""
    between = [f"T_{i}" for i in range(1, len(shape))] if len(shape) > 2 else ["T"]
    return " ".join(["N", *between[: len(shape) - 1]])


@lowering(nn.Embedding, axes=_indices)
def embedding(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """y[.., c] = table[x[..], c]"""
    assert isinstance(module, nn.Embedding)
    if module.max_norm is not None:
        raise Unsupported("an embedding that renormalises its rows")
    shape = state.bind("V C_out", (module.num_embeddings, module.embedding_dim))
    return state.builder.emit("gather", state.weight("table", shape, module.weight), x)
