"""The book's classes and functions: as far as they promise errors of nnfast."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import NO_NUMBERS, labels, real, targets
from batteries._bad_settings import DTYPE, FLAG, number, whole
from batteries._kinds import Kind, always
from batteries._targets import FIXED, Target, plain
from batteries._worlds import book_losses
from nnfast.compat import nnfs
from nnfast.errors import StateError

__all__ = ["TARGETS", "book_method", "with_backend"]

STRENGTHS = {f"{part}_regularizer_{norm}": number(0) for part in ("weight", "bias") for norm in ("l1", "l2")}
RATES = {"learning_rate": number(0), "decay": number(0)}
SHARE, EPSILON = number(0, 1, high_open=True), number(0)
OPTIMIZERS = {
    "SGD": {"momentum": number(0, 1)},
    "Adagrad": {"epsilon": EPSILON},
    "RMSprop": {"epsilon": EPSILON, "rho": SHARE},
    "Adam": {"epsilon": EPSILON, "beta_1": SHARE, "beta_2": SHARE},
}


def with_backend(call):
    """The book's classes have no backend=: it is chosen around them."""

    def run(world, **given):
        with nn.use_backend(world.backend):
            return call(world, **given)

    return run


def book_method(name, of, /, part=None, also=(), **kinds):
    attribute = name.rpartition(".")[2]

    def call(world, **given):
        owner = world[of] if part is None else world[of][part]
        return getattr(owner, attribute)(**given)

    return Target(f"compat.{name}", with_backend(call), kinds, (of,), also=also)


def _fixed(kind, **sizes):
    return kind._replace(right=lambda draw: kind.right(draw._replace(dims=draw.dims | FIXED | sizes)))


def _parts():
    yield plain("compat.Layer_Dense", nnfs.Layer_Dense, n_inputs=whole(1), n_neurons=whole(1), **STRENGTHS)
    yield plain("compat.Layer_Dropout", nnfs.Layer_Dropout, rate=SHARE)
    yield _setting(
        "compat.Layer_Dropout.rate", lambda world: world["book dropout"], number(0, 1, low_open=True), "book dropout"
    )
    rows, free = _fixed(real("N", "I", fixed="I", empty=True)), real("N", "I", empty=True)
    yield book_method("Layer_Dense.forward", "book dense", inputs=rows)
    anything = Kind(free.right, dict(NO_NUMBERS))
    yield book_method("Layer_Dropout.forward", "book dropout", inputs=anything)
    yield book_method("Layer_Dense.backward", "book dense", dvalues=_fixed(real("N", "O", fixed="NO"), N=8))
    yield book_method("Layer_Dropout.backward", "book dropout", dvalues=_fixed(real("N", "I", fixed="NI"), N=8))
    dense = {"weights": _fixed(real("I", "O", fixed="IO")), "biases": _row()}
    yield book_method("Layer_Dense.set_parameters", "book dense", **dense)
    for name, of in (("ReLU", "book relu"), ("Softmax", "book softmax"), ("Sigmoid", "book sigmoid")):
        yield book_method(f"Activation_{name}.forward", of, inputs=free)
        yield book_method(f"Activation_{name}.backward", of, dvalues=_fixed(real("N", "I", fixed="NI"), N=8))
    yield book_method("Activation_Linear.forward", "book linear", inputs=anything)
    yield book_method("Activation_Linear.backward", "book linear", dvalues=anything)
    yield book_method("Activation_Softmax.predictions", "book softmax", outputs=anything)
    yield book_method("Activation_Sigmoid.predictions", "book sigmoid", outputs=anything)


def _row():
    """Biases, (1, O)."""
    kind = real("O", fixed="O").but(
        "a dimension more before", "a dimension more after", "O twice", "O one more", "O one less", "O = 0"
    )
    wrong = kind.wrong | {
        "one less": lambda draw, a: a[:, 1:],
        "flat": lambda draw, a: a[0],
        "turned": lambda draw, a: a.T,
    }
    return Kind(lambda draw: draw.numbers((1, FIXED["O"])), wrong)


def _losses():
    unit, any_target = targets("N", "O", low=0, high=1), targets("N", "O")
    classes, output = real("N", "O", fixed="N"), real("N", "O", fixed="NO")
    pairs = {
        "CategoricalCrossentropy": (classes, labels()),
        "BinaryCrossentropy": (output, unit),
        "MeanSquaredError": (output, any_target),
        "MeanAbsoluteError": (output, any_target),
    }
    for name, (made, y) in pairs.items():
        where = {"part": f"Loss_{name}"}
        yield book_method(f"Loss_{name}.forward", "book losses", **where, y_pred=made, y_true=y)
        yield book_method(f"Loss_{name}.backward", "book losses", **where, dvalues=made, y_true=y)
        yield book_method("Loss.calculate", "book losses", **where, output=made, y=y)
    joint = {"part": book_losses()[-1].__name__}
    yield book_method(
        "Activation_Softmax_Loss_CategoricalCrossentropy.forward",
        "book losses",
        **joint,
        inputs=classes,
        y_true=labels(),
    )
    yield book_method(
        "Activation_Softmax_Loss_CategoricalCrossentropy.backward",
        "book losses",
        **joint,
        dvalues=classes,
        y_true=labels(),
    )


