"""The op table: every op's name, signature, scalars, attributes, equation and cost.

Reached through `nnfast.protocol`, which explains how a kernel is called. To add an op: one row here, one kernel in
`kernels/reference/`, one function in `nnfast/_functional_*.py`, named in `nnfast/functional.py` and in
`docs/api/functional.md`, one row in `nnfast/testing/cases.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nnfast._numbers import flag, integer
from nnfast.errors import DTypeError, OptionError

__all__ = ["CUSTOM", "OPS", "PENALTIES", "Arg", "OpSpec"]


class Arg(NamedTuple):
    """One array of an op. `role` is "in", "out" or "inout"; `dtype` is "T" (the working dtype), "f8" or "label"."""

    name: str
    role: str
    shape: tuple[str, ...]
    dtype: str
    optional: bool


class OpSpec:
    """An op's name, signature, scalars, attributes and cost.

    The signature names the arrays, of which one at least is an output or, marked `!`, updated in place. A dimension of
    an output that no input has is the caller's choice: `dims=` of `apply_op`, or the buffer in a program.

    `scalars` are numbers that may change from run to run; `attributes` are part of the structure (a change of one is
    another program). `flops` is a number per element of the first array, or a function of (dimensions by name, names
    of the arrays that are None). `equation` is one line for people. `by_rows` says of an op of your own that what it
    does to a row depends on that row alone and that outputs without rows are sums over rows, so that a backend may give
    it the batch in pieces, side by side.
    """

    def __init__(
        self,
        name: str,
        signature: str,
        equation: str = "",
        *,
        scalars: Sequence[str] = (),
        attributes: Sequence[str] = (),
        flops: int | Callable[[Mapping[str, int], frozenset[str]], int] = 0,
        by_rows: bool = False,
    ) -> None:
        for said, text in (("name", name), ("signature", signature), ("equation", equation)):
            if not isinstance(text, str):
                raise DTypeError(f"{said} of an op is {text!r}; expected text")
        if not name.isidentifier():
            raise OptionError(f"name of an op is {name!r}; expected a word as Python takes for a name")
        if not callable(flops):
            integer(f"op {name!r}: flops", flops, 0)
        self.name = name
        self.signature = signature
        self.equation = equation
        self.scalars = _words(f"op {name!r}: scalars", scalars)
        self.attributes = _words(f"op {name!r}: attributes", attributes)
        self.by_rows = flag(f"op {name!r}: by_rows", by_rows)
        self.args = _parse(signature)
        self._flops = flops

    def flops(self, dims: Mapping[str, int], absent: frozenset[str] = frozenset()) -> int:
        """Floating-point operations of one call with these dimensions, counted, not measured."""
        if callable(self._flops):
            return self._flops(dims, absent)
        return self._flops * math.prod(dims[n] for n in self.args[0].shape)

    def __repr__(self) -> str:
        return f"OpSpec({self.name}: {self.signature})"


def _words(said: str, names: Sequence[str]) -> tuple[str, ...]:
    """Names of keywords, as they stand in a call."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise DTypeError(f"{said} are {names!r}; expected a list of names")
    if not all(isinstance(name, str) and name.isidentifier() for name in names) or len(set(names)) < len(names):
        raise OptionError(f"{said} are {list(names)!r}; expected names, each once")
    return tuple(names)


def _parse(signature: str) -> tuple[Arg, ...]:
    before, _, after = signature.partition("->")
    args = []
    for side, text in (("in", before), ("out", after)):
        for word in text.split():
            name, _, rest = word.partition("[")
            shape, closed, marks = rest.partition("]")
            if not (name.isidentifier() and closed):
                raise OptionError(f"cannot read {word!r} in the signature {signature!r}; write name[N,I], then ! ? :f8")
            kind = marks.partition(":")[2].rstrip("?!") or "T"
            role = "inout" if "!" in marks else side
            args.append(Arg(name, role, tuple(filter(None, shape.split(","))), kind, "?" in marks))
    if not args or len({arg.name for arg in args}) < len(args):
        raise OptionError(f"the signature {signature!r} must name arrays, each once")
    if all(arg.role == "in" for arg in args):
        raise OptionError(
            f"the signature {signature!r} has no array that the op writes to; add -> y[N,I], or mark one !"
        )
    return tuple(args)


