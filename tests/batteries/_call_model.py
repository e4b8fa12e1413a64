"""`Model`: how it is made, asked and changed; predictors and histories."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import in_place, real
from batteries._bad_settings import BACKEND, DTYPE, FLAG, MISSING, RNG, TARGET, objects, whole, word
from batteries._call_fit import BATCH, BEYOND, HOOK, INPUTS, OUTPUTS, ROWS, WEIGHTS, Y
from batteries._kinds import Kind, always
from batteries._targets import Target, method, setter

__all__ = ["SHAPES", "TARGETS", "readable", "weights_file", "writable"]

SHAPES = [(INPUTS, 5), (5,), (5, OUTPUTS), (OUTPUTS,)]  # of the classifier's parameters


def _made():
    """The constructor. Parts that were refused must be as free as before: they are among the arguments."""
    layers = Kind(lambda draw: [nn.Dense(INPUTS, 5, rng=0), nn.ReLU(), nn.Dense(5, OUTPUTS)], _bad_layers())
    loss = objects(
        lambda draw: nn.SoftmaxCrossEntropy(), none=False, a_loss_class=always(nn.Poisson), an_optimizer=_adam
    )
    optimizer = objects(
        _adam, none=False, an_optimizer_class=always(nn.Adam), of_a_model=lambda draw, x: _owned().optimizer
    )
    metrics = objects(always(["accuracy"]), **_bad_metrics()).but("a module")
    kinds = {"layers": layers, "loss": loss, "optimizer": optimizer, "metrics": metrics}
    kinds |= {"backend": BACKEND, "dtype": DTYPE, "rng": RNG}
    return Target("Model", lambda world, **given: nn.Model(**given), kinds)


def _adam(*_):
    return nn.Adam(0.01)


def _owned():
    return nn.Model([nn.Dense(2, 2)], nn.MeanSquaredError(), nn.Adam(), backend="numpy", rng=0)


def _bad_layers():
    faults = {
        "no list": lambda draw, x: x[0],
        "none": always([]),
        "no width": lambda draw, x: [nn.ReLU()],
        "widths that do not fit": lambda draw, x: [*x, nn.Dense(OUTPUTS + 1, OUTPUTS)],
        "one twice": lambda draw, x: [*x[:2], x[1], x[2]],
        "layers of a model": lambda draw, x: list(_owned().layers),
        "a class in it": lambda draw, x: [x[0], nn.ReLU],
        "a name in it": lambda draw, x: [x[0], "relu"],
        "None in it": lambda draw, x: [x[0], None],
        "a loss in it": lambda draw, x: [x[0], nn.Poisson()],
        "softmax before a loss on logits": lambda draw, x: [*x, nn.Softmax()],
        "a class": always(nn.Dense),
        "a dictionary of them": lambda draw, x: {"a": x[0]},
    }
    return faults | objects(always(None)).but("a class", "a dictionary").wrong


def _bad_metrics():
    return {
        "a_name": always("accuracy"),
        "a_misspelt_name": always(["acuracy"]),
        "a_number_in_it": always([3]),
        "None_in_it": always([None]),
        "one_twice": always(["accuracy", "accuracy"]),
        "one_that_needs_a_number": always(["top_k"]),
        "one_for_yes_or_no_with_classes": always([nn.metrics.top_k(OUTPUTS + 1)]),
        "a_function": always([len]),
        "a_metric_alone": always(nn.metrics.r2),
    }


def _asked():
    for of, y in Y.items():
        kinds = {"X": ROWS, "y": y, **WEIGHTS}
        yield method("Model.evaluate", of, **kinds, batch_size=BATCH)
        yield method("Model.train_on_batch", of, **kinds, on_gradients=HOOK)
        yield method("Model.loss_and_gradient", of, **kinds, training=FLAG)
        yield method("Model.predict", of, X=real("N", "I", fixed="I").but(**BEYOND), batch_size=BATCH)
    yield method("Model.predictor", "classifier", batch=whole(1))
    out = in_place("B", "O").but(
        "None",
        "elements that share memory",
        double=lambda draw, a: a.astype(np.float64),
        columns=lambda draw, a: np.repeat(a, 2, 1)[:, ::2],
        fortran=lambda draw, a: np.asfortranarray(a),
        one_row=lambda draw, a: a[:1].copy(),
        one_more=lambda draw, a: np.r_[a, a[:1]],
        flat=lambda draw, a: a.reshape(-1),
    )
    x = real("B", "I", fixed="BI").but(**BEYOND)
    yield Target("Predictor.__call__", _predict_now, {"x": x, "out": out}, ("classifier", "predictor"))


def _predict_now(world, x, out):
    return world["predictor"](x, out=out)


def _changed():
    def flat(draw):
        return draw.numbers((_size(draw),))

    kind = real("N", fixed="N")._replace(right=flat)
    yield setter("Model.parameters", "classifier", kind.but(**BEYOND))
    yield method("Model.set_weights", "classifier", weights=_weights())
    optimizer = objects(_adam, an_optimizer_class=always(nn.Adam), of_another=lambda draw, x: _owned().optimizer)
    yield setter("Model.optimizer", "classifier", optimizer)
    yield method("Model.to", "classifier", backend=BACKEND, dtype=DTYPE)
    yield method("Model.save", "classifier", path=writable())
    ending = {"another_ending": lambda draw, x: draw.folder / "weights.txt"}
    yield method("Model.save_weights", "classifier", path=writable()._replace(right=weights_file).but(**ending))
    yield method("Model.load_weights", "classifier", path=readable())


def _size(draw):
    """Elements of the flat parameters: each array begins at a multiple of 64."""
    return sum(-(-int(np.prod(shape)) // 64) * 64 for shape in SHAPES)


def _weights():
    def right(draw):
        return [draw.numbers(shape) for shape in SHAPES]

    faults = {"one less": lambda draw, w: w[1:], "one more": lambda draw, w: [*w, w[0]], "none": always([])}
    faults |= {
        "None": always(None),
        "a number": always(3),
        "text": always("text"),
        "in another order": lambda draw, w: w[::-1],
    }
    faults["a flat array"] = lambda draw, w: np.concatenate([a.ravel() for a in w])
    for what, fault in real("I", "O", fixed="IO").but(**BEYOND).wrong.items():
        faults[f"the first: {what}"] = lambda draw, w, fault=fault: [fault(draw, w[0]), *w[1:]]
        faults[f"the third: {what}"] = lambda draw, w, fault=fault: [*w[:2], fault(draw, w[2]), w[3]]
    return Kind(right, faults)


def writable():
    nowhere = {"a_folder": lambda draw, x: draw.folder, "no_such_folder": lambda draw, x: draw.folder / "no" / "a.npz"}
    return TARGET.but(**nowhere)


def weights_file(draw):
    return draw.folder / "weights.npz"


def readable():
    """A file of weights that fits; the world's folder has one of another model."""

    def right(draw):
        path = draw.folder / "fits.npz"
        if not path.exists():
            names = ("0.weights", "0.biases", "3.weights", "3.biases")
            np.savez(path, **{n: np.ones(s, np.float32) for n, s in zip(names, SHAPES, strict=True)})
        return path

    wrong = TARGET.wrong | MISSING | {"another model's file": lambda draw, x: draw.folder / "model.nnfast"}
    return Kind(right, wrong)


def _histories():
    name = word("loss", "accuracy").but("a class")
    yield method("History.best", "history", name=name, mode=word("auto", "min", "max"))
    yield method("History.epochs_of", "history", name=name)
    yield method("History.to_csv", "history", path=writable())


TARGETS = [target._replace(models=True) for target in (_made(), *_asked(), *_changed(), *_histories())]
