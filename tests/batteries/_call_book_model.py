"""The book's `Model`: put together, trained, asked and kept in files."""

from __future__ import annotations

import numpy as np

from batteries._bad_arrays import labels, real
from batteries._bad_settings import MISSING, TARGET, objects, whole
from batteries._call_compat import book_method, with_backend
from batteries._call_model import SHAPES, writable
from batteries._kinds import Kind, always
from batteries._targets import Target
from nnfast.compat import nnfs
from nnfast.errors import StateError

__all__ = ["TARGETS"]


def _models():
    data = {"X": real("N", "I", fixed="NI"), "y": labels()}
    rest = {"epochs": whole(0, right=1), "batch_size": whole(1).may_be_left_out(), "print_every": whole(1)}
    yield book_method("Model.train", "book", **data, **rest, validation_data=_validation())
    yield book_method("Model.evaluate", "book", X_val=data["X"], y_val=labels(), batch_size=rest["batch_size"])
    alone = real("N", "I", fixed="I")
    yield book_method("Model.predict", "book", X=alone, batch_size=rest["batch_size"])
    yield book_method(
        "Model.add",
        "book",
        layer=objects(lambda draw: nnfs.Activation_ReLU(), a_class_of_layers=always(nnfs.Layer_Dense)),
    )
    yield book_method("Model.set", "book", **{n: _part(k) for n, k in _settable().items()})
    yield book_method("Model.set_parameters", "book", parameters=_parameters())
    yield book_method("Model.save", "book", path=writable())
    yield book_method("Model.save_parameters", "book", path=writable())
    yield book_method("Model.load_parameters", "book", path=Kind(_fitting, TARGET.wrong | MISSING))
    yield Target(
        "compat.Model.load", with_backend(lambda world, path: path and nnfs.Model.load(path)), {"path": _book_file()}
    )
    yield Target(
        "compat.Model.train", with_backend(_unready), {"state": _only_unready()}, ("book dense",), also=(StateError,)
    )


def _settable():
    return {"loss": nnfs.Loss_MeanSquaredError, "optimizer": nnfs.Optimizer_SGD, "accuracy": nnfs.Accuracy_Regression}


def _part(kind):
    return objects(lambda draw: kind(), none=False, a_class_of_parts=always(kind))


def _validation():
    y = labels()
    faults = {
        "a number": always(3),
        "X alone": lambda draw, x: x[:1],
        "three parts": lambda draw, x: (*x, x[0]),
        "text": always("text"),
    }
    for what, fault in y.wrong.items():
        faults[f"y: {what}"] = lambda draw, x, fault=fault: (x[0], fault(draw, x[1]))
    for what, fault in real("N", "I", fixed="NI").wrong.items():
        faults[f"X: {what}"] = lambda draw, x, fault=fault: (fault(draw, x[0]), x[1])
    return Kind(lambda draw: (draw.numbers(draw.shape("NI")), y.right(draw)), faults)


def _book_shapes():
    return [shape if len(shape) == 2 else (1, *shape) for shape in SHAPES]


def _parameters():
    def right(draw):
        arrays = [draw.numbers(shape) for shape in _book_shapes()]
        return [tuple(arrays[:2]), tuple(arrays[2:])]

    faults = {"none": always([]), "one pair": lambda draw, p: p[:1], "three pairs": lambda draw, p: [*p, p[0]]}
    faults |= {"in another order": lambda draw, p: p[::-1], "a number": always(3), "None": always(None)}
    faults |= {"numbers": always([1, 2]), "no pairs": lambda draw, p: [p[0][:1], p[1]], "text": always("text")}
    for what, fault in real("I", "O", fixed="IO").wrong.items():
        faults[f"weights: {what}"] = lambda draw, p, fault=fault: [(fault(draw, p[0][0]), p[0][1]), p[1]]
    return Kind(right, faults)


def _fitting(draw):
    path = draw.folder / "book.npz"
    if not path.exists():
        names = ("0.weights", "0.biases", "2.weights", "2.biases")
        np.savez(path, **{n: np.ones(s, np.float32) for n, s in zip(names, SHAPES, strict=True)})
    return path


def _book_file():
    """None stands for what is right: a file of the book's model takes the world's to write."""
    faults = {
        what: fault
        for what, fault in (TARGET.wrong | MISSING).items()
        if what not in ("None", "empty", "a number", "a truth value")
    }
    return Kind(always(None), faults | {"a model that is not the book's": lambda draw, x: draw.folder / "model.nnfast"})


def _unready(world, state):
    model = nnfs.Model()
    if state is not None:
        model.add(world["book dense"])
        model.train(np.ones((3, 3)), np.zeros(3, int))


def _only_unready():
    return Kind(always(None), {"before finalize": always("not finalized")})


TARGETS = [target._replace(models=True) for target in _models()]
