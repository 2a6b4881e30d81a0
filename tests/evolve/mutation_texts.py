"""Templates that the newer mutations have sites on."""

from __future__ import annotations

CONV_3X3 = """\
def conv2d(x: map[N, C_in, H, W], *, w: weight[C_out, C_in, 3, 3]) -> map[N, C_out, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=1)
    v1 = sum(v0, axis="ci")
    return v1"""  # noqa: E501
DEPTHWISE = """\
def depthwise(x: map[N, C_in, H, W], *, w: weight[C_in, 1, 3, 3]) -> map[N, C_in, H_out, W_out]:
    v0 = cross_correlation(x, w, stride=(S_h, S_w), dilation=(1, 1), groups=C_in)
    v1 = sum(v0, axis="ci")
    return v1"""  # noqa: E501
BATCH_NORM = """\
def norm(x: map[N, C, H, W], *, mean: constant[C], var: constant[C], gain: weight[C], shift: weight[C]) -> map[N, C, H, W]:
    v0 = sub(x, mean)
    v1 = sqrt(var)
    v2 = div(v0, v1)
    v3 = hadamard(v2, gain)
    v4 = add(v3, shift)
    return v4"""  # noqa: E501
CELL = """\
def layer(x: map[N, T, C_in], h0: map[N, C_out], c0: map[N, C_out], *, w_i: weight[C_in, C_out], w_f: weight[C_out, C_out], w_g: weight[C_in, C_out]) -> map[N, T, C_out]:
    def cell(x: map[N, C_in], h: map[N, C_out], c: map[N, C_out], *, w_i: weight[C_in, C_out], w_f: weight[C_out, C_out], w_g: weight[C_in, C_out]) -> (map[N, C_out], map[N, C_out]):
        v0 = matmul(x, w_i)
        v1 = sigmoid(v0)
        v2 = matmul(h, w_f)
        v3 = sigmoid(v2)
        v4 = matmul(x, w_g)
        v5 = tanh(v4)
        v6 = hadamard(v3, c)
        v7 = hadamard(v1, v5)
        v8 = add(v6, v7)
        v9 = tanh(v8)
        v10 = bundle({h}, v8)
        return v10
    v0 = scan(x, h0, {c0}, w_i, w_f, w_g, body=cell, states=("h", "c"))
    v1 = result(v0, index=1)
    return v1"""  # noqa: E501
TWO_STATES = CELL.format(h="v9", c0="c0")
TWINS = (
    CELL.format(h="v8", c0="h0")
    .replace("        v9 = tanh(v8)\n", "")
    .replace("v10", "v9")
    .replace(" c0: map[N, C_out],", "")
)
GATES = """\
def gates(x: map[N, C_in], h: map[N, C_out], *, w: weight[C_in, C_out], u: weight[C_in, C_out]) -> map[N, C_out]:
    v0 = matmul(x, w)
    v1 = sigmoid(v0)
    v2 = hadamard(v1, h)
    v3 = matmul(x, u)
    v4 = sigmoid(v3)
    v5 = hadamard(v2, v4)
    return v5"""  # noqa: E501