def _optimizers():
    for name, settings in OPTIMIZERS.items():
        kind = getattr(nnfs, f"Optimizer_{name}")
        yield plain(f"compat.Optimizer_{name}", kind, **RATES, **settings)
        for setting, values in settings.items():
            yield _setting(f"compat.Optimizer_{name}.{setting}", lambda world, kind=kind: kind(), values)
    for setting, values in RATES.items():
        yield _setting(
            f"compat.Optimizer.{setting}", lambda world: world["book pair"]["optimizer"], values, "book pair"
        )
    pair = {"part": "optimizer", "also": (StateError,)}
    yield book_method("Optimizer.update_params", "book pair", **pair, layer=_updated())


def _setting(name, find, kind, *uses):
    attribute = name.rpartition(".")[2]
    return Target(name, lambda world, value: setattr(find(world), attribute, value), {"value": kind}, uses)


def _updated():
    """A layer of four arrays, one of which is of another shape than the rest, or none that can be changed."""
    arrays = {"weights": ("I", "O"), "biases": None, "dweights": ("I", "O"), "dbiases": None}
    kinds = {
        name: _row() if symbols is None else _fixed(real(*symbols, fixed="IO")) for name, symbols in arrays.items()
    }

    def right(draw):
        return _Layer(**{name: kind.right(draw) for name, kind in kinds.items()})

    faults = {}
    for name, kind in kinds.items():
        frozen = {"read-only": _frozen, "a list": lambda draw, a: a.tolist()} if not name.startswith("d") else {}
        for what, fault in (kind.wrong | frozen).items():
            faults[f"{name}: {what}"] = lambda draw, layer, name=name, fault=fault: layer.but(
                **{name: fault(draw, getattr(layer, name))}
            )
        faults[f"no {name}"] = lambda draw, layer, name=name: layer.without(name)
    return Kind(right, faults)


class _Layer:
    """What an optimizer of the book takes for a layer."""

    def __init__(self, **arrays):
        self.__dict__.update(arrays)

    def but(self, **changes):
        return _Layer(**(self.__dict__ | changes))

    def without(self, name):
        return _Layer(**{each: a for each, a in self.__dict__.items() if each != name})


def _frozen(draw, a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _accuracies():
    both = {"part": "numbers"}
    output, y = real("N", "O", fixed="NO"), real("N", "O", fixed="NO")
    for name in ("compare", "calculate"):
        owner = "Accuracy_Regression" if name == "compare" else "Accuracy"
        yield book_method(f"{owner}.{name}", "book accuracies", **both, predictions=output, y=y)
    numbers = real("N", fixed="N")
    classes = {"part": "classes", "predictions": numbers, "y": _whole_rows()}
    yield book_method("Accuracy_Categorical.compare", "book accuracies", **classes)
    seen = Kind(y.right, dict(NO_NUMBERS))  # y counts where there is no precision yet, or where it is made anew
    yield book_method("Accuracy_Regression.init", "book accuracies", **both, y=seen, reinit=Kind(always(True), {}))
    yield book_method("Accuracy_Regression.init", "book accuracies", **both, y=Kind(y.right, {}), reinit=FLAG)
    yield plain("compat.Accuracy_Categorical", nnfs.Accuracy_Categorical, binary=FLAG)


def _whole_rows():
    kind = real("N", fixed="N")
    return kind.but("a dimension more after", "a dimension more before")


def _functions():
    init = {"default_dtype": DTYPE, "random_seed": whole(0, 2**32 - 1).may_be_left_out()}
    yield Target("compat.init", _init, init)
    for name in ("spiral_data", "vertical_data"):
        yield plain(f"compat.{name}", getattr(nnfs, name), samples=whole(1), classes=whole(1, 256))
    yield plain("compat.sine_data", nnfs.sine_data, samples=whole(1))


def _init(world, default_dtype, random_seed=0):
    """What is right is put back by hand: float32, as it was."""
    before = np.random.get_state()
    nnfs.init(default_dtype=default_dtype, random_seed=random_seed)
    nnfs.init(random_seed=None)
    np.random.set_state(before)


TARGETS = [*_parts(), *_losses(), *_optimizers(), *_accuracies(), *_functions()]
