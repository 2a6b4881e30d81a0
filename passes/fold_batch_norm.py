"""conv, batch norm -> conv: exact in eval mode, and free."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

MEMBERS = "gos_members"  # GraphModule.meta: module -> modules folded into it

_FUSERS = {
    (nn.Conv2d, nn.BatchNorm2d): fuse_conv_bn_eval,
    (nn.Linear, nn.BatchNorm1d): fuse_linear_bn_eval,
}


def fold_batch_norm(graph_module: fx.GraphModule) -> PassResult:
    """Fold every batch norm whose only source is a convolution or linear layer.

    before: ``bn(conv(x))``; after: ``conv'(x)`` with w' = w g / s and
    b' = (b - m) g / s + c, s = sqrt(var + eps). A module that is called more than once
    stays as it is. The names of the folded modules are kept in
    ``meta["gos_members"]``.
    """
    modules = dict(graph_module.named_modules())
    calls = Counter(n.target for n in graph_module.graph.nodes if n.op == "call_module")
    members: dict[str, list[str]] = graph_module.meta.setdefault(MEMBERS, {})
    modified = False
    for norm in list(graph_module.graph.nodes):
        source = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        layer, batch_norm = modules[str(source.target)], modules[str(norm.target)]
        fuse = _FUSERS.get((type(layer), type(batch_norm)))
        if (
            fuse is None
            or len(source.users) > 1
            or calls[source.target] > 1
            or calls[norm.target] > 1
            or batch_norm.running_var is None
        ):
            continue
        fused = fuse(layer, batch_norm)  # type: ignore[operator]
        if layer.bias is None:  # torch makes the new bias untrainable
            fused.bias.requires_grad_(layer.weight.requires_grad)
        _set_module(graph_module, str(source.target), fused)
        modules[str(source.target)] = fused
        norm.replace_all_uses_with(source)
        graph_module.graph.erase_node(norm)
        members.setdefault(str(source.target), []).append(str(norm.target))
        modified = True
    if modified:
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()
    return PassResult(graph_module, modified)


def _set_module(graph_module: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(graph_module.get_submodule(parent), leaf, module)
