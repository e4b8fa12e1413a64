"""The functions of `nnfast.functional`, with every argument of each."""

from __future__ import annotations

import numpy as np

from batteries._bad_arrays import NO_NUMBERS, in_place, labels, real, targets, weights
from batteries._bad_settings import BACKEND, FLAG, number, objects, whole, word
from batteries._kinds import Kind, always
from batteries._targets import Target, plain
from nnfast import functional as F

__all__ = ["TARGETS"]

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax")
SAVED = {"gelu": "x", "silu": "x"}  # what a backward function reads, where it is not the output y
KEY = whole(0, 2**64 - 1, right=2**63 + 5)
ALPHA = number(0).may_be_left_out()
ANY = Kind(lambda draw: draw.numbers(draw.shape("PS")), dict(NO_NUMBERS), listed=True)  # of any shape
STEP = {"learning_rate": number(0), "epsilon": number(0)}


def _named(name, /, **kinds):
    return plain(f"functional.{name}", getattr(F, name), backend=True, **kinds)


def _float(*symbols, **rules):
    return real(*symbols, floats=True, **rules)


def _layers():
    rows = _float("N", "I", empty=True)
    x, w, b = (
        _float("N", "I", fixed="I", beside=True),
        _float("I", "O", fixed="IO", beside=True),
        _float("O", fixed="O"),
    )
    fused = word(*(a for a in ACTIVATIONS if a not in ("leaky_relu", "elu")), "linear").may_be_left_out()
    x = x.but("N = 0")  # x may have no rows
    yield _named("dense", x=x, w=w, b=b, activation=fused)
    yield _named("dense", x=x, w=w, b=b, activation=_only("leaky_relu"), alpha=ALPHA)
    yield _named("dense", x=x, w=w, b=b, activation=_only("relu"), alpha=_unwanted(0.5, 0, "text"))
    x, dy, y = _float("N", "I", fixed="NI", beside=True), _float("N", "O", fixed="NO"), _float("N", "O", fixed="NO")
    backward = {"x": x, "w": w, "dy": dy}
    yield _named(
        "dense_backward",
        **backward,
        y=y.but("None"),  # right where b is there
        b=b.may_be_left_out(),
        activation=word("relu", "tanh", "softplus").but("None"),
    )
    yield _named("dense_backward", **backward, b=b, activation=word("gelu", "silu").but("None"))
    yield _named("dense_backward", **backward, y=y, activation=_only("elu"), alpha=ALPHA)
    yield _named("dense_backward", **backward, y=y, activation=_only("tanh"), alpha=_unwanted(0.5, -1))
    yield _named("dense_backward", **backward, b=_unwanted_none(b), activation=_only("sigmoid"))
    counters = {"step": whole(0, 2**64 - 1), "layer": whole(0, 2**32 - 1), "first_row": whole(0, right=5)}
    settings = {"rate": number(0, 1, high_open=True), "key": KEY} | counters
    yield _named("dropout", x=rows, **settings)
    yield _named("dropout_backward", dy=rows, **settings)
    vector = _float("I", fixed="I")
    yield _named("standardize", x=rows, mean=vector, std=vector)
    yield _named("standardize_backward", dy=rows, std=vector)
    for name in ACTIVATIONS:
        scalars = {"alpha": number(0)} if name in ("leaky_relu", "elu") else {}
        yield _named(name, x=rows, **scalars)
        saved = _float("N", "I", fixed="NI", beside=True)
        yield _named(f"{name}_backward", **{SAVED.get(name, "y"): saved}, dy=saved, **scalars)


def _only(value):
    """A setting that is right as it is; its faults are tried elsewhere."""
    return Kind(always(value), {})


def _unwanted(*values):
    """What must be left out beside these arguments."""
    return Kind(always(None), {f"{value!r} where there is none": always(value) for value in values}, optional=True)


def _unwanted_none(kind):
    return kind._replace(wrong={"None where it is needed": always(None)})


def _losses():
    class_output = _float("N", "O", fixed="N")
    output, weight = _float("N", "O", fixed="NO"), weights()
    common = {"sample_weight": weight, "per_sample": FLAG}
    smooth = number(0, 1, high_open=True)
    yield _named("softmax_cross_entropy", logits=class_output, y=labels(), label_smoothing=smooth, **common)
    yield _named("categorical_cross_entropy", output=class_output, y=labels(), **common)
    unit = targets("N", "O", low=0, high=1)
    yield _named("sigmoid_binary_cross_entropy", logits=output, y=unit, **common)
    yield _named("binary_cross_entropy", output=output, y=unit, **common)
    yield _named("mean_squared_error", output=output, y=targets("N", "O"), **common)
    yield _named("mean_absolute_error", output=output, y=targets("N", "O"), **common)
    yield _named("huber", output=output, y=targets("N", "O"), delta=number(0, low_open=True), **common)
    yield _named("poisson", output=output, y=targets("N", "O", low=0), **common)
    yield _named("accuracy", output=class_output, y=labels(), sample_weight=weight)
    k = whole(1, right=2).but(more_than_outputs=lambda draw, k: draw.dims["O"] + 1)
    yield _named("top_k_accuracy", output=class_output, y=labels(), k=k, sample_weight=weight)
    yield _named("binary_accuracy", output=output, y=unit, threshold=number(), sample_weight=weight)
    yield _named("regression_accuracy", output=output, y=targets("N", "O"), precision=number(0), sample_weight=weight)
    yield _named("r2_score", output=output, y=targets("N", "O"), sample_weight=weight)


