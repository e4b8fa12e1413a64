"""Layers, losses and optimizers, made and used by hand."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import labels, real, targets, weights
from batteries._bad_settings import BACKEND, DTYPE, FLAG, RNG, number, objects, whole, word
from batteries._kinds import Kind, always, one_of
from batteries._targets import FIXED, Target, method, plain, setter
from nnfast import layers, losses, optimizers

__all__ = ["TARGETS"]

COMMON = {"backend": BACKEND, "dtype": DTYPE, "rng": RNG}
SHARE = number(0, 1, high_open=True)
STRENGTHS = {name: number(0) for name in ("weight_l1", "weight_l2", "bias_l1", "bias_l2")}
RULES = ("normal", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros")
INITIALIZER = word(*RULES).but("a class").but(another_shape=always(lambda shape, rng: np.ones(3)))
CLIP = number(0, low_open=True).may_be_left_out()
EPSILON = number(0, low_open=True)
OPTIMIZERS = {
    "SGD": {"momentum": number(0, 1), "nesterov": FLAG},
    "Adagrad": {"epsilon": EPSILON},
    "RMSprop": {"epsilon": EPSILON, "rho": SHARE},
    "Adam": {"epsilon": EPSILON, "beta_1": SHARE, "beta_2": SHARE},
    "AdamW": {
        "epsilon": EPSILON,
        "beta_1": SHARE,
        "beta_2": SHARE,
        "weight_decay": number(0),
        "decay_biases": FLAG,
    },
}
RATE = number(0).but("a class")  # which can be called, as a schedule can: what it gives is looked at later
LABEL_LOSSES = ("SoftmaxCrossEntropy", "CategoricalCrossEntropy")
REAL_LOSSES = ("SigmoidBinaryCrossEntropy", "BinaryCrossEntropy", "MeanSquaredError", "MeanAbsoluteError", "Poisson")


def _layers():
    sizes = {"n_inputs": whole(1), "n_outputs": whole(1)}
    yield Target("Dense", _dense, sizes | {"initializer": INITIALIZER} | STRENGTHS | COMMON)
    yield plain("Dropout", layers.Dropout, rate=SHARE, **COMMON)
    yield plain("LeakyReLU", layers.LeakyReLU, alpha=number(0), **COMMON)
    yield plain("ELU", layers.ELU, alpha=number(0), **COMMON)
    yield plain("Standardize", layers.Standardize, mean=_constants(), std=_constants(), **COMMON)
    for name in ("Layer", "PythonLayer", "ReLU", "GELU", "SiLU", "Softplus", "Sigmoid", "Tanh", "Softmax", "Linear"):
        yield plain("Layer", getattr(layers, name), **COMMON)
    for name, strength in STRENGTHS.items():
        yield setter(f"Dense.{name}", "dense", strength)
    yield setter("Dropout.rate", "dropout", SHARE)
    yield setter("LeakyReLU.alpha", "leaky", number(0))
    yield setter("ELU.alpha", "elu", number(0))
    yield setter("Layer.trainable", "dense", FLAG)
    yield setter("Dense.weights", "dense", _of_model("I", "O"))
    yield setter("Dense.biases", "dense", _of_model("O"))
    yield setter("Dense.weights", "fresh dense", _of_model("I", "O"))
    name = word("scale").but("an object")
    yield method("PythonLayer.parameter", "cube", name=name)
    yield method("PythonLayer.gradient_of", "cube", name=name)


def _constants():
    """Numbers above 0, which will do for a mean too; one alone stands for all."""
    kind = real("I", fixed="I").but("0-d", "a plain number")
    return kind._replace(right=lambda draw: np.abs(kind.right(draw)) + np.float32(0.1))


def _dense(world, **given):
    """The layer, and its shape seen: a function for weights is called at once where there is a seed."""
    return nn.Dense(**given)


def _of_model(*symbols):
    return _fixed(real(*symbols, fixed="".join(symbols)))


def _fixed(kind):
    """The sizes of the world's objects instead of drawn ones."""
    return kind._replace(right=lambda draw: kind.right(draw._replace(dims=draw.dims | FIXED)))


def _passes():
    rows = _fixed(real("N", "I", fixed="I", empty=True))
    free = real("N", "I", empty=True)
    for of in ("dense", "fresh dense"):
        yield method("Layer.forward", of, x=rows, training=FLAG)
    for of in ("dropout", "linear", "cube", "leaky", "elu", "relu"):
        yield method("Layer.forward", of, x=free, training=FLAG)
    for of, width in (("dense", "O"), ("dropout", "I"), ("linear", "I"), ("cube", "I"), ("leaky", "I"), ("relu", "I")):
        yield method("Layer.backward", of, dy=_after_eight_rows(width))
    yield Target("Layer.backward", _too_early, {"dy": _too_early_kind()}, also=(nn.errors.StateError,))