def _built_in() -> dict[str, OpSpec]:
    specs = [
        OpSpec(
            "dense",
            "x[N,I] w[I,O] b[O] -> y[N,O]",
            "y = act(x·w + b)",
            scalars=["alpha"],
            attributes=["activation"],
            flops=lambda d, absent: 2 * d["N"] * d["O"] * (d["I"] + 1),
        ),
        # dz holds dy·act'(y); it may be the array dy itself, and is None only where the activation is "linear".
        OpSpec(
            "dense_backward",
            "x[N,I] w[I,O] y[N,O]? dy[N,O] -> dz[N,O]? dx[N,I]? dw[I,O]? db[O]?",
            "dz = dy·act'(y), dx = dz·wᵀ, dw = xᵀ·dz, db = Σₙ dz",
            scalars=["alpha"],
            attributes=["activation"],
            flops=lambda d, absent: 2 * d["N"] * d["O"] * (d["I"] * (2 - len(absent & {"dx", "dw"})) + 1),
        ),
        OpSpec("dropout", "x[N,I] -> y[N,I]", "y = x·mask/(1−rate)", scalars=_DROPOUT, flops=12),
        OpSpec("dropout_backward", "dy[N,I] -> dx[N,I]", "dx = dy·mask/(1−rate)", scalars=_DROPOUT, flops=12),
        OpSpec("standardize", "x[N,I] mean[I] std[I] -> y[N,I]", "y = (x − mean)/std", flops=2),
        OpSpec("standardize_backward", "dy[N,I] std[I] -> dx[N,I]", "dx = dy/std", flops=1),
        OpSpec(
            "penalty",
            "p[P] g[P]!? total[]!:f8",
            "total += l1·Σ|p| + l2·Σp², g += l1·sign(p) + 2·l2·p",
            scalars=["l1", "l2"],
            flops=7,
        ),
        OpSpec(
            "batch_penalty",
            "p[P] g[P]!? total[]!:f8",
            "total += (l1·Σ|p| + l2·Σp²)/normaliser, g += (l1·sign(p) + 2·l2·p)/normaliser",
            scalars=["normaliser", "l1", "l2"],
            flops=7,
        ),
        OpSpec("clip_by_global_norm", "g[P]!", "g *= min(1, clip_norm/‖g‖)", scalars=["clip_norm"], flops=3),
    ]
    # Activations. Elementwise ones may work in place: y may be x, and dx may be dy.
    for name, saved, scalars, equation, cost in _ACTIVATIONS:
        specs.append(OpSpec(name, "x[N,I] -> y[N,I]", f"y = {equation}", scalars=scalars, flops=cost))
        backward = f"{saved}[N,I] dy[N,I] -> dx[N,I]"
        specs.append(OpSpec(f"{name}_backward", backward, "dx = dy·∂y/∂x", scalars=scalars, flops=cost))
    # Losses: total += Σ weight·loss, losses = the unweighted loss of each row, dz = weight/normaliser · ∂loss/∂z.
    for name, target, scalars, equation, cost in _LOSSES:
        signature = f"z[N,O] y[N,O]{target} weight[N]? total[]!:f8 -> dz[N,O]? losses[N]?"
        specs.append(OpSpec(name, signature, equation, scalars=["normaliser", *scalars], flops=cost))
    # Metrics: total += Σ weight·value. A row with a NaN in it never counts as a hit.
    for name, target, scalars, equation in _METRICS:
        signature = f"z[N,O] y[N,O]{target} weight[N]? total[]!:f8"
        specs.append(OpSpec(name, signature, equation, scalars=scalars, flops=2))
    specs.append(
        OpSpec(
            "r2_moments",
            "z[N,O] y[N,O] weight[N]? -> moments[3,O]:f8",
            "per output: mean of y, Σ weight·(y − mean)², Σ weight·(y − z)²",
            flops=8,
        )
    )
    for name, signature, equation, scalars, attributes, cost in _UPDATES:
        specs.append(OpSpec(name, signature, equation, scalars=scalars, attributes=attributes, flops=cost))
    return {spec.name: spec for spec in specs}


_DROPOUT = ["rate", "key", "step", "layer", "first_row"]

