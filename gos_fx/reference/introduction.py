"""What stands in front of the page of the instruction set."""

from __future__ import annotations

INTRODUCTION = """\
# The instruction set

This page is written by `python -m gos_fx.reference > docs/instructions.md` from the
declarations in `gos_fx/instructions`. A test fails where the two differ.

gos_fx turns each operator of a network into a graph of these instructions, changes the
graph, and turns it back into torch code, ONNX or machine code. The set is Table 1 of
*Grassroots Operator Search for Model Edge Adaptation* (Benmeziane et al., 2023), and
the structure that graphs need besides.

## How to read it

**Values.** A value has a role, a shape and a kind of numbers: `map[N, C, H, W]` is a
feature map, `weight[C]` is trained, `constant[C]` is not, and a `scalar` is a number
that is known when the graph is written. A result has the strongest role among its
operands, in the order map, weight, constant, scalar. Numbers are float32 unless the
type names another kind; float16 and float64 are taken as well where nothing is said.
Sizes are numbers, or expressions of the sizes of the place where an operator stands.

**Axes** have names, by how many a value has: {axes}.

**Element-wise instructions** take values of one shape. A scalar goes with anything, a
value with one axis goes along the channels (`co`) of the other, and an axis of size one
is repeated.

**Several results** are one value, a bundle; `result` takes one of them out.

**Cost.** FLOPs count additions, multiplications, comparisons and the operations of a
usual implementation of functions such as `exp`. Bytes are those of the operands and the
result, each once, unless something else is said; what stays in a kernel with its
neighbours is not read or written at all. FLOPs are shown for an example, whose sizes,
kernel, stride and dilation may be others.

**Gradient**: whether the result can be differentiated by the operands, so that weights
in front of it train.

**TVM**: every instruction is compiled, for ARM and for this machine. *Exact* means the
equation up to rounding; *approximate* means an iteration that ends at the tolerance.
The tolerance is the largest error as a part of the result's scale. `scalar`, `result`,
`bundle`, `tile` and `unroll` have no code of their own.

**NaN** in an operand is NaN in the result, in compiled code as in torch, so that inputs
or factorisations that are not finite are seen in the outputs. One instruction may lose
it: `max_pool` on x86, which has no maximum that keeps NaN from both sides; on ARM it
keeps it. A convolution by Winograd's algorithm may give NaN to neighbours of the
elements that have it. Torch operators without an instruction are TVM's, and are as TVM
compiles them.

**ONNX**: the operators of the standard operator set, version {opset}, that the
example's export consists of; *needs none* where a name or a constant is all. A graph
with an instruction that has no form is not exported, and the message names the
instruction.

**Table 1**: whether the paper lists it. Others are structure, and do not count against
the bounds of a graph (20 instructions, 25 edges between them).

## Where the paper's table leaves something open

- `gradient` and `partial_derivative` are differences of a feature map along its axes,
  central inside and one-sided at the ends. The paper also lists the gradient of a loss:
  that is what training computes, not an instruction of an inference.
- `chain_rule` multiplies two derivatives element by element.
- `eigh` takes the symmetric part of its matrix, (x + x^T) / 2. There is no `eig` with
  complex results.
- `cholesky` reads the lower triangle, as that of a symmetric matrix.
- `svd` and `qr` are the reduced forms: as many columns as the smaller side.
- `matrix_rank` counts singular values and has no gradient. It and `pinv` take singular
  values as zero below the largest times the larger side times 2^-23.
- `density` is the density at each element, of the normal, the Laplace and the logistic
  distribution. `posterior` is Bayes' rule: likelihood times prior, normalised along an
  axis.
- A matrix that has no such result (a singular one to invert, one that is not finite)
  gives results that are not numbers. No instruction raises an exception out of a model.
- Aggregations work along a named axis of one value, or over several values.
- A convolution is `cross_correlation`, which gives a map for each pair of channels, and
  the aggregation over `ci` behind it. The two are computed as one; the maps are never
  stored.
- `tile` and `unroll` compute nothing. They steer the generated code.
"""