def _after_eight_rows(width):
    """A gradient for the pass that the world's layers have made: of eight rows."""
    kind = real("N", width, fixed=f"N{width}")
    return kind._replace(right=lambda draw: kind.right(draw._replace(dims=draw.dims | FIXED | {"N": 8})))


def _too_early(world, dy):
    layer = nn.Dense(2, 2, backend=world.backend, rng=0)
    if dy is not None:
        return layer.backward(dy)
    return layer


def _too_early_kind():
    return Kind(always(None), {"before forward": lambda draw, _: np.ones((2, 2))})


def _losses():
    yield plain("Loss", losses.Loss, backend=BACKEND)
    yield plain("SoftmaxCrossEntropy", losses.SoftmaxCrossEntropy, label_smoothing=SHARE, backend=BACKEND)
    yield plain("Huber", losses.Huber, delta=number(0, low_open=True), backend=BACKEND)
    for name in (*LABEL_LOSSES, *REAL_LOSSES):
        yield plain("Loss", getattr(losses, name), backend=BACKEND)
    yield setter("SoftmaxCrossEntropy.label_smoothing", "class loss", SHARE)
    yield setter("Huber.delta", "real loss", number(0, low_open=True))
    output, classes = real("N", "O", fixed="NO", floats=True), real("N", "O", fixed="N", floats=True)
    yield method("Loss.forward", "class loss", output=classes, y=labels(), sample_weight=weights())
    yield method("Loss.forward", "real loss", output=output, y=targets("N", "O"), sample_weight=weights())
    yield method("PythonLoss.forward", "own loss", output=output, y=targets("N", "O"), sample_weight=weights())


def _optimizers():
    for name, settings in OPTIMIZERS.items():
        kinds = {"learning_rate": RATE, "decay": number(0)} | settings | {"clip_norm": CLIP}
        yield plain(name, getattr(optimizers, name), **kinds)
        for setting, kind in settings.items():
            if setting not in ("nesterov", "decay_biases") and (name, setting[:4]) not in (
                ("AdamW", "beta"),
                ("AdamW", "epsi"),
            ):
                yield _setting(name, setting, kind)
    yield _setting("SGD", "learning_rate", RATE, "GradientOptimizer")
    yield _setting("SGD", "decay", number(0), "GradientOptimizer")
    yield _setting("SGD", "clip_norm", CLIP, "GradientOptimizer")
    yield plain("RandomSearch", optimizers.RandomSearch, scale=number(0), mode=word("perturb", "sample"))
    yield _setting("RandomSearch", "scale", number(0))
    yield Target("GradientOptimizer.step", _step, {"layers": _stepped()}, ("parts", "classifier"))
    yield Target("GradientOptimizer.learning_rate", _step_at_rate, {"value": _rates()}, ("parts",))
    yield Target("RandomSearch.step", _search_step, {"layers": _search_layers()}, also=(nn.errors.StateError,))


def _setting(name, setting, kind, owner=None):
    def assign(world, value=None):
        setattr(world["optimizers"][name], setting, value)

    return Target(f"{owner or name}.{setting}", assign, {"value": kind}, ("optimizers",))


def _step(world, layers):
    """A word stands for layers of the world, which are not the draw's to make."""
    parts = world["parts"]
    both = parts["layers"]
    named = {"both": both, "twice": [both[0], both[0]], "one that is none": [*both, "dense"]}
    named["another model's"] = [world["classifier"].layers[0]]
    parts["optimizer"].step(named.get(layers, layers) if isinstance(layers, str) else layers)


def _stepped():
    named = {what: always(what) for what in ("twice", "another model's", "one that is none")}
    kind = objects(always("both"), in_a_tuple=always((1, 2)), a_class_of_layers=always(nn.Dense))
    return kind._replace(wrong=kind.wrong | named)


def _step_at_rate(world, value):
    """A step at the rate of a schedule that gives what is no rate: as it can be called, it was taken."""
    optimizer = nn.SGD(value if callable(value) else (lambda step: value), clip_norm=1e-3)
    optimizer.step(world["parts"]["layers"])


def _rates():
    kind = number(0)
    return kind.but("a class")._replace(
        wrong=kind.but("a class").wrong | {"a class of schedules": always(nn.schedules.OneCycle)}
    )


def _search_step(world, layers):
    if layers is not None:
        nn.RandomSearch().step(layers)


def _search_layers():
    return Kind(always(None), {"any layers": lambda draw, _: [nn.ReLU()], "none": one_of([], ())})


TARGETS = [*_layers(), *_passes(), *_losses(), *_optimizers()]