def _updates():
    yield _named("penalty", p=ANY, l1=number(0), l2=number(0))
    yield _named("batch_penalty", p=ANY, normaliser=number(0, low_open=True), l1=number(0), l2=number(0))
    clipped = in_place("P", "S").but("0-d")
    yield _named("clip_by_global_norm", g=clipped, clip_norm=number(0))
    g = _float("P", "S", fixed="PS", beside=True)
    p = in_place("P", "S", others=("g",))
    v = in_place("P", "S", others=("p", "g")).but("None")
    rate = number(0)
    momentum = number(0, 1)
    yield _named("sgd_step", p=p, g=g, v=v, learning_rate=rate, momentum=momentum, nesterov=FLAG)
    yield _named("sgd_step", p=p, g=g, v=_unwanted_none(v), learning_rate=rate, momentum=_only(0.9))
    cache = in_place("P", "S", others=("p", "g"), low=0)
    yield _named("adagrad_step", p=p, g=g, cache=cache, **STEP)
    rho = number(0, 1, high_open=True)
    yield _named("rmsprop_step", p=p, g=g, cache=cache, **STEP, rho=rho)
    m, beta = in_place("P", "S", others=("p", "g", "v")), number(0, 1, high_open=True)
    betas = {"step": whole(1), "beta_1": beta, "beta_2": beta, "weight_decay": number(0)}
    yield _named("adam_step", p=p, g=g, m=m, v=cache, **STEP, **betas)
    draws = {"key": KEY, "step": whole(0, 2**64 - 1), "scale": number(0), "offset": whole(0)}
    yield _named("random_search_propose", p=ANY, **draws, mode=word("perturb", "sample"))
    sums = in_place("S", double=True, others=("best",)).but(one_number=lambda draw, a: a[:1].copy())
    best = in_place("S", double=True, others=("sums",)).but(one_number=lambda draw, a: a[:1].copy())
    q = _float("P", "S", fixed="PS", beside=True)
    normaliser = number(0, low_open=True)
    p = in_place("P", "S", others=("q",))
    yield _named("random_search_accept", p=p, q=q, sums=sums, best=best, normaliser=normaliser)


def _by_name():
    """`apply_op`, whose arrays and scalars are those of the op."""
    name = word("leaky_relu").but("None", none=always(None))
    x = _float("N", "I").but("N = 0")
    given = {"op": name, "x": x, "alpha": number(), "backend": BACKEND}
    extra = {"dims": _dims(), "more": objects(always(None), none=False, a_number_too_many=always(1)).may_be_left_out()}

    def apply(world, op, x, alpha, dims=None, more=None, **backend):
        keywords = {} if more is None else {"gamma": more}
        return F.apply_op(op, x, alpha=alpha, dims=dims, **backend, **keywords)

    yield Target("functional.apply_op", apply, given | extra)

    def two(world, y, dy, third=None, **backend):
        arrays = (y, dy) if third is None else (y, dy, third)
        return F.apply_op("relu_backward", *arrays, **backend)

    pair = _float("N", "I", fixed="NI", beside=True)
    third = Kind(always(None), {"an array too many": lambda draw, _: np.ones(draw.shape("NI"), draw.dtype)})
    yield Target("functional.apply_op", two, {"y": pair, "dy": pair, "third": third, "backend": BACKEND})

    def loss(world, z, y, total, weight=None, **backend):
        return F.apply_op("softmax_cross_entropy", z, y, weight, total, normaliser=1, label_smoothing=0, **backend)

    total = in_place(double=True).but("0-d", "elements that share memory", a_vector=lambda draw, a: a[None].copy())
    z, weight = _float("N", "O", fixed="N"), _float("N", fixed="N")
    kinds = {"z": z, "y": labels(), "weight": weight.may_be_left_out(), "total": total, "backend": BACKEND}
    yield Target("functional.apply_op", loss, kinds)


def _dims():
    faults = {
        "a number": always(3),
        "a list": always([1, 2]),
        "text": always("N"),
        "a half": always({"N": 2.5}),
        "a negative size": always({"N": -1}),
        "a size as text": always({"N": "3"}),
        "a truth value": always({"N": True}),
        "another size than that of x": lambda draw, _: {"N": draw.dims["N"] + 1},
    }
    return Kind(always(None), faults, optional=True)


TARGETS = [*_layers(), *_losses(), *_updates(), *_by_name()]
