"""`Model.fit`, and batches in the place of arrays, for which `evaluate` is as it is for `fit`."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import labels, real, targets, weights
from batteries._bad_settings import FLAG, MISSING, TARGET, callable_like, number, objects, whole
from batteries._kinds import Kind, always, changed, one_of
from batteries._targets import FIXED, method

__all__ = [
    "BATCH",
    "BEYOND",
    "HOOK",
    "INPUTS",
    "OUTPUTS",
    "RESUME",
    "ROWS",
    "TARGETS",
    "VALIDATION",
    "VERBOSE",
    "WEIGHTS",
    "Y",
]

INPUTS, OUTPUTS = FIXED["I"], FIXED["O"]
BEYOND = {"a_number_beyond_float32": lambda draw, a: changed(a.astype(np.float64), draw.place(a), 1e300)}
ROWS = real("N", "I", fixed="NI").but(**BEYOND)
BATCH = whole(1).may_be_left_out()
HOOK = callable_like(always(None), none=False)
WEIGHTS = {"sample_weight": weights()}
Y = {
    "classifier": labels(),
    "regressor": targets("N", "O").but(**BEYOND),
    "bits": targets("N", "O", low=0, high=1),
    "counts": targets("N", "O", low=0),
    "own": targets("N", "O"),
}


def _fitted():
    settings = {
        "epochs": whole(0, right=1),
        "batch_size": BATCH,
        "shuffle": FLAG,
        "verbose": VERBOSE,
        "validation_every": whole(1),
        "callbacks": objects(always(()), a_function=always(len), **_bad_callbacks()).but("a list"),
        "accumulate": whole(1, right=2),
        "on_gradients": HOOK,
        "resume": RESUME,
        "steps_per_epoch": Kind(always(None), {"with arrays": one_of(1, 3, 0, "a")}, optional=True),
    }
    for of, y in Y.items():
        yield method("Model.fit", of, X=ROWS, y=y, **WEIGHTS, epochs=_only(1), verbose=_only(0))
    common = {"X": ROWS, "y": labels(), "verbose": _only(0)}
    yield method("Model.fit", "classifier", **(common | settings))
    no_ranks = {"comm": objects(always(None), none=False), "sharded": FLAG._replace(right=always(False))}
    yield method("Model.fit", "classifier", **common, **no_ranks)
    yield method("Model.fit", "classifier", **common, class_weight=_class_weight())
    yield method("Model.fit", "classifier", **common, validation_data=VALIDATION, validation_split=_zero(0.2))
    share = number(0, 1, high_open=True, right=0.4).but(too_small=one_of(1e-6, 0.01), too_large=one_of(0.999, 0.99))
    yield method("Model.fit", "classifier", **common, validation_split=share)
    yield method(
        "Model.fit", "fresh", X=ROWS, y=labels(), epochs=settings["epochs"], verbose=_only(0), resume=settings["resume"]
    )
    whole_set = {"batch_size": _unwanted(2), "accumulate": _one(2), "on_gradients": _unwanted(len)}
    yield method("Model.fit", "search", X=ROWS, y=labels(), verbose=_only(0), **whole_set)


def _only(value):
    return Kind(always(value), {})


def _unwanted(*values):
    return Kind(always(None), {f"{value!r} where it must not be": always(value) for value in values}, optional=True)


def _one(other):
    return Kind(always(1), {f"{other} where it must be 1": always(other)})


def _verbose():
    faults = {"another number": one_of(3, -1, 0.5, float("nan")), "text": one_of("1", ""), "None": always(None)}
    faults |= {"an array": lambda draw, x: np.array([0, 1]), "a list": lambda draw, x: [1], "a class": always(int)}
    return Kind(always(0), faults)


def _bad_callbacks():
    return {
        "a_number_in_it": always([3]),
        "a_name_in_it": always(["loss"]),
        "None_in_it": always([None]),
        "a_class_in_it": always([nn.EarlyStopping]),
        "one_alone": lambda draw, x: nn.TerminateOnNaN(),
        "one_that_is_never_due": lambda draw, x: [_with(nn.TerminateOnNaN(), every=0)],
        "one_due_at_half_epochs": lambda draw, x: [_with(nn.TerminateOnNaN(), every=0.5)],
        "one_due_at_no_step": lambda draw, x: [_with(nn.TerminateOnNaN(), every_steps=0)],
    }


def _with(callback, **settings):
    for name, value in settings.items():
        setattr(callback, name, value)
    return callback


def _no_checkpoint():
    """What is no file to go on from. A file that is not there is right: then the training begins anew."""
    faults = {what: fault for what, fault in TARGET.wrong.items() if what != "None"}
    faults |= {what: fault for what, fault in MISSING.items() if what != "a file that is not there"}
    return faults | {"another model's file": lambda draw, x: draw.folder / "model.nnfast"}


def _class_weight():
    one = number(0).wrong
    faults = {
        "another word": one_of("balance", "", "Balanced"),
        "a number": one_of(3, 0.5),
        "a set": always({0, 1}),
        "an object": lambda draw, x: object(),
        "a function": always(len),
        "one weight too few": always([1.0] * (OUTPUTS - 1)),
        "one weight too many": lambda draw, x: np.ones(OUTPUTS + 1),
        "two dimensions": lambda draw, x: np.ones((OUTPUTS, 2)),
        "a class too large": always({OUTPUTS: 1.0}),
        "a negative class": always({-1: 1.0}),
        "a class as text": always({"0": 1.0}),
        "a class as float": always({0.5: 1.0}),
        "a truth value as class": always({True: 1.0}),
        "all zero": always([0.0] * OUTPUTS),
        "a 0-d array": lambda draw, x: np.array(1.0),
    }
    for what, fault in one.items():
        faults[f"a weight: {what}"] = lambda draw, x, fault=fault: {int(draw.rng.integers(OUTPUTS)): fault(draw, 1.0)}
    return Kind(one_of(None, "balanced", {0: 2.0}, [1.0, 2.0, 0.5, 1.0]), faults)


def _validation():
    """(X, y) or (X, y, weights): each part may be wrong."""
    y, w = labels(), weights()

    def right(draw):
        return ROWS.right(draw), y.right(draw)

    faults = {"a number": one_of(3, 0.5), "text": always("text"), "an object": lambda draw, x: object()}
    faults |= {
        "X alone": lambda draw, x: x[0],
        "a tuple of X alone": lambda draw, x: x[:1],
        "four parts": lambda draw, x: x + x,
    }
    faults |= {"none": always(()), "a dictionary": lambda draw, x: {"X": x[0], "y": x[1]}}
    for what, fault in ROWS.wrong.items():
        faults[f"X: {what}"] = lambda draw, x, fault=fault: (fault(draw, x[0]), x[1])
    for what, fault in y.wrong.items():
        faults[f"y: {what}"] = lambda draw, x, fault=fault: (x[0], fault(draw, x[1]))
    for what, fault in w.wrong.items():
        faults[f"weights: {what}"] = lambda draw, x, fault=fault: (*x, fault(draw, w.right(draw)))
    return Kind(right, faults)


def _in_batches():
    """A list of batches in the place of X. They are checked one by one, so it is the first that is wrong."""
    y = labels()

    def right(draw):
        return [(ROWS.right(draw), y.right(draw)) for _ in range(2)]

    faults = {"no batches": always([]), "numbers": always([1, 2]), "a number": always(3), "text": always("text")}
    faults |= {
        "X alone": lambda draw, b: [(b[0][0],)],
        "four parts": lambda draw, b: [b[0] + b[0]],
        "None": always(None),
    }
    faults |= {"a function of nothing": always(lambda: None), "a dictionary": always({"X": 1})}
    for what, fault in ROWS.wrong.items():
        faults[f"X: {what}"] = lambda draw, b, fault=fault: [(fault(draw, b[0][0]), b[0][1]), *b[1:]]
    for what, fault in y.wrong.items():
        faults[f"y: {what}"] = lambda draw, b, fault=fault: [(b[0][0], fault(draw, b[0][1])), *b[1:]]
    steps = whole(1, right=2).but("None")
    unwanted = {"batch_size": _unwanted(3), "sample_weight": _unwanted(1.0), "validation_split": _zero(0.5)}
    unwanted["class_weight"] = _unwanted("balanced", 3)
    given = {"X": Kind(right, faults), "epochs": _only(2), "verbose": _only(0), "steps_per_epoch": steps}
    fit = method("Model.fit", "classifier", **given, **unwanted)
    yield fit._replace(ignores=(".history",))  # it begins anew before the first batch is seen
    alone = given | {"X": Kind(right, {"an iterator for two epochs": lambda draw, b: iter(b)})}
    del alone["steps_per_epoch"]  # with it, an iterator serves as many epochs as it has batches for
    yield method("Model.fit", "classifier", **alone)
    without = {"batch_size": unwanted["batch_size"], "sample_weight": unwanted["sample_weight"]}
    yield method("Model.evaluate", "classifier", X=given["X"], **without)


def _zero(other):
    return Kind(always(0.0), {f"{other} where it must not be": always(other)})


RESUME = TARGET._replace(right=always(None), wrong=_no_checkpoint(), optional=True)
VALIDATION = _validation()
VERBOSE = _verbose()
TARGETS = [target._replace(models=True) for target in (*_fitted(), *_in_batches())]
