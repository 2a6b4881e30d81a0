"""Conv2d as in Equation 1: cross-correlation, sum over input channels, bias."""

from __future__ import annotations

from torch import nn

from gos_fx.errors import Unsupported
from gos_fx.ir.dim import Dim
from gos_fx.passes.lower import Lowering, Shape, lowering


@lowering(nn.Conv2d)
def conv2d(
    state: Lowering, module: nn.Module, x: str, before: Shape, after: Shape
) -> str:
    """Dense, depthwise (groups = C_in) and grouped forms have their own templates."""
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise Unsupported(f"padding mode {module.padding_mode}")
    if len(before) != 4:
        raise Unsupported("a convolution without a batch axis")
    c_out, h_out, w_out = state.bind("C_out H_out W_out", after[1:])
    del h_out, w_out
    kernel = state.bind("K_h K_w", module.kernel_size)
    if module.kernel_size == (1, 1):
        kernel = (1, 1)
    dilation = state.bind("D_h D_w", module.dilation)
    state.bind("P_h P_w", _padding(module))
    groups, c_in = _groups(state, module)
    weight = state.weight("w", (c_out, c_in // groups, *kernel), module.weight)
    b = state.builder
    value = b.emit(
        "cross_correlation",
        x,
        weight,
        stride=state.bind("S_h S_w", module.stride),
        dilation=(1, 1) if module.dilation == (1, 1) else dilation,
        groups=groups,
    )
    value = b.emit("sum", value, axis="ci")
    if module.bias is None:
        return value
    return b.emit("add", value, state.weight("b", (c_out,), module.bias))


def _groups(state: Lowering, module: nn.Conv2d) -> tuple[Dim, Dim]:
    (c_in,) = state.bind("C_in", (module.in_channels,))
    if module.groups == 1:
        return 1, c_in
    if module.groups == module.in_channels:
        return c_in, c_in
    return state.bind("G", (module.groups,))[0], c_in


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    if isinstance(module.padding, str):
        reach = [
            d * (k - 1)
            for k, d in zip(module.kernel_size, module.dilation, strict=True)
        ]
        same = module.padding == "same"
        # torch puts the odd element of "same" behind, as solved padding does
        return (reach[0] // 2, reach[1] // 2) if same else (0, 0)
    return module.padding[0], module.padding[1]