# name, what the backward op reads (the output y where that is enough), scalars, equation, flops per element
_ACTIVATIONS: list[tuple[str, str, list[str], str, int]] = [
    ("relu", "y", [], "max(x, 0)", 1),
    ("leaky_relu", "y", ["alpha"], "x if x > 0 else alpha·x", 2),
    ("elu", "y", ["alpha"], "x if x > 0 else alpha·(eˣ − 1)", 12),
    ("softplus", "y", [], "log(1 + eˣ)", 20),
    ("sigmoid", "y", [], "1/(1 + e⁻ˣ)", 12),
    ("tanh", "y", [], "tanh(x)", 14),
    ("gelu", "x", [], "x·Φ(x), Φ the normal distribution function", 25),
    ("silu", "x", [], "x/(1 + e⁻ˣ)", 13),
    ("softmax", "y", [], "eˣ/Σ eˣ along the row", 13),
]

# name, what the target may be, scalars, equation of one row's loss, flops per element
_LOSSES: list[tuple[str, str, list[str], str, int]] = [
    ("softmax_cross_entropy", ":label", ["label_smoothing"], "−Σ q·log softmax(z)", 15),
    ("sigmoid_binary_cross_entropy", "", [], "mean over outputs of log(1 + eᶻ) − y·z", 30),
    ("categorical_cross_entropy", ":label", [], "−Σ q·log p, p = clip(z, 1e-7, 1−1e-7)", 25),
    ("binary_cross_entropy", "", [], "mean over outputs of −y·log p − (1−y)·log(1−p), p clipped", 45),
    ("mean_squared_error", "", [], "mean over outputs of (z − y)²", 4),
    ("mean_absolute_error", "", [], "mean over outputs of |z − y|", 3),
    ("huber", "", ["delta"], "mean over outputs of e²/2 if |e| ≤ delta else delta·(|e| − delta/2), e = z − y", 6),
    ("poisson", "", [], "mean over outputs of eᶻ − y·z", 13),
]

_METRICS: list[tuple[str, str, list[str], str]] = [
    ("accuracy", ":label", [], "1 if argmax z = argmax y"),
    ("top_k_accuracy", ":label", ["k"], "1 if fewer than k outputs stand before that of the label"),
    ("binary_accuracy", "", ["threshold"], "mean over outputs of (z > threshold) = (y > 1/2)"),
    ("regression_accuracy", "", ["precision"], "mean over outputs of |z − y| ≤ precision"),
]

# name, signature, equation, scalars, attributes, flops per element
_UPDATES: list[tuple[str, str, str, list[str], list[str], int]] = [
    (
        "sgd_step",
        "p[P]! g[P] v[P]!?",
        "v = momentum·v − lr·g, p += v; Nesterov: p += momentum·v − lr·g",
        ["learning_rate", "momentum"],
        ["nesterov"],
        6,
    ),
    (
        "adagrad_step",
        "p[P]! g[P] cache[P]!",
        "cache += g², p −= lr·g/(√cache + ε)",
        ["learning_rate", "epsilon"],
        [],
        8,
    ),
    (
        "rmsprop_step",
        "p[P]! g[P] cache[P]!",
        "cache = rho·cache + (1−rho)·g², p −= lr·g/(√cache + ε)",
        ["learning_rate", "epsilon", "rho"],
        [],
        10,
    ),
    (
        "adam_step",
        "p[P]! g[P] m[P]! v[P]!",
        "m = β₁m + (1−β₁)g, v = β₂v + (1−β₂)g², p −= lr·(m̂/(√v̂ + ε) + weight_decay·p)",
        ["learning_rate", "step", "beta_1", "beta_2", "epsilon", "weight_decay"],
        [],
        16,
    ),
    # Candidate `step` of a random search; `offset` is the index of p[0] in the flat parameter array.
    (
        "random_search_propose",
        "p[P] -> q[P]",
        "q = scale·normal (mode sample), q = p + scale·normal (mode perturb)",
        ["key", "step", "scale", "offset"],
        ["mode"],
        60,
    ),
    # sums[0]/normaliser + sums[1] is the candidate's loss; best holds the sums of the best so far.
    (
        "random_search_accept",
        "p[P]! q[P] sums[S]!:f8 best[S]!:f8",
        "if the candidate is better: p = q, best = sums; else: sums = best",
        ["normaliser"],
        [],
        0,
    ),
]

OPS: dict[str, OpSpec] = _built_in()

# Ops that add to a gradient and to the step's sum "penalty"; their strengths are the scalars l1 and l2.
PENALTIES = ("penalty", "batch_penalty")

# Ops added by `nnfast.register_op`: name -> {"reference": kernel, "numba": ..., "cuda": ...}.
CUSTOM: dict[str, dict[str, Any]] = {}
