"""One template serves sites of different channels, strides and sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gos_fx.errors import VerifyError
from gos_fx.ir.graph import Graph
from gos_fx.ir.interpreter import evaluate
from gos_fx.ir.parser import parse
from gos_fx.ir.projection import project
from gos_fx.ir.verifier import verify

Bindings = dict[str, int]


def weights_of(site: Bindings, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (site["C_out"], site["C_in"], site["K_h"], site["K_w"])
    w = torch.randn(shape, generator=generator) / (3 * site["C_in"] ** 0.5)
    return {"w": w, "b": torch.randn(site["C_out"], generator=generator)}


def image(site: Bindings) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = [site[name] for name in ("N", "C_in", "H", "W")]
    return torch.randn(shape, generator=generator)


def run(
    template: Graph, site: Bindings, originals: dict[str, Tensor], x: Tensor
) -> Tensor:
    concrete = verify(template.instantiate(site))
    values = {
        v.name: project(v.name if v.init is None else v.init, originals, site)
        for v in template.weights
    }
    for value in concrete.weights:
        assert tuple(values[value.name].shape) == value.type.shape
    result = evaluate(concrete, values | {"x": x})
    assert tuple(result.shape) == concrete.result.shape
    return result


def test_one_template_on_two_sites(conv: Graph, sites: tuple[Bindings, ...]) -> None:
    shapes = [(2, 64, 9, 9), (2, 256, 5, 5)]
    for site, shape in zip(sites, shapes, strict=True):
        originals, x = weights_of(site), image(site)
        result = run(conv, site, originals, x)
        assert tuple(result.shape) == shape
        expected = F.conv2d(x, originals["w"], originals["b"], site["S_h"], 1).relu()
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


SEPARABLE = """\
def conv2d(x: map[N, C_in, H, W], *, w1: weight[C_in, 1, K_h, K_w] = depthwise(w), w2: weight[C_out, C_in, 1, 1] = pointwise(w), b: weight[C_out]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w1, stride=(S_h, S_w), dilation=(1, 1), groups=C_in)
    v1 = sum(v0, axis="ci")
    v2 = cross_correlation(v1, w2, stride=(1, 1), dilation=(1, 1), groups=1)
    v3 = sum(v2, axis="ci")
    v4 = add(v3, b)
    v5 = relu(v4, slope=0.0)
    return v5"""  # noqa: E501


def test_an_edited_template_on_two_sites(sites: tuple[Bindings, ...]) -> None:
    template = parse(SEPARABLE)
    for site in sites:
        # A weight that is separable loses nothing.
        k = torch.randn(1, site["C_in"], 3, 3)
        w = torch.randn(site["C_out"], site["C_in"], 1, 1) * k / site["C_in"]
        originals = weights_of(site) | {"w": w}
        x = image(site)
        expected = F.conv2d(x, w, originals["b"], site["S_h"], 1).relu()
        result = run(template, site, originals, x)
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


RESIZED = """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, K_h, K_w]) -> map[N, C_out, H_out, W_out]:
    v0 = avg_pool(x, kernel=(2, 2), stride=(2, 2), include_pad=False)
    v1 = cross_correlation(v0, w, stride=(1, 1), dilation=(2, 1), groups=1)
    v2 = sum(v1, axis="ci")
    v3 = resize(v2, size=(H_out, W_out))
    return v3"""  # noqa: E501


def test_literal_strides_and_resize(sites: tuple[Bindings, ...]) -> None:
    for site in sites:
        result = run(parse(RESIZED), site, weights_of(site), image(site))
        assert tuple(result.shape) == (2, site["C_out"], site["H_out"], site["W_out"])
        assert bool(torch.isfinite(result).all())


def attr(graph: Graph, node: str, key: str) -> object:
    return graph.by_name[node].attr(key)


def test_solved_padding(conv: Graph, sites: tuple[Bindings, ...]) -> None:
    """The window stays where the original one was; what is left over goes behind."""
    one, two = sites
    assert attr(conv.instantiate(one), "v0", "padding") == (1, 1, 1, 1)
    assert attr(conv.instantiate(two), "v0", "padding") == (1, 1, 1, 1)
    even = two | {"H": 8, "W": 8, "H_out": 4, "W_out": 4}
    assert attr(conv.instantiate(even), "v0", "padding") == (1, 0, 1, 0)
    wide = parse(conv.text.replace("dilation=(1, 1)", "dilation=(1, 3)"))
    assert attr(wide.instantiate(one), "v0", "padding") == (1, 1, 3, 3)
    # A crop: the original's window is 3 x 3 with padding 1, the new one is 1 x 1.
    small = parse(conv.text.replace("K_h, K_w", "1, 1"))
    assert attr(small.instantiate(even), "v0", "padding") == (0, -1, 0, -1)


def test_schedules_are_kept_for_the_code_generator_to_clamp(
    sites: tuple[Bindings, ...],
) -> None:
    text = SEPARABLE.replace("return v5", "v6 = tile(v5, co=512, wo=64)\n    return v6")
    concrete = parse(text).instantiate(sites[0])
    assert concrete.by_name["v6"].attrs == {"co": 512, "wo": 64}
    template = parse(text.replace("co=512", "co=C_out // 128"))
    assert template.instantiate(sites[0]).by_name["v6"].attr("co") == 1
    assert template.instantiate(sites[1]).by_name["v6"].attr("co") == 2


def test_a_site_that_does_not_fit_is_refused(
    conv: Graph, sites: tuple[Bindings, ...]
) -> None:
    site = sites[0]
    text = conv.text.replace("groups=1", "groups=3")
    grouped = parse(text.replace("C_out, C_in,", "C_out, C_in // 3,"))
    with pytest.raises(VerifyError, match="3 groups do not divide the channels"):
        grouped.instantiate(site)
    for name in ("K_h", "D_w", "P_h", "C_in"):
        with pytest.raises(VerifyError, match=f"size {name}"):
            conv.instantiate({k: v for k, v in site.items() if k != name})
    with pytest.raises(VerifyError, match="size 0 of x"):
        conv.instantiate(site | {"W": 0})


def test_what_the_site_strides_must_start_from_its_input_grid(conv: Graph) -> None:
    head, _, body = conv.text.partition("\n")
    body = body.replace("cross_correlation(x,", "cross_correlation(p,")
    pooled = "    p = max_pool(x, kernel=(2, 2), stride=(2, 2))"
    with pytest.raises(VerifyError, match="must start from the input grid"):
        parse("\n".join([head, pooled, body]))


def test_without_schedule(conv: Graph) -> None:
    tiled = "t = tile(v1, co=4)\n    v2 = add(t, b)"
    text = conv.text.replace("v2 = add(v1, b)", tiled)
    text = text.replace("return v3", "v4 = unroll(v3, ci=2)\n    return v4")
    scheduled = parse(text)
    assert scheduled != conv and scheduled.digest != conv.digest
    assert scheduled.without_schedule() == conv
    assert scheduled.without_schedule().digest == conv.digest
