"""`nn.Population`: how it is made, trained, asked, changed and read from a file."""

from __future__ import annotations

import numpy as np

import nnfast as nn
from batteries._bad_arrays import labels, real
from batteries._bad_settings import (
    BACKEND,
    FLAG,
    MISSING,
    RNG,
    TARGET,
    callable_like,
    number,
    objects,
    whole,
    word,
)
from batteries._call_files import CUSTOM
from batteries._call_fit import BATCH, BEYOND, RESUME, ROWS, VALIDATION, VERBOSE, WEIGHTS
from batteries._call_model import writable
from batteries._kinds import Kind, always, one_of
from batteries._targets import Target, method
from batteries._worlds import MEMBERS, population_pattern

__all__ = ["TARGETS"]

NAME = word("loss", "accuracy").but("None", "a class")._replace(optional=True)
MODELS = {
    "text": one_of("1", "", b"01"),
    "a dictionary": always({0: 1}),
    "a set": always({0, 1}),
    "a float in it": always([0, 1.0]),
    "a truth value in it": always([True]),
    "None in it": always([None]),
    "none": one_of([], ()),
    "two dimensions": lambda draw, x: np.zeros((2, 2), np.int64),
    "a 0-d array": lambda draw, x: np.array(1),
    "a class": always(dict),
    "an object": lambda draw, x: object(),
    "one that is not there": one_of([MEMBERS], [0, -MEMBERS - 1], [10**30]),
}


def _made():
    build = callable_like(always(population_pattern), a_model=lambda draw, x: population_pattern()).but("None")
    build = build.but(of_nothing=always(lambda: None), of_a_layer=always(nn.ReLU))
    kinds = {"build": build, "n": whole(1, right=MEMBERS), "vary": _vary(), "backend": BACKEND, "rng": RNG}
    return Target("Population", lambda world, **given: nn.Population(**given), kinds)


def _columns():
    """n values of a setting."""
    faults = {
        "None": always(None),
        "a number": one_of(0.1, 3),
        "text": one_of("abc", b"abc"),
        "a dictionary": always({0: 0.1, 1: 0.2, 2: 0.3}),
        "a set": always({0.1, 0.2, 0.3}),
        "one less": lambda draw, v: v[1:],
        "one more": lambda draw, v: [*v, v[0]],
        "none": always([]),
        "two dimensions": lambda draw, v: np.ones((MEMBERS, 1)),
        "a 0-d array": lambda draw, v: np.array(0.1),
        "a generator": lambda draw, v: (x for x in v),
    }
    for what, fault in number(0).but("a class", "a list", "a tuple").wrong.items():
        faults[f"one of them: {what}"] = lambda draw, v, fault=fault: [*v[:-1], fault(draw, v[-1])]
    return Kind(always([0.01, 0.02, 0.03]), faults)


def _vary():
    column = _columns()
    faults = {what: fault for what, fault in objects(always(None), none=False).wrong.items() if what != "a dictionary"}
    faults |= {
        "a setting that there is not": always({"learning_rates": [0.1] * MEMBERS}),
        "a number for a name": always({3: [0.1] * MEMBERS}),
        "seeds that are none": always({"rng": [0, 1.5, 2]}),
        "a seed below 0": always({"rng": [0, -1, 2]}),
        "a rate of 1": always({"dropout": [0.1, 1.0, 0.2]}),
    }
    for what, fault in column.wrong.items():
        faults[f"rates: {what}"] = lambda draw, v, fault=fault: {"learning_rate": fault(draw, [0.01, 0.02, 0.03])}
    return Kind(always({"learning_rate": [0.01, 0.02, 0.03]}), faults, optional=True)


def _asked():
    data = {"X": ROWS, "y": labels(), **WEIGHTS}
    settings = {"shuffle": FLAG, "batch_size": BATCH, "validation_every": whole(1), "callbacks": _callbacks()}
    settings |= {"epochs": whole(0, right=1), "verbose": VERBOSE, "resume": RESUME}
    yield method("Population.fit", "population", **data, **settings)
    silent = Kind(always(0), {})
    yield method("Population.fit", "population", **data, verbose=silent, validation_data=VALIDATION)
    yield method("Population.evaluate", "population", **data, batch_size=BATCH)
    one_set = real("N", "I", fixed="I").but(**BEYOND)
    yield method(
        "Population.predict", "population", X=one_set, batch_size=BATCH, how=word("all", "mean", "vote", "best")
    )
    yield method("Population.scores", "population", name=NAME)
    mode = word("auto", "min", "max")
    yield method("Population.ranking", "population", name=NAME, mode=mode)
    yield method("Population.best", "population", name=NAME, mode=mode)
    chosen = Kind(always([0, -1]), MODELS)
    both = (IndexError,)
    yield method("Population.ensemble", "population", how=word("mean", "vote"), models=chosen)._replace(also=both)
    subset = chosen.but(None_itself=always(None), a_number=always(2))
    yield method("Population.subset", "population", models=subset)._replace(also=both)


def _callbacks():
    faults = {
        "a number in it": always([3]),
        "a name in it": always(["loss"]),
        "None in it": always([None]),
        "a class in it": always([nn.EarlyStopping]),
        "one alone": lambda draw, x: nn.EarlyStopping(),
        "two that stop": lambda draw, x: [nn.EarlyStopping(), nn.EarlyStopping()],
        "one of single models": lambda draw, x: [nn.TerminateOnNaN()],
        "one that watches nothing": lambda draw, x: [nn.EarlyStopping("val_loss")],
        "one that keeps the best": lambda draw, x: [nn.ModelCheckpoint(draw.folder / "a.nnfast", keep_best=True)],
    }
    return objects(always(()), **faults).but("a list")


def _changed():
    name = word("learning_rate", "dropout").but("a class", a_class=always(str), seeds=always("rng"))
    yield method("Population.set", "population", name=name, values=_columns())
    yield method("Population.save", "population", path=writable())
    models = {"a_model's_file": lambda draw, x: draw.folder / "model.nnfast"}
    path = Kind(lambda draw: draw.folder / "population.nnfast", TARGET.wrong | MISSING).but(**models)
    given = {"path": path, "backend": BACKEND, "custom": CUSTOM}
    yield Target("Population.load", lambda world, **given: nn.Population.load(**given), given)


TARGETS = [target._replace(models=True) for target in (_made(), *_asked(), *_changed())]
