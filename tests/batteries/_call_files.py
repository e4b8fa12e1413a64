"""`nnfast.load` and the functions of `nnfast.checkpoint`."""

from __future__ import annotations

import numpy as np

from batteries._bad_settings import BACKEND, DTYPE, MISSING, TARGET, callable_like, objects
from batteries._call_model import readable, weights_file, writable
from batteries._kinds import Kind, always
from batteries._targets import Target
from nnfast import checkpoint

__all__ = ["CUSTOM", "TARGETS"]


def _with_model(name):
    """A function of a model and something else; the world's model is what None stands for."""

    def call(world, model, **given):
        return getattr(checkpoint, name)(
            world["classifier"] if isinstance(model, str) and model == "the model" else model, **given
        )

    return call


MODEL = objects(always("the model")).but("text", text=always("text"))


CUSTOM = objects(always(None), none=False, a_number_in_it=always([3]), a_name_in_it=always({"A": 3}))
CUSTOM = CUSTOM.but("a list", "an array", a_key_that_is_none=always({3: len}))


def _targets():
    whole = Kind(lambda draw: draw.folder / "model.nnfast", TARGET.wrong | MISSING)
    yield Target("load", _load, {"path": whole, "backend": BACKEND, "dtype": DTYPE, "custom": CUSTOM})
    yield Target("checkpoint.read_run", lambda world, path: checkpoint.read_run(path), {"path": whole})
    yield Target("checkpoint.inspect", lambda world, path: checkpoint.inspect(path), {"path": whole})
    yield Target("checkpoint.examine", lambda world, path: checkpoint.examine(path), {"path": whole})
    save = {"model": MODEL, "path": writable(), "run": _run()}
    yield Target("checkpoint.save", _with_model("save"), save, ("classifier",))
    ending = {"another_ending": lambda draw, x: draw.folder / "weights.txt"}
    path = writable()._replace(right=weights_file).but(**ending)
    yield Target(
        "checkpoint.save_weights", _with_model("save_weights"), {"model": MODEL, "path": path}, ("classifier",)
    )
    yield Target(
        "checkpoint.load_weights", _with_model("load_weights"), {"model": MODEL, "path": readable()}, ("classifier",)
    )
    check = callable_like(always(None), none=False)
    other = {"another_model's_file": lambda draw, x: draw.folder / "model.nnfast"}
    restored = {"model": MODEL, "path": Kind(_own_file, whole.wrong).but(**other), "check": check}
    yield Target("checkpoint.restore", _restore, restored, ("classifier", "own file"))


def _load(world, **given):
    return checkpoint.load(**given)


def _own_file(draw):
    return "the model's own"


def _restore(world, model, path, check):
    model = world["classifier"] if isinstance(model, str) and model == "the model" else model
    if isinstance(path, str) and path == "the model's own":
        path = world["own file"]
    return checkpoint.restore(model, path, check=check)


def _run():
    """What a file keeps beside the model."""
    faults = {
        "an object": lambda draw, x: object(),
        "a set": always({1, 2}),
        "a function": always(len),
        "complex": always(1j),
        "bytes": always(b"bytes"),
        "objects": lambda draw, x: np.array([object()]),
        "dates": lambda draw, x: np.zeros(3, "datetime64[s]"),
        "a key that is no text": always({3: 1}),
        "a number of 5,000 digits": always(10**5000),
        "something in a list": lambda draw, x: [1, {"a": object()}],
    }
    return Kind(always({"a": [1, 2.5, None]}), faults)


TARGETS = [*_targets()]
